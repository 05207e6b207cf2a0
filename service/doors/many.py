"""Captions for many pictures in one request."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from service import examples
from service.disconnect import unless_client_leaves
from service.doors.fetching import PictureByAddress
from service.doors.incoming import Incoming, IncomingPictures
from service.doors.lines import Lines
from service.doors.listing import csv_listing, failed, json_listing, json_of, wanted
from service.doors.pace import Pace, PaceOf, as_finished
from service.errors import CAPTION_ERRORS, ClientLeftError, native, refusal_of, responses
from service.explanation import captioned_with_size, require_attention
from service.metrics import Metrics
from service.model_source import LoadedModel
from service.pipeline import Pipeline
from service.routes import PICTURE, PipelineOf, TimeoutMs, UploadsOf, asked_timeout_s, caption_body, decode_options
from service.schemas import AddressesBody, CaptionItem, CaptionQuery, CaptionsBody, ErrorItem
from service.unread import READS_ON
from shared.bundle import DecodeOptions

Item: TypeAlias = CaptionItem | ErrorItem
REQUEST_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"files": {"type": "array", "items": PICTURE, "minItems": 1}}}
        },
        "application/json": {"schema": AddressesBody.model_json_schema()},
    },
}
TEXT = {"type": "string"}
ANSWER = {
    "content": {
        "application/x-ndjson": {"schema": TEXT, "example": examples.LINES},
        "text/csv": {"schema": TEXT, "example": examples.TABLE},
    }
}

WATCHES_FOR_ITSELF = {"spec_version": "2.4"}
"""Of ASGI: from this one on a StreamingResponse does not look for the end of the request, which would take its body."""

router = APIRouter(tags=["captions"])


@dataclass(frozen=True)
class ManyLimits:
    """Of one request."""

    max_pictures: int
    max_bytes: int


@dataclass(frozen=True)
class _Job:
    """What is the same for all pictures of a request."""

    model: LoadedModel
    options: DecodeOptions
    explain: bool
    timeout_s: float
    pace: Pace
    pipeline: Pipeline
    metrics: Metrics

    async def caption(self, picture: Incoming) -> Item:
        began = time.monotonic()
        try:
            async with self.pace.deadline(self.timeout_s), picture.data() as data:
                work = self.pace.caption(data, self.options, self.model)
                captioned, size = await captioned_with_size(
                    self.pipeline, work, lambda: data, self.timeout_s, explain=self.explain
                )
        except Exception as error:
            return failed(picture.index, picture.name, refusal_of(error, self.metrics))
        bundle = self.model.captioner.bundle
        body = caption_body(captioned, bundle, explained_size=size, total_s=time.monotonic() - began)
        return CaptionItem(index=picture.index, name=picture.name, status=200, **dict(body))


async def _incoming(request: Request, uploads: UploadsOf) -> IncomingPictures:
    by_address: PictureByAddress | None = request.app.state.by_address
    limits: ManyLimits = request.app.state.many
    return IncomingPictures(request, uploads, by_address, max_pictures=limits.max_pictures, max_bytes=limits.max_bytes)


@router.post(
    "/captions",
    response_model=CaptionsBody,
    response_model_exclude_none=True,
    responses={200: ANSWER, **responses(CAPTION_ERRORS)},
    openapi_extra={"requestBody": REQUEST_BODY},
    summary="Captions for many pictures: JSON, NDJSON as they finish, or CSV",
)
async def captions(
    request: Request,
    query: Annotated[CaptionQuery, Query()],
    pipeline: PipelineOf,
    pace: PaceOf,
    incoming: Annotated[IncomingPictures, Depends(_incoming)],
    x_request_timeout_ms: TimeoutMs = None,
) -> Response:
    model = pipeline.models.current
    options = decode_options(query, model.captioner.bundle.decode, n_best=query.n)
    if query.explain:
        require_attention(model.captioner.bundle)
    job = _Job(
        model, options, query.explain, asked_timeout_s(x_request_timeout_ms), pace, pipeline, request.app.state.metrics
    )
    listing = wanted(request.headers.get("accept", ""))
    if listing == "application/x-ndjson":
        return await _streamed(request, job, incoming)
    if listing == "text/csv":
        rows: list[Item] = []
        await _caption_all(job, incoming, rows.append)
        return Response(csv_listing(sorted(rows, key=lambda item: item.index)), media_type=listing)
    results: dict[int, str] = {}
    await _caption_all(job, incoming, lambda item: results.update({item.index: json_of(item)}))
    return Response(json_listing(results[index] for index in sorted(results)), media_type=listing)


async def _caption_all(job: _Job, incoming: IncomingPictures, on_item: Callable[[Item], None]) -> None:
    """`on_item` hears of each as it finishes. Raises what is wrong with the request as a whole."""

    async def work() -> None:
        async with job.pace.place(), contextlib.aclosing(aiter(incoming)) as pictures:
            async for item in as_finished(pictures, job.caption, at_once=job.pace.at_once):
                on_item(item)

    with incoming:
        await unless_client_leaves(incoming.next_message, work())


async def _streamed(request: Request, job: _Job, incoming: IncomingPictures) -> Response:
    """What ends it before its first line is an answer with a status of its own, and later the last line."""
    lines = Lines(incoming.read)

    async def work() -> None:
        try:
            await _caption_all(job, incoming, lambda item: lines.put(json_of(item)))
        except Exception as error:
            if not lines.begun:
                raise
            if not isinstance(error, ClientLeftError):
                lines.put(json.dumps(native(refusal_of(error, job.metrics))[1]))
        finally:
            lines.end()

    async def written() -> AsyncIterator[str]:
        try:
            async for line in lines.written():
                yield line
        finally:
            working.cancel()

    working = asyncio.ensure_future(work())
    await lines.some()
    if not lines.begun:
        await working
    request.scope[READS_ON] = True
    request.scope["asgi"] = {**request.scope.get("asgi", {}), **WATCHES_FOR_ITSELF}
    return StreamingResponse(written(), media_type="application/x-ndjson")
