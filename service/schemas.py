"""The bodies of requests' queries and of answers: the OpenAPI surface, and what the client gives its callers."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service import examples


class DecodeQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    beam_size: Annotated[int | None, Field(ge=1, le=5, description="Default: the model's own.")] = None
    max_length: Annotated[int | None, Field(ge=1, le=50, description="In words. Default: the model's own.")] = None


class CaptionQuery(DecodeQuery):
    n: Annotated[int, Field(ge=1, le=5, description="How many candidates; at most beam_size.")] = 1
    explain: Annotated[bool, Field(description="Also what the model looked at for every word.")] = False


class WordBody(BaseModel, frozen=True):
    word: str
    log_probability: float
    attention: list[list[float]] = Field(description="Weights over a grid of the picture, rows from the top; sum 1.")


class CandidateBody(BaseModel, frozen=True):
    caption: str
    log_probability: float
    words: list[WordBody] | None = Field(None, description="Only with explain=true.")


class AttentionGridBody(BaseModel):
    """The grid's cells, all of one size, fill a box of the upright picture; all numbers but the counts are pixels."""

    width: int = Field(description="Of the picture, after its EXIF orientation.")
    height: int
    rows: int
    columns: int
    left: float
    top: float
    right: float
    bottom: float


class ModelName(BaseModel):
    name: str
    version: str
    model_config = ConfigDict(frozen=True)


class Timing(BaseModel, frozen=True):
    decode_ms: float
    queue_ms: float
    encode_ms: float = Field(description="Of the batch that the picture was in.")
    beam_search_ms: float = Field(description="Of the batch that the picture was in.")
    total_ms: float
    cache: Literal["hit", "coalesced"] | None = Field(
        None,
        description="hit: the caption of the same picture, asked for earlier; the stages took no time. coalesced: that "
        "of the same picture, being captioned for another client at this moment; the stages are those of its work. "
        "Absent: this picture was captioned for this answer.",
    )


class CaptionBody(BaseModel, frozen=True, json_schema_extra={"examples": [examples.CAPTION]}):
    caption: str
    log_probability: float
    candidates: list[CandidateBody]
    attention_grid: AttentionGridBody | None = Field(None, description="Only with explain=true.")
    model: ModelName
    timing: Timing


FETCHED = "Only where this service fetches pictures, and from the hosts that it fetches from."


class AddressBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, Field(description=f"https://... {FETCHED}")]


class AddressesBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    urls: Annotated[list[str], Field(description=f"https://... {FETCHED}", min_length=1)]


class Item(BaseModel, frozen=True):
    index: int = Field(description="Of the picture in its request, from 0.")
    name: str = Field(description="Of the file, else of its field; or the address.")
    status: int = Field(description="As POST /caption would have answered.")


class CaptionItem(CaptionBody, Item, frozen=True, json_schema_extra={"examples": [examples.ITEM]}):
    pass


class ErrorItem(Item, frozen=True, json_schema_extra={"examples": [examples.ERROR_ITEM]}):
    error: "ErrorDetail"


class CaptionsBody(BaseModel, json_schema_extra={"examples": [examples.CAPTIONS]}):
    results: list[CaptionItem | ErrorItem] = Field(description="One for each picture, in their order.")


class PreprocessingBody(BaseModel, frozen=True):
    size: int
    resize: Literal["squash", "crop"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class DecodeBody(BaseModel, frozen=True):
    beam_size: int
    max_length: int
    length_penalty: float


class FailedReloadBody(BaseModel, frozen=True):
    at: datetime
    complaint: str


class ModelBody(BaseModel, frozen=True, json_schema_extra={"examples": [examples.MODEL]}):
    name: str
    version: str
    source: Literal["embedded", "volume", "bundle"]
    note: str | None = Field(description="Why the embedded default answers, when it does.")
    architecture: dict[str, Any]
    vocabulary_size: int
    preprocessing: PreprocessingBody
    decode: DecodeBody
    training: dict[str, Any]
    metrics: dict[str, Any]
    licence: str
    engine: str
    precision: str
    device: str
    has_attention: bool = Field(description="Whether it can explain its captions.")
    last_failed_reload: FailedReloadBody | None = Field(description="Since this model was loaded.")


class ReloadBody(BaseModel, json_schema_extra={"examples": [examples.RELOAD]}):
    outcome: Literal["success", "failure", "unchanged"]
    model: ModelName = Field(description="The model that answers now.")
    complaint: str | None = Field(description="Why the model that the volume names was not taken.")


class ProbeBody(BaseModel, json_schema_extra={"examples": [{"status": "ok"}]}):
    status: Literal["ok"] = "ok"


class ErrorDetail(BaseModel, frozen=True):
    code: str
    message: str


class ErrorBody(BaseModel, frozen=True, json_schema_extra={"examples": [examples.ERROR]}):
    error: ErrorDetail
