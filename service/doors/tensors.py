"""Tensors of the Open Inference Protocol: as JSON, and as bytes behind it, each text after its length."""

import base64
import binascii
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, Field

from service.errors import BadParameterError, BodyTooLargeError

LENGTH = struct.Struct("<I")
IMAGE = "image"
BINARY_SIZE = "binary_data_size"
Datatype: TypeAlias = Literal["BYTES", "FP32"]
Parameters: TypeAlias = dict[str, Any]


class InputTensor(BaseModel):
    name: str
    datatype: str
    shape: list[int] = Field(min_length=1)
    parameters: Parameters = {}
    data: list[str | list[str]] | None = None


class WantedOutput(BaseModel):
    name: str
    parameters: Parameters = {}


class InferRequest(BaseModel):
    id: str | None = None
    parameters: Parameters = {}
    inputs: list[InputTensor]
    outputs: list[WantedOutput] | None = None


def pictures_in(request: InferRequest, binary: bytes, *, max_pictures: int) -> list[bytes]:
    """`binary` is what follows the JSON."""
    if len(request.inputs) != 1 or request.inputs[0].name != IMAGE:
        names = ", ".join(repr(tensor.name[:40]) for tensor in request.inputs[:5]) or "none"
        raise BadParameterError(f'this model takes one input, "{IMAGE}"; the request has {names}')
    tensor = request.inputs[0]
    if tensor.datatype != "BYTES":
        raise BadParameterError(f"the input is of the type {tensor.datatype[:20]!r}; it takes BYTES")
    if len(tensor.shape) > 2 or tensor.shape[1:] not in ([], [1]) or tensor.shape[0] < 1:
        raise BadParameterError(f"the input has the shape {tensor.shape[:5]}; it takes [N] or [N, 1]")
    if tensor.shape[0] > max_pictures:
        raise BodyTooLargeError(f"one request may have {max_pictures} pictures; this one has {tensor.shape[0]}")
    pictures = _from_json(tensor, binary) if tensor.data is not None else _from_bytes(tensor, binary)
    if len(pictures) != tensor.shape[0]:
        raise BadParameterError(f"the input's shape says {tensor.shape[0]} pictures, but its data has another number")
    return pictures


def check_outputs(request: InferRequest, known: Iterable[str]) -> None:
    names = [output.name for output in request.outputs or ()]
    if unknown := next((name for name in names if name not in known), None):
        raise BadParameterError(f"{unknown[:40]!r} is not an output of this model; it has {', '.join(known)}")
    if len(set(names)) < len(names):
        raise BadParameterError("an output is asked for twice")


def _from_json(tensor: InputTensor, binary: bytes) -> list[bytes]:
    if binary:
        raise BadParameterError("bytes follow the JSON, but the input has its data inside it")
    if (encoding := tensor.parameters.get("content_type", "base64")) != "base64":
        raise BadParameterError(f"the input's content_type is {str(encoding)[:40]!r}; in JSON it takes base64")
    assert tensor.data is not None
    texts = [text for row in tensor.data for text in ([row] if isinstance(row, str) else row)]
    try:
        return [base64.b64decode(text, validate=True) for text in texts]
    except (binascii.Error, ValueError) as error:
        raise BadParameterError(f"the input's data is not base64: {error}") from None


def _from_bytes(tensor: InputTensor, binary: bytes) -> list[bytes]:
    size = tensor.parameters.get(BINARY_SIZE)
    if size != len(binary):
        raise BadParameterError(f"the input's binary_data_size is {str(size)[:40]}, but {len(binary)} bytes follow")
    texts: list[bytes] = []
    place = 0
    while place < len(binary) and len(texts) <= tensor.shape[0]:
        if place + LENGTH.size > len(binary):
            raise BadParameterError("the input's bytes end inside a length")
        (length,) = LENGTH.unpack_from(binary, place)
        place += LENGTH.size
        if place + length > len(binary):
            raise BadParameterError(f"a picture has {length} bytes by its length, but {len(binary) - place} follow it")
        texts.append(binary[place : place + length])
        place += length
    return texts


def in_bytes(datatype: Datatype, values: Sequence[str | float]) -> bytes:
    if datatype == "FP32":
        return struct.pack(f"<{len(values)}f", *values)
    texts = [str(value).encode() for value in values]
    return b"".join(LENGTH.pack(len(text)) + text for text in texts)
