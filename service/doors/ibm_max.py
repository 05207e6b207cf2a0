"""The API of IBM's MAX Image Caption Generator, so that its clients work unchanged."""

import math
import re
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from service.disconnect import unless_client_leaves
from service.doors.ibm_max_document import document
from service.errors import ADMISSION_ERRORS, CAPTION_ERRORS, Dialect, NoImageError, Refusal, responses
from service.model_metrics import build_info
from service.passage import record_in
from service.routes import PipelineOf, UploadsOf
from service.upload import parts_in
from shared.bundle import DecodeOptions

FIELD = "image"
PREDICTIONS = 3
PICTURE_TYPE = re.compile(r".*(jpg|jpeg|png)")
HOW = f'send the picture as the file "{FIELD}" of a form (multipart/form-data)'
MISSING = "An image file Missing required parameter in an uploaded file"
INVALID = "Input payload validation failed"
WRONG_TYPE = "Invalid file type/extension. Please provide an image in JPEG or PNG format."
NO_PICTURE = (415, 422)
"""Of bytes that are none, or cannot be read: 400 here."""
FIXED_MESSAGES = {405: "The method is not allowed for the requested URL.", 500: "Internal Server Error"}


class Metadata(BaseModel):
    id: str
    name: str
    description: str
    type: str
    source: str
    license: str


class Prediction(BaseModel):
    index: str
    caption: str
    probability: float


class PredictResponse(BaseModel):
    status: str = "ok"
    predictions: list[Prediction]


router = APIRouter(include_in_schema=False)
documents = APIRouter(include_in_schema=False)


def error_body(refusal: Refusal) -> tuple[int, object]:
    if refusal.message == MISSING:
        return 400, {"errors": {FIELD: MISSING}, "message": INVALID}
    status = 400 if refusal.status in NO_PICTURE else refusal.status
    return status, {"message": FIXED_MESSAGES.get(status, refusal.message)}


DIALECTS: dict[str, Dialect] = {"/model/predict": error_body, "/model/metadata": error_body}


@router.get("/model/metadata", responses=responses(ADMISSION_ERRORS))
async def metadata(pipeline: PipelineOf) -> Metadata:
    loaded = pipeline.models.current
    bundle = loaded.captioner.bundle
    return Metadata(
        id=bundle.name,
        name=f"Image caption service, model {bundle.name}",
        description=f"Image encoder and caption decoder with attention, version {bundle.version}",
        type="Image-to-Text Translation",
        source=loaded.source,
        license=bundle.licence,
    )


@router.post("/model/predict", responses=responses(CAPTION_ERRORS))
async def predict(request: Request, pipeline: PipelineOf, uploads: UploadsOf) -> PredictResponse:
    model = pipeline.models.current
    content_type = request.headers.get("content-type", "")
    with pipeline.place():
        async with uploads.body(request) as body:
            work = pipeline.caption(
                lambda: _picture_in(body, content_type),
                len(body),
                _options(model.captioner.bundle.decode),
                model,
                record=record_in(request.scope),
            )
            captioned = await unless_client_leaves(request.receive, work)
    return PredictResponse(
        predictions=[
            Prediction(
                index=str(index), caption=f"{found.caption} .", probability=min(1.0, math.exp(found.log_probability))
            )
            for index, found in enumerate(captioned.caption.candidates)
        ]
    )


def _options(defaults: DecodeOptions) -> DecodeOptions:
    return replace(defaults, beam_size=max(PREDICTIONS, defaults.beam_size), n_best=PREDICTIONS)


def _picture_in(body: bytearray, content_type: str) -> bytes:
    parts = parts_in(body, content_type, HOW) or []
    picture = next((part for part in parts if part.name == FIELD and b"filename" in part.disposition), None)
    if picture is None:
        raise NoImageError(MISSING)
    if not PICTURE_TYPE.fullmatch(picture.media_type):
        raise NoImageError(WRONG_TYPE)
    return bytes(picture.content)


@documents.get("/swagger.json")
async def swagger() -> dict[str, Any]:
    return document(build_info()["version"])
