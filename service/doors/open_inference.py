"""The Open Inference Protocol, version 2 (KServe, Triton): a model `caption`, whose input is pictures as BYTES.

Pictures come as base64 in JSON, as bytes behind the JSON, or one alone as the whole body.
"""

import json
import math
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from service.disconnect import unless_client_leaves
from service.doors.json_body import checked, json_in
from service.doors.pace import Pace, PaceOf, as_finished
from service.doors.tensors import (
    BINARY_SIZE,
    IMAGE,
    Datatype,
    InferRequest,
    InputTensor,
    WantedOutput,
    check_outputs,
    in_bytes,
    pictures_in,
)
from service.errors import (
    ADMISSION_ERRORS,
    CAPTION_ERRORS,
    BadParameterError,
    Dialect,
    NoModelError,
    Refusal,
    UnavailableError,
    UnsupportedMediaTypeError,
    responses,
)
from service.model_metrics import build_info
from service.model_source import LoadedModel
from service.passage import RequestRecord, record_in
from service.routes import PipelineOf, TimeoutMs, UploadsOf, asked_timeout_s, decode_options
from service.schemas import DecodeQuery
from service.upload import FRAMING_BYTES
from shared.bundle import DecodeOptions
from shared.captioner import Caption
from shared.image import InvalidImageError

MODEL = "caption"
JSON_LENGTH = "Inference-Header-Content-Length"
OUTPUTS: Mapping[str, Datatype] = {"caption": "BYTES", "log_probability": "FP32"}
LENGTH_DIGITS = re.compile(r"[0-9]{1,10}")
RAW = InferRequest(
    inputs=[InputTensor(name=IMAGE, datatype="BYTES", shape=[1])], parameters={"binary_data_output": True}
)
"""What a body that is nothing but a picture asks for."""
MODEL_ERRORS = (*ADMISSION_ERRORS, NoModelError)

router = APIRouter(prefix="/v2", include_in_schema=False)
health = APIRouter(prefix="/v2/health", include_in_schema=False)


def error_body(refusal: Refusal) -> tuple[int, object]:
    return refusal.status, {"error": refusal.message}


DIALECTS: dict[str, Dialect] = {"/v2": error_body}


async def _model(request: Request, pipeline: PipelineOf) -> LoadedModel:
    """The one that the path names."""
    loaded = pipeline.models.current
    name, version = request.path_params["name"], request.path_params.get("version")
    if name != MODEL:
        raise NoModelError(f"Model with name {name[:80]} does not exist.")
    if version not in (None, loaded.captioner.bundle.version):
        raise NoModelError(f"Model with name {name} has no version {version[:80]}.")
    return loaded


ModelOf = Annotated[LoadedModel, Depends(_model)]


@health.get("/live", responses=responses((UnavailableError,)))
async def live(pipeline: PipelineOf) -> dict[str, bool]:
    if reason := pipeline.sick():
        raise UnavailableError(reason)
    return {"live": True, "ready": pipeline.unready() is None}


@health.get("/ready", responses=responses((UnavailableError,)))
async def ready(pipeline: PipelineOf) -> dict[str, bool]:
    if reason := pipeline.unready():
        raise UnavailableError(reason)
    return {"live": True, "ready": True}


@router.get("", responses=responses(ADMISSION_ERRORS))
async def server() -> dict[str, Any]:
    return {
        "name": "image-caption-service",
        "version": build_info()["version"],
        "extensions": ["binary_tensor_data"],
    }


@router.get("/models/{name}", responses=responses(MODEL_ERRORS))
@router.get("/models/{name}/versions/{version}", responses=responses(MODEL_ERRORS))
async def model_metadata(model: ModelOf) -> dict[str, Any]:
    outputs = [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in OUTPUTS.items()]
    return {
        "name": MODEL,
        "versions": [model.captioner.bundle.version],
        "platform": model.captioner.engine_name,
        "inputs": [{"name": IMAGE, "datatype": "BYTES", "shape": [-1]}],
        "outputs": outputs,
    }


@router.get("/models/{name}/ready", responses=responses((*MODEL_ERRORS, UnavailableError)))
@router.get("/models/{name}/versions/{version}/ready", responses=responses((*MODEL_ERRORS, UnavailableError)))
async def model_ready(model: ModelOf, pipeline: PipelineOf) -> dict[str, Any]:
    if reason := pipeline.unready():
        raise UnavailableError(reason)
    return {"name": MODEL, "ready": True}


