"""What an operator may set: `CAPTION_*` environment variables, checked once at start, then frozen.

    CAPTION_MODEL      a bundle, or a volume whose `current` names one; unset: the embedded default
    CAPTION_ENGINE     auto (torch where there is a GPU, else openvino) | openvino | torch
    CAPTION_THREADS    0: every CPU that the container may use
    CAPTION_WORKERS    0: one for each GPU, one on a CPU

A variable that is not in the list is refused, so a misspelt one cannot be overlooked.
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
FOREIGN = {"CAPTION_TEST_DATA"}
# Kubernetes describes every Service of the namespace to every container, and one of them may be called "caption-...".
SERVICE_LINK = re.compile(r"\w+_SERVICE_(HOST|PORT\w*)|\w+_PORT(_\d+_(TCP|UDP)\w*)?")


Count = Annotated[int, Field(ge=1)]
CountOrAuto = Annotated[int, Field(ge=0, description="0 chooses")]
CountOrNone = Annotated[int, Field(ge=0, description="0 is none")]
Seconds = Annotated[float, Field(gt=0)]
Delay = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(ge=0, description="0 is no limit", allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65535)]
Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s*]+)$")]


def _listed(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Origins = Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_listed)]


class SettingsError(ValueError):
    pass


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    host: str = "0.0.0.0"
    port: Port = 8000
    admin_port: Port | None = None
    api_keys_file: Path | None = None
    cors_origins: Origins = ()
    rate_limit: Rate = 0.0
    rate_burst: Count = 10
    model: Path | None = None
    engine: Literal["auto", "openvino", "torch"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    threads: CountOrAuto = 0
    workers: CountOrAuto = 0
    max_batch_size: Count = 16
    max_queue_size: Count = 128
    max_queue_bytes: Count = 256_000_000
    timeout_s: Seconds = 30.0
    max_bytes: Count = 20_000_000
    max_pixels: Count = 50_000_000
    max_upload_bytes: Count = 512_000_000
    decode_threads: CountOrAuto = 0
    decode_timeout_s: Seconds = 10.0
    cache_size: CountOrNone = 0
    cache_max_bytes: Count = 64_000_000
    body_timeout_s: Seconds = 30.0
    header_timeout_s: Seconds = 10.0
    write_timeout_s: Seconds = 30.0
    keep_alive_s: Count = 75
    max_connections: Count = 1000
    stuck_after_s: Seconds = 30.0
    drain_delay_s: Delay = 0.0
    drain_timeout_s: Seconds = 30.0
    reload_poll_s: Seconds = 5.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: LogFormat = "text"
    tracing: bool = False


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
