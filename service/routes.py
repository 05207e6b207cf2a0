"""The native endpoints: a caption for a picture, what is known of the model, and the probes."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Annotated
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from prometheus_client.exposition import choose_encoder

from service import examples
from service.captioned import Captioned
from service.disconnect import unless_client_leaves
from service.doors.fetching import PictureByAddress
from service.errors import (
    ADMISSION_ERRORS,
    CAPTION_ERRORS,
    BadParameterError,
    NotAVolumeError,
    UnauthorizedError,
    UnavailableError,
    responses,
)
from service.explanation import CaptionedWithSize, attention_grid, captioned_with_size, require_attention
from service.model_source import ModelSource
from service.passage import record_in
from service.pipeline import Pipeline
from service.schemas import (
    AddressBody,
    CandidateBody,
    CaptionBody,
    CaptionQuery,
    DecodeBody,
    DecodeQuery,
    FailedReloadBody,
    ModelBody,
    ModelName,
    PreprocessingBody,
    ProbeBody,
    ReloadBody,
    Timing,
    WordBody,
)
from service.upload import FIELD, Uploads, check_media_type, media_type, picture_in
from service.web_security import docs_page
from shared.bundle import Bundle, DecodeOptions
from shared.captioner import Candidate

PICTURE = {"type": "string", "format": "binary"}
PICTURE_CONTENT = {
    "multipart/form-data": {"schema": {"type": "object", "required": [FIELD], "properties": {FIELD: PICTURE}}},
    "image/*": {"schema": PICTURE},
    "application/octet-stream": {"schema": PICTURE},
}
CAPTION_REQUEST_BODY = {"required": True, "content": PICTURE_CONTENT}
BY_ADDRESS = {"application/json": {"schema": AddressBody.model_json_schema()}}
RELOAD_ERRORS = (UnauthorizedError, NotAVolumeError)
MODEL_VERSION = "X-Model-Version"
CAPTION_ANSWER = {"headers": {MODEL_VERSION: {"required": True, "schema": {"type": "string"}}}}

router = APIRouter(tags=["captions"])
"""What clients use; the others are for others."""
probes = APIRouter(tags=["health"])
operation = APIRouter(tags=["operation"])
pages = APIRouter(include_in_schema=False)
operators_home = APIRouter(include_in_schema=False)


async def pipeline_of(request: Request) -> Pipeline:
    return request.app.state.pipeline


async def uploads_of(request: Request) -> Uploads:
    return request.app.state.uploads


PipelineOf = Annotated[Pipeline, Depends(pipeline_of)]
UploadsOf = Annotated[Uploads, Depends(uploads_of)]
TIMEOUT = "From the end of the body to the answer; never more than the service's own limit."
TimeoutMs = Annotated[int | None, Header(alias="X-Request-Timeout-Ms", ge=1, description=TIMEOUT)]


@router.post(
    "/caption",
    response_model=CaptionBody,
    response_model_exclude_none=True,
    responses={200: CAPTION_ANSWER, **responses(CAPTION_ERRORS)},
    openapi_extra={"requestBody": {"required": True, "content": PICTURE_CONTENT | BY_ADDRESS}},
    summary="A caption for one picture",
)
async def caption(
    request: Request,
    query: Annotated[CaptionQuery, Query()],
    pipeline: PipelineOf,
    uploads: UploadsOf,
    x_request_timeout_ms: TimeoutMs = None,
) -> Response:
    began = time.monotonic()
    model = pipeline.models.current
    bundle = model.captioner.bundle
    options = decode_options(query, bundle.decode, n_best=query.n)
    if query.explain:
        require_attention(bundle)
    by_address: PictureByAddress | None = request.app.state.by_address
    if by_address is None or media_type(request) != "application/json":
        check_media_type(request)
        by_address = None
    timeout_s, record = asked_timeout_s(x_request_timeout_ms), record_in(request.scope)

    async def captioned_of(picture: Callable[[], bytes], body_bytes: int) -> CaptionedWithSize:
        work = pipeline.caption(picture, body_bytes, options, model, timeout_s=timeout_s, record=record)
        return await captioned_with_size(pipeline, work, picture, timeout_s, explain=query.explain)

    with pipeline.place():
        async with uploads.body(request) as body:
            if by_address is None:
                picture = partial(picture_in, body, request.headers.get("content-type", ""))
                work = captioned_of(picture, len(body))
            else:
                work = by_address.caption(body, captioned_of, timeout_s)
            captioned, size = await unless_client_leaves(request.receive, work)
    answer = caption_body(captioned, bundle, explained_size=size, total_s=time.monotonic() - began)
    said = answer.model_dump_json(exclude_none=True)
    return Response(said, headers=version_header(bundle), media_type="application/json")


@router.get("/model", responses=responses(ADMISSION_ERRORS), summary="The model that answers")
async def model(pipeline: PipelineOf) -> ModelBody:
    loaded = pipeline.models.current
    captioner, bundle = loaded.captioner, loaded.captioner.bundle
    return ModelBody(
        name=bundle.name,
        version=bundle.version,
        source=loaded.source,
        note=loaded.note,
        architecture=bundle.architecture,
        vocabulary_size=len(bundle.vocabulary),
        preprocessing=PreprocessingBody(**asdict(bundle.preprocessing)),
        decode=DecodeBody.model_validate(bundle.decode, from_attributes=True),
        training=bundle.training,
        metrics=bundle.metrics,
        licence=bundle.licence,
        engine=captioner.engine_name,
        precision=captioner.precision,
        device=captioner.device,
        has_attention=bundle.has_attention,
        last_failed_reload=_failed_reload(pipeline.models),
    )


@operation.post("/model/reload", responses=responses(RELOAD_ERRORS), summary="Take what the volume names, now")
async def reload(pipeline: PipelineOf) -> ReloadBody:
    models = pipeline.models
    if not models.is_volume:
        raise NotAVolumeError("the model does not come from a volume, so there is nothing to reload")
    outcome = await models.reload()
    bundle = models.current.captioner.bundle
    return ReloadBody(
        outcome=outcome,
        model=ModelName(name=bundle.name, version=bundle.version),
        complaint=models.failure.complaint if models.failure and outcome == "failure" else None,
    )


@probes.get("/livez", responses=responses((UnavailableError,)), summary="Restart me when this is red")
async def livez(pipeline: PipelineOf) -> ProbeBody:
    return _probe(pipeline.sick())


@probes.get("/readyz", responses=responses((UnavailableError,)), summary="Send me no pictures when this is red")
async def readyz(pipeline: PipelineOf) -> ProbeBody:
    return _probe(pipeline.unready())


@probes.get(
    "/startupz",
    responses=responses((UnavailableError,)),
    summary="Green once the model has captioned its golden picture",
)
async def startupz(pipeline: PipelineOf) -> ProbeBody:
    return _probe(None if pipeline.models.loaded else "the model is being loaded")


METRICS_ANSWER = {"content": {"text/plain": {"schema": {"type": "string"}, "example": examples.METRICS}}}


@probes.get(
    "/metrics",
    response_class=Response,
    responses={200: METRICS_ANSWER},
    summary="Prometheus text, or OpenMetrics by Accept",
)
async def metrics(request: Request) -> Response:
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(request.app.state.metrics.registry), media_type=content_type)


@operators_home.get("/", status_code=307)
async def home() -> RedirectResponse:
    return RedirectResponse("docs")


@pages.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    return docs_page(request.app.title)


def version_header(bundle: Bundle) -> dict[str, str]:
    return {MODEL_VERSION: quote(bundle.version)}


def asked_timeout_s(milliseconds: int | None) -> float:
    return math.inf if milliseconds is None else milliseconds / 1000


def decode_options(query: DecodeQuery, defaults: DecodeOptions, *, n_best: int = 1) -> DecodeOptions:
    beam_size = query.beam_size or defaults.beam_size
    if n_best > beam_size:
        raise BadParameterError(f"n is {n_best}, but a beam of size {beam_size} finds at most {beam_size}")
    return DecodeOptions(
        beam_size=beam_size,
        max_length=query.max_length or defaults.max_length,
        length_penalty=defaults.length_penalty,
        n_best=n_best,
    )


def caption_body(
    captioned: Captioned, bundle: Bundle, *, explained_size: tuple[int, int] | None, total_s: float
) -> CaptionBody:
    """`explained_size` is that of the upright picture, where its caption is to be explained."""
    found, resize = captioned.caption, bundle.preprocessing.resize
    explain = explained_size is not None
    return CaptionBody(
        caption=found.caption,
        log_probability=found.log_probability,
        candidates=[_candidate_body(candidate, explain=explain) for candidate in found.candidates],
        attention_grid=attention_grid(explained_size, found.candidates[0], resize) if explained_size else None,
        model=ModelName(name=bundle.name, version=bundle.version),
        timing=Timing(
            decode_ms=_milliseconds(captioned.decode_s),
            queue_ms=_milliseconds(captioned.queue_s),
            encode_ms=_milliseconds(found.encode_s),
            beam_search_ms=_milliseconds(found.beam_search_s),
            total_ms=_milliseconds(total_s),
            cache=None if captioned.cache == "miss" else captioned.cache,
        ),
    )


def _candidate_body(candidate: Candidate, *, explain: bool) -> CandidateBody:
    return CandidateBody(
        caption=candidate.caption,
        log_probability=candidate.log_probability,
        words=_word_bodies(candidate) if explain else None,
    )


def _word_bodies(candidate: Candidate) -> list[WordBody]:
    return [
        WordBody(word=word, log_probability=log_probability, attention=np.round(attention, 5).tolist())
        for word, log_probability, attention in zip(
            candidate.words, candidate.word_log_probabilities, candidate.attention, strict=True
        )
    ]


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _failed_reload(models: ModelSource) -> FailedReloadBody | None:
    return None if models.failure is None else FailedReloadBody(**asdict(models.failure))


def _probe(reason: str | None) -> ProbeBody:
    if reason is not None:
        raise UnavailableError(reason)
    return ProbeBody()