@router.post("/models/{name}/infer", responses=responses((*CAPTION_ERRORS, NoModelError)))
@router.post("/models/{name}/versions/{version}/infer", responses=responses((*CAPTION_ERRORS, NoModelError)))
async def infer(
    request: Request,
    model: ModelOf,
    pipeline: PipelineOf,
    uploads: UploadsOf,
    pace: PaceOf,
    x_request_timeout_ms: TimeoutMs = None,
) -> Response:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaTypeError("a compressed body is not taken here; pictures are compressed already")
    json_length = _json_length(request)
    limit_s = asked_timeout_s(x_request_timeout_ms)
    max_pictures = request.app.state.many.max_pictures
    with pipeline.place():
        async with uploads.body(request, limit=_at_most(uploads.max_bytes)) as body:

            async def work() -> Response:
                async with pace.deadline(limit_s):
                    asked, pictures = await pipeline.decode_pool.run(lambda: _read(body, json_length, max_pictures))
                    async with pace.deadline(_timeout_s(asked)):
                        found = await _captions(pictures, _options(asked, model), model, pace, record_in(request.scope))
                return _answer(asked, found, model.captioner.bundle.version)

            return await unless_client_leaves(request.receive, work())


def _at_most(picture_bytes: int) -> int:
    """Bytes of a body whose pictures together have that many, as base64."""
    return picture_bytes * 4 // 3 + FRAMING_BYTES


def _json_length(request: Request) -> int | None:
    """None if the whole body is JSON; 0 if it is a picture."""
    told = request.headers.get(JSON_LENGTH)
    if told is not None and not LENGTH_DIGITS.fullmatch(told):
        raise BadParameterError(f"{JSON_LENGTH} is {told[:40]!r}, not a number of bytes")
    return None if told is None else int(told)


def _read(body: bytearray, json_length: int | None, max_pictures: int) -> tuple[InferRequest, list[bytes]]:
    if json_length == 0:
        return RAW, [bytes(body)]
    if json_length is not None and json_length > len(body):
        raise BadParameterError(f"{JSON_LENGTH} is {json_length}, but the body has {len(body)} bytes")
    asked = json_in(body[:json_length], InferRequest)
    binary = b"" if json_length is None else bytes(body[json_length:])
    check_outputs(asked, OUTPUTS)
    return asked, pictures_in(asked, binary, max_pictures=max_pictures)


def _options(asked: InferRequest, model: LoadedModel) -> DecodeOptions:
    """Parameters that are none of ours, and the protocol knows many, are passed over."""
    query = checked(
        {name: asked.parameters[name] for name in DecodeQuery.model_fields if name in asked.parameters}, DecodeQuery
    )
    return decode_options(query, model.captioner.bundle.decode)


def _timeout_s(asked: InferRequest) -> float:
    """Triton's own parameter, in microseconds."""
    timeout = asked.parameters.get("timeout", 0)
    if not isinstance(timeout, int) or timeout < 0:
        raise BadParameterError(f"timeout is {str(timeout)[:40]!r}, not a number of microseconds")
    return timeout / 1e6 or math.inf


async def _captions(
    pictures: Sequence[bytes], options: DecodeOptions, model: LoadedModel, pace: Pace, record: RequestRecord
) -> list[Caption]:
    """In their order; raises the error of the first to fail."""

    async def numbered() -> AsyncIterator[tuple[int, bytes]]:
        for number, data in enumerate(pictures):
            yield number, data

    async def caption(item: tuple[int, bytes]) -> tuple[int, Caption]:
        number, data = item
        try:
            captioned = await pace.caption(data, options, model, record=record if len(pictures) == 1 else None)
        except InvalidImageError as error:
            raise type(error)(f"picture {number}: {error}") from None
        return number, captioned.caption

    found = [each async for each in as_finished(numbered(), caption, at_once=pace.at_once)]
    return [captioned for _, captioned in sorted(found, key=lambda each: each[0])]


def _answer(asked: InferRequest, found: Sequence[Caption], version: str) -> Response:
    values: dict[str, Sequence[str | float]] = {
        "caption": [each.caption for each in found],
        "log_probability": [each.log_probability for each in found],
    }
    outputs, binaries = [], []
    for wanted in asked.outputs or [WantedOutput(name=name) for name in OUTPUTS]:
        datatype = OUTPUTS[wanted.name]
        output = {"name": wanted.name, "datatype": datatype, "shape": asked.inputs[0].shape}
        if wanted.parameters.get("binary_data", asked.parameters.get("binary_data_output", False)):
            binaries.append(in_bytes(datatype, values[wanted.name]))
            outputs.append({**output, "parameters": {BINARY_SIZE: len(binaries[-1])}})
        else:
            outputs.append({**output, "data": values[wanted.name]})
    body = {"model_name": MODEL, "model_version": version, "outputs": outputs}
    head = json.dumps(body if asked.id is None else {**body, "id": asked.id}).encode()
    if not binaries:
        return Response(head, media_type="application/json")
    return Response(
        head + b"".join(binaries), headers={JSON_LENGTH: str(len(head))}, media_type="application/octet-stream"
    )
