"""What an operator may set: `CAPTION_*` environment variables, checked once at start, then frozen.

A variable that is not in the list is refused, so a misspelt one cannot be overlooked. What is said of each becomes the
table in README.md (`make documents`) and the help of `caption-service serve`.
"""

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.logs import LogFormat

PREFIX = "CAPTION_"
FOREIGN = {"CAPTION_TEST_DATA", "CAPTION_API_KEY"}
"""Of the tests, and of the client on the command line."""
# Kubernetes describes every Service of the namespace to every container, and one of them may be called "caption-...".
SERVICE_LINK = re.compile(r"\w+_SERVICE_(HOST|PORT\w*)|\w+_PORT(_\d+_(TCP|UDP)\w*)?")


Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]
Delay = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65535)]
Host = Annotated[str, Field(pattern=r"^(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]{1,5})?$")]
Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s*]+)$")]


def _listed(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Origins = Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_listed)]
Hosts = Annotated[tuple[Host, ...], NoDecode, BeforeValidator(_listed)]


class SettingsError(ValueError):
    pass


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, use_attribute_docstrings=True
    )

    host: str = "0.0.0.0"
    """address to listen on"""
    port: Port = 8000
    """0 chooses a free one"""
    admin_port: Port | None = None
    """a port for health, metrics and `POST /model/reload` alone, which the public one then lacks"""
    api_keys_file: Path | None = None
    """of the keys that are let in, one a line, perhaps as `name:key`; read again when it changes"""
    cors_origins: Origins = ()
    """sites whose pages may ask, with commas: `https://a.example,https://b.example`; `*`: all"""
    rate_limit: Rate = 0.0
    """requests per second for each key (its name, if it has one), or address without keys; more get 429; 0: no limit"""
    rate_burst: Count = 10
    """requests at once, before that limit counts"""
    model: Path | None = None
    """a bundle, or a volume whose `current` names one; unset: the embedded model"""
    engine: Literal["auto", "openvino", "torch"] = "auto"
    """`openvino` (CPU), `torch` (extra `gpu`), or `auto`: torch where there is a GPU, else openvino"""
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    """`fp32`, `bf16`, `fp16`, `int8`; `auto`: int8 on a CPU if the model brings it, else bf16 if the CPU has it;
    half precision on a GPU"""
    threads: CountOrNone = 0
    """of the engines together; 0: every CPU that the container may use"""
    workers: CountOrNone = 0
    """engines that work side by side, each on a batch of its own; 0: one for each GPU, or for each CPU up to 8"""
    max_batch_size: Count = 8
    """pictures in one forward pass; a CPU makes no more of larger ones, a GPU does"""
    max_queue_size: Count = 128
    """pictures that may wait; more get 503 and `Retry-After`"""
    max_queue_bytes: Count = 256_000_000
    """of decoded pictures that may wait; more get 503"""
    timeout_s: Seconds = 30.0
    """from the whole body to the answer; then 504; `X-Request-Timeout-Ms` may ask for less"""
    max_bytes: Count = 20_000_000
    """of one picture; more get 413"""
    max_pixels: Count = 50_000_000
    """of one picture, told from its header; more get 413"""
    max_upload_bytes: Count = 512_000_000
    """of all bodies held at one time; beyond, 503"""
    max_pictures: Count = 1000
    """in one request to `/captions`; more get 413"""
    max_pictures_bytes: Count = 2_000_000_000
    """of such a request, which is read no faster than it is captioned; more get 413"""
    url_hosts: Hosts = ()
    """that pictures are fetched from, with commas: `img.example,*.cdn.example`; unset: none"""
    url_timeout_s: Seconds = 5.0
    """for such a picture, redirects included; then 422"""
    ibm_max: bool = True
    """`/model/predict`, `/model/metadata` and `/swagger.json` of IBM's MAX Image Caption Generator"""
    decode_threads: CountOrNone = 0
    """that read pictures; 0: as many as CPUs"""
    decode_timeout_s: Seconds = 10.0
    """for one picture; then 422, and another thread takes the place of the one that is stuck"""
    cache_size: CountOrNone = 0
    """captions kept for pictures that come again, bytes and options the same; 0: none"""
    cache_max_bytes: Count = 64_000_000
    """of those captions"""
    body_timeout_s: Seconds = 30.0
    """for a body to arrive; then 408"""
    header_timeout_s: Seconds = 10.0
    """for the head of a request to arrive; then the connection is closed"""
    write_timeout_s: Seconds = 30.0
    """for a client to take its answer; then the connection is closed"""
    keep_alive_s: Count = 75
    """that a connection may rest between requests"""
    max_connections: Count = 1000
    """then the one that has rested longest is closed, or, if all are busy, a new one gets 503, unless it is a probe"""
    stuck_after_s: Seconds = 30.0
    """in one batch or on the event loop, and the service ends with exit code 70"""
    drain_delay_s: Delay = 0.0
    """between a red `/readyz` and the end of accepting, for load balancers"""
    drain_timeout_s: Seconds = 30.0
    """for accepted pictures at SIGTERM"""
    reload_poll_s: Seconds = 5.0
    """how often a volume is looked at for a new model"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """`debug`, `info`, `warning`, `error`"""
    log_format: LogFormat = "text"
    """or `json`: each line an object"""
    tracing: bool = False
    """`true`: spans by OTLP, to where `OTEL_EXPORTER_OTLP_ENDPOINT` says; needs the extra `otel`"""


def read_settings() -> Settings:
    _refuse_unknown(os.environ)
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(
            "; ".join(_sentence(problem["loc"], problem["input"], problem["msg"]) for problem in error.errors())
        ) from None


def _refuse_unknown(names: Iterable[str]) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in names:
        if not name.startswith(PREFIX) or name in known | FOREIGN or SERVICE_LINK.fullmatch(name):
            continue
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise SettingsError(f"{name} is not a setting of this service; the nearest one is {nearest}")


def _sentence(location: tuple[int | str, ...], value: object, message: str) -> str:
    return f"{PREFIX}{str(location[0]).upper()} is {value!r}: {message}"
