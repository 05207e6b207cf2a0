"""The body of a request: read within limits of bytes and time, then searched for its one picture."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.requests import Request

from service.errors import (
    BodyTooLargeError,
    ClientLeftError,
    NoImageError,
    SlowBodyError,
    TooManyUploadsError,
    UnsupportedMediaTypeError,
)
from service.forms import Form, Part, boundary_of
from service.passage import Stage, record_in

FIELD = "file"
FRAMING_BYTES = 65_536
MAX_PARTS = 100
JSON_BYTES = 4_000_000
"""Of a body of addresses."""
HOW = f'send one picture, as the field "{FIELD}" of multipart/form-data or as the bare body with the type image/*'


class Uploads:
    """Reads bodies; all that are held at one time stay under `max_total_bytes`."""

    def __init__(
        self, *, max_bytes: int, max_total_bytes: int, timeout_s: float, on_cancel: Callable[[str], None]
    ) -> None:
        self.max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes
        self.timeout_s = timeout_s
        self._on_cancel = on_cancel
        self._held = 0

    @asynccontextmanager
    async def body(self, request: Request, *, limit: int | None = None) -> AsyncIterator[bytearray]:
        """The bytes count as held until the context is left. `limit`: instead of what a picture may have."""
        if limit is None:
            limit = self.max_bytes + (FRAMING_BYTES if media_type(request) == "multipart/form-data" else 0)
        declared = int(request.headers.get("content-length", 0))
        if declared > limit:
            raise BodyTooLargeError(f"this body has {declared} bytes; {self._at_most(limit)}")
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
            async with asyncio.timeout(self.timeout_s):
                more = True
                while more:
                    chunk, more = await self.next_chunk(request)
                    body += chunk
                    self._held += len(chunk)
                    if len(body) > limit:
                        raise BodyTooLargeError(f"this body is too long; {self._at_most(limit)}")
                    self._refuse_if_full(0)
        except TimeoutError:
            raise SlowBodyError(f"the body did not end within {self.timeout_s:.3g} s") from None

    async def next_chunk(self, request: Request) -> tuple[bytes, bool]:
        """Some of the body, and whether there is more of it."""
        message = await request.receive()
        if message["type"] == "http.disconnect":
            self._on_cancel("upload")
            raise ClientLeftError
        return message.get("body", b""), message.get("more_body", False)

    def hold(self, size: int) -> None:
        """So many bytes count as held until `release`."""
        self._refuse_if_full(size)
        self._held += size

    def release(self, size: int) -> None:
        self._held -= size

    def _at_most(self, limit: int) -> str:
        is_one_picture = limit <= self.max_bytes + FRAMING_BYTES
        return f"a picture may have {self.max_bytes}" if is_one_picture else f"it may have {limit}"

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
    parts = parts_in(body, content_type)
    if parts is None:
        return bytes(body)
    pictures = [part for part in parts if part.name == FIELD]
    if len(pictures) != 1:
        names = ", ".join(repr(part.name[:40]) for part in parts[:5]) or "none"
        raise NoImageError(f"the form has {len(pictures)} fields {FIELD!r} (its fields: {names}); {HOW}")
    if not pictures[0].is_file:
        raise NoImageError(f'the field "{FIELD}" is text, not a file; with curl, write -F {FIELD}=@photo.jpg')
    return bytes(pictures[0].content)


def parts_in(body: bytearray, content_type: str, how: str = HOW) -> list[Part] | None:
    """None if this is no form."""
    boundary = boundary_of(content_type)
    if boundary is None:
        return None
    form = Form(boundary, max_parts=MAX_PARTS, max_part_bytes=len(body), how=how)
    parts = form.write(bytes(body))
    form.close()
    return parts
