"""The pictures of a request that has many, one after the other while its body arrives: a form, or a list of addresses.

Who does not ask for the next picture keeps the client from sending it, so that no body is ever held whole.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.types import Message

from service.doors.fetching import PictureByAddress
from service.doors.json_body import json_in
from service.errors import BodyTooLargeError, NoImageError, SlowBodyError, UnsupportedMediaTypeError
from service.forms import Form, Part, boundary_of
from service.passage import Stage, record_in
from service.schemas import AddressesBody
from service.upload import JSON_BYTES, Uploads, media_type
from shared.image import ImageTooLargeError

MAX_TEXT_FIELDS = 100
HELD_PICTURES = 2
"""Of the largest size, that are held of one request before its client has to wait."""
HOW = "send pictures as the files of a form (multipart/form-data)"


@dataclass(frozen=True, slots=True)
class Incoming:
    index: int
    name: str
    data: Callable[[], AbstractAsyncContextManager[bytes]]
    """Its bytes, to be entered once; raises what is wrong with this picture alone."""


class IncomingPictures:
    """Of one request; what is held of them is given back when the context is left."""

    def __init__(
        self,
        request: Request,
        uploads: Uploads,
        by_address: PictureByAddress | None,
        *,
        max_pictures: int,
        max_bytes: int,
    ) -> None:
        self.read = asyncio.Event()
        """The whole body has been."""
        self._request, self._uploads, self._by_address = request, uploads, by_address
        self._max_pictures, self._max_bytes = max_pictures, max_bytes
        self._check_head()
        self._waited_s = 0.0
        self._count = self._held = 0
        self._freed = asyncio.Event()

    def __enter__(self) -> "IncomingPictures":
        return self

    def __exit__(self, *error: object) -> None:
        self._free(self._held)

    async def next_message(self) -> Message:
        """What comes after the body: that the client has left."""
        await self.read.wait()
        return await self._request.receive()

    async def __aiter__(self) -> AsyncGenerator[Incoming, None]:
        boundary = boundary_of(self._request.headers.get("content-type", ""))
        pictures = self._addressed() if boundary is None else self._in_form(boundary)
        async with contextlib.aclosing(pictures):
            async for picture in pictures:
                yield picture

    def _check_head(self) -> None:
        kind = media_type(self._request)
        takes_json = self._by_address is not None
        length = int(self._request.headers.get("content-length", 0))
        if kind == "application/json" and takes_json:
            self._max_bytes = min(self._max_bytes, JSON_BYTES)
        elif kind != "multipart/form-data":
            if not (kind or length):
                raise NoImageError(f"the request has no body; {HOW}")
            raise UnsupportedMediaTypeError(f"{kind or 'a body without a type'} is not taken here; {HOW}")
        if length > self._max_bytes:
            raise BodyTooLargeError(f"this body has {length} bytes; it may have {self._max_bytes}")

    async def _in_form(self, boundary: bytes) -> AsyncGenerator[Incoming, None]:
        form = Form(
            boundary,
            max_parts=self._max_pictures + MAX_TEXT_FIELDS,
            max_part_bytes=self._uploads.max_bytes,
            how=HOW,
        )
        incomplete = 0
        async for chunk in self._chunks():
            whole = form.write(chunk)
            self._free(incomplete)
            incomplete = form.held
            self._hold(incomplete)
            for part in whole:
                self._waited_s = 0
                if part.is_file:
                    yield self._uploaded(part)
        form.close()
        if not self._count:
            raise NoImageError(f"the form has no file; {HOW}")

    def _uploaded(self, part: Part) -> Incoming:
        size = len(part.content)
        self._hold(size)

        @contextlib.asynccontextmanager
        async def data() -> AsyncIterator[bytes]:
            if part.size > self._uploads.max_bytes:
                raise ImageTooLargeError(f"it has {part.size} bytes; a picture may have {self._uploads.max_bytes}")
            content = bytes(part.content)
            part.content.clear()
            try:
                yield content
            finally:
                self._free(size)

        return Incoming(self._next_index(), part.file_name or part.name, data)

    async def _addressed(self) -> AsyncGenerator[Incoming, None]:
        assert self._by_address is not None
        body = bytearray()
        async for chunk in self._chunks():
            body += chunk
        for url in json_in(body, AddressesBody).urls:
            yield Incoming(self._next_index(), url, partial(self._by_address.picture, url))

    def _next_index(self) -> int:
        if self._count == self._max_pictures:
            raise BodyTooLargeError(f"one request may have {self._max_pictures} pictures")
        self._count += 1
        return self._count - 1

    async def _chunks(self) -> AsyncIterator[bytes]:
        record, began = record_in(self._request.scope), time.monotonic()
        more = True
        while more:
            await self._room()
            chunk, more = await self._next_chunk()
            record.request_bytes += len(chunk)
            if record.request_bytes > self._max_bytes:
                raise BodyTooLargeError(f"this body is too long; it may have {self._max_bytes} bytes")
            yield chunk
        record.read = Stage("read", began, time.monotonic())
        self.read.set()

    async def _next_chunk(self) -> tuple[bytes, bool]:
        """The time limit of a body counts for each picture, and only while the client is waited for."""
        asked = time.monotonic()
        try:
            async with asyncio.timeout(self._uploads.timeout_s - self._waited_s):
                return await self._uploads.next_chunk(self._request)
        except TimeoutError:
            raise SlowBodyError(f"no picture ended within {self._uploads.timeout_s:.3g} s") from None
        finally:
            self._waited_s += time.monotonic() - asked

    async def _room(self) -> None:
        while self._held > HELD_PICTURES * self._uploads.max_bytes:
            self._freed.clear()
            await self._freed.wait()

    def _hold(self, size: int) -> None:
        self._uploads.hold(size)
        self._held += size

    def _free(self, size: int) -> None:
        self._uploads.release(size)
        self._held -= size
        self._freed.set()
