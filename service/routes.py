"""The native endpoints: a caption for a picture, what is known of the model, and the probes."""

import time
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response
from prometheus_client.exposition import choose_encoder

from service.disconnect import unless_client_leaves
from service.errors import BadParameterError, UnavailableError, statuses
from service.pipeline import Captioned, Pipeline
from service.schemas import (
    CandidateBody,
    CaptionBody,
    CaptionQuery,
    DecodeBody,
    ErrorBody,
    ModelBody,
    ModelName,
    PreprocessingBody,
    ProbeBody,
    Timing,
    WordBody,
)
from service.upload import FIELD, Uploads, check_media_type, picture_in
from shared.bundle import Bundle, DecodeOptions
from shared.captioner import Candidate

PICTURE = {"type": "string", "format": "binary"}
CAPTION_REQUEST_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": {"type": "object", "required": [FIELD], "properties": {FIELD: PICTURE}}},
        "image/*": {"schema": PICTURE},
        "application/octet-stream": {"schema": PICTURE},
    },
}
CAPTION_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": "Code: " + ", ".join(sorted(codes))}
    for status, codes in sorted(statuses().items())
    if status != 499
}
PROBE_ERRORS: dict[int | str, dict[str, Any]] = {503: {"model": ErrorBody, "description": "Code: unavailable"}}

router = APIRouter()


async def pipeline_of(request: Request) -> Pipeline:
    return request.app.state.pipeline


async def uploads_of(request: Request) -> Uploads:
    return request.app.state.uploads


PipelineOf = Annotated[Pipeline, Depends(pipeline_of)]
UploadsOf = Annotated[Uploads, Depends(uploads_of)]


@router.post(
    "/caption",
    response_model=CaptionBody,
    response_model_exclude_none=True,
    responses=CAPTION_ERRORS,
    openapi_extra={"requestBody": CAPTION_REQUEST_BODY},
    summary="A caption for one picture",
)
async def caption(
    request: Request, query: Annotated[CaptionQuery, Query()], pipeline: PipelineOf, uploads: UploadsOf
) -> Response:
    began = time.monotonic()
    model = pipeline.models.current
    bundle = model.captioner.bundle
    options = decode_options(query, bundle.decode)
    check_media_type(request)
    with pipeline.place():
        async with uploads.body(request) as body:
            picture = partial(picture_in, body, request.headers.get("content-type", ""))
            work = pipeline.caption(picture, options, model)
            captioned = await unless_client_leaves(request.receive, work)
    answer = caption_body(captioned, bundle, explain=query.explain, total_s=time.monotonic() - began)
    return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")


@router.get("/model", summary="The model that answers")
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
    )


@router.get("/livez", responses=PROBE_ERRORS, summary="Restart me when this is red")
async def livez(pipeline: PipelineOf) -> ProbeBody:
    return _probe(pipeline.sick())


@router.get("/readyz", responses=PROBE_ERRORS, summary="Send me no pictures when this is red")
async def readyz(pipeline: PipelineOf) -> ProbeBody:
    return _probe(pipeline.unready())


@router.get("/startupz", responses=PROBE_ERRORS, summary="Green once the model has captioned its golden picture")
async def startupz(pipeline: PipelineOf) -> ProbeBody:
    return _probe(None if pipeline.models.loaded else "the model is being loaded")


@router.get("/metrics", response_class=Response, summary="Prometheus text, or OpenMetrics by Accept")
async def metrics(request: Request) -> Response:
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(request.app.state.metrics.registry), media_type=content_type)


@router.get("/", include_in_schema=False)
async def home() -> RedirectResponse:
    return RedirectResponse("docs")


def decode_options(query: CaptionQuery, defaults: DecodeOptions) -> DecodeOptions:
    beam_size = query.beam_size or defaults.beam_size
    if query.n > beam_size:
        raise BadParameterError(f"n is {query.n}, but a beam of size {beam_size} finds at most {beam_size}")
    return DecodeOptions(
        beam_size=beam_size,
        max_length=query.max_length or defaults.max_length,
        length_penalty=defaults.length_penalty,
        n_best=query.n,
    )


def caption_body(captioned: Captioned, bundle: Bundle, *, explain: bool, total_s: float) -> CaptionBody:
    found = captioned.caption
    return CaptionBody(
        caption=found.caption,
        log_probability=found.log_probability,
        candidates=[_candidate_body(candidate, explain=explain) for candidate in found.candidates],
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


def _probe(reason: str | None) -> ProbeBody:
    if reason is not None:
        raise UnavailableError(reason)
    return ProbeBody()
