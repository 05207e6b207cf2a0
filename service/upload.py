"""The body of a request: read within limits of bytes and time, then searched for its one picture."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from service.errors import (
    BodyTooLargeError,
    ClientLeftError,
    NoImageError,
    SlowBodyError,
    TooManyUploadsError,
    UnsupportedMediaTypeError,
)
from service.passage import Stage, record_in

FIELD = "file"
FRAMING_BYTES = 65_536
MAX_PARTS = 100
HOW = f'send one picture, as the field "{FIELD}" of multipart/form-data or as the bare body with the type image/*'


class Uploads:
    """Reads bodies; all that are held at one time stay under `max_total_bytes`."""

    def __init__(
        self, *, max_bytes: int, max_total_bytes: int, timeout_s: float, on_cancel: Callable[[str], None]
    ) -> None:
        self._max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes
        self._timeout_s = timeout_s
        self._on_cancel = on_cancel
        self._held = 0

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytearray]:
        """The bytes count as held until the context is left."""
        limit = self._max_bytes + (FRAMING_BYTES if media_type(request) == "multipart/form-data" else 0)
        declared = int(request.headers.get("content-length", 0))
        if declared > limit:
            raise BodyTooLargeError(f"this body has {declared} bytes; a picture may have {self._max_bytes}")
        self._refuse_if_full(declared)
        body = bytearray()
        record, began = record_in(request.scope), time.monotonic()
        try:
            await self._read(request, body, limit)
            record.read = Stage("read", began, time.monotonic())
            record.request_bytes = len(body)
            yield body
        finally:
            self._held -= len(body)

    async def _read(self, request: Request, body: bytearray, limit: int) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                more = True
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        self._on_cancel("upload")
                        raise ClientLeftError
                    chunk = message.get("body", b"")
                    body += chunk
                    self._held += len(chunk)
                    more = message.get("more_body", False)
                    if len(body) > limit:
                        raise BodyTooLargeError(f"this body is too long; a picture may have {self._max_bytes} bytes")
                    self._refuse_if_full(0)
        except TimeoutError:
            raise SlowBodyError(f"the body did not end within {self._timeout_s:.3g} s") from None

    def _refuse_if_full(self, coming: int) -> None:
        if self._held + coming > self._max_total_bytes:
            raise TooManyUploadsError("too many bytes are being uploaded at once; come back in 1 s")


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def check_media_type(request: Request) -> None:
    """Refuses, before the body is read, a type that can hold no picture."""
    kind = media_type(request)
    if kind in ("multipart/form-data", "application/octet-stream") or kind.startswith("image/"):
        return
    if not kind and request.headers.get("content-length", "0") == "0":
        raise NoImageError(f"the request has no body; {HOW}")
    raise UnsupportedMediaTypeError(f"{kind or 'a body without a type'} is not taken here; {HOW}")


def picture_in(body: bytearray, content_type: str) -> bytes:
    """The picture's bytes in a bare or a multipart body."""
    if not body:
        raise NoImageError(f"the body is empty; {HOW}")
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        return bytes(body)
    parts = _parts(bytes(body), options.get(b"boundary", b""))
    pictures = [part for part in parts if part.name == FIELD]
    if len(pictures) != 1:
        names = ", ".join(repr(part.name[:40]) for part in parts[:5]) or "none"
        raise NoImageError(f"the form has {len(pictures)} fields {FIELD!r} (its fields: {names}); {HOW}")
    if not pictures[0].is_file:
        raise NoImageError(f'the field "{FIELD}" is text, not a file; with curl, write -F {FIELD}=@photo.jpg')
    return bytes(pictures[0].content)


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)
    disposition: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.disposition.get(b"name", b"").decode("utf-8", "replace")

    @property
    def is_file(self) -> bool:
        return b"filename" in self.disposition or b"content-type" in self.headers


class _Form:
    """What the parser's callbacks collect."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.ended = False
        self._name, self._value = bytearray(), bytearray()

    def begin_part(self) -> None:
        if len(self.parts) == MAX_PARTS:
            raise NoImageError(f"the form has more than {MAX_PARTS} fields; {HOW}")
        self.parts.append(_Part())

    def add_name(self, data: bytes, start: int, stop: int) -> None:
        self._name += data[start:stop]

    def add_value(self, data: bytes, start: int, stop: int) -> None:
        self._value += data[start:stop]

    def end_header(self) -> None:
        self.parts[-1].headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def end_headers(self) -> None:
        disposition = self.parts[-1].headers.get(b"content-disposition")
        self.parts[-1].disposition = parse_options_header(disposition)[1]

    def add_content(self, data: bytes, start: int, stop: int) -> None:
        self.parts[-1].content += data[start:stop]

    def end(self) -> None:
        self.ended = True


def _parts(body: bytes, boundary: bytes) -> list[_Part]:
    form = _Form()
    try:
        MultipartParser(
            boundary,
            {
                "on_part_begin": form.begin_part,
                "on_header_field": form.add_name,
                "on_header_value": form.add_value,
                "on_header_end": form.end_header,
                "on_headers_finished": form.end_headers,
                "on_part_data": form.add_content,
                "on_end": form.end,
            },
        ).write(body)
    except FormParserError as error:
        raise NoImageError(f"the multipart body cannot be read ({error}); {HOW}") from None
    if not form.ended:
        raise NoImageError(f"the multipart body stops before its closing boundary; {HOW}")
    return form.parts
