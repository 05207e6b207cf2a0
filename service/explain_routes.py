"""POST /caption/explain: the photo with what the model looked at for each word of its caption."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.captioned import Captioned
from service.disconnect import unless_client_leaves
from service.errors import CAPTION_ERRORS, responses
from service.explanation import captioned_then, require_attention
from service.overlay import draw_overlay
from service.passage import record_in
from service.routes import (
    CAPTION_ANSWER,
    CAPTION_REQUEST_BODY,
    PICTURE,
    PipelineOf,
    TimeoutMs,
    UploadsOf,
    asked_timeout_s,
    decode_options,
    version_header,
)
from service.schemas import DecodeQuery
from service.upload import check_media_type, picture_in

PNG = "image/png"


explaining = APIRouter(tags=["captions"])


@explaining.post(
    "/caption/explain",
    response_class=Response,
    responses={200: {**CAPTION_ANSWER, "content": {PNG: {"schema": PICTURE}}}, **responses(CAPTION_ERRORS)},
    openapi_extra={"requestBody": CAPTION_REQUEST_BODY},
    summary="A PNG of what the model looked at for each word of the caption",
)
async def explain(
    request: Request,
    query: Annotated[DecodeQuery, Query()],
    pipeline: PipelineOf,
    uploads: UploadsOf,
    x_request_timeout_ms: TimeoutMs = None,
) -> Response:
    model = pipeline.models.current
    bundle = model.captioner.bundle
    options = decode_options(query, bundle.decode)
    require_attention(bundle)
    check_media_type(request)
    with pipeline.place():
        async with uploads.body(request) as body:
            picture = partial(picture_in, body, request.headers.get("content-type", ""))
            timeout_s, resize = asked_timeout_s(x_request_timeout_ms), bundle.preprocessing.resize

            def draw(captioned: Captioned) -> bytes:
                best = captioned.caption.candidates[0]
                return draw_overlay(picture(), best, resize=resize, limits=pipeline.limits)

            record = record_in(request.scope)
            work = pipeline.caption(picture, len(body), options, model, timeout_s=timeout_s, record=record)
            _, png = await unless_client_leaves(request.receive, captioned_then(pipeline, work, draw, timeout_s))
    return Response(png, headers=version_header(bundle), media_type=PNG)
