"""Every error a client can see: the ONE table from exception type to (status, code), and its JSON.

What is not in the table is a plain 500 without detail, and a log line.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import examples
from service.batcher_errors import (
    BatchItemError,
    DeadlineExceededError,
    DrainingError,
    QueueFullError,
    WorkerDiedError,
)
from service.decode_pool import DecodeTimeoutError
from service.metrics import Metrics
from service.schemas import ErrorBody
from shared.image import (
    EmptyImageError,
    ImageTooLargeError,
    InvalidImageError,
    UndecodableImageError,
    UnsupportedImageError,
)

logger = logging.getLogger(__name__)


class NoImageError(ValueError):
    """The request carries no picture, or not where it belongs."""


class BadParameterError(ValueError):
    pass


class NoAttentionError(ValueError):
    """The model does not say where it looks."""


class SlowBodyError(ValueError):
    pass


class BodyTooLargeError(ValueError):
    pass


class TooManyUploadsError(RuntimeError):
    retry_after_s = 1.0


class UnsupportedMediaTypeError(ValueError):
    pass


class ClientLeftError(Exception):
    """Nobody reads the answer any more; the status is for the metrics."""


class UnavailableError(RuntimeError):
    """A probe is red."""

    retry_after_s = 5.0


class UnauthorizedError(ValueError):
    pass


class RateLimitedError(RuntimeError):
    def __init__(self, rate: float, wait_s: float) -> None:
        self.retry_after_s = max(1.0, wait_s)
        super().__init__(f"more than {rate:g} requests per second; come back in {self.retry_after_s:.0f} s")


class NotAVolumeError(RuntimeError):
    """There is nothing to reload from."""


class AddressRefusedError(ValueError):
    """A picture's address that is not fetched from, by the rules of this service."""


class UnreachableAddressError(ValueError):
    """A picture's address that gives no picture."""


class NoModelError(ValueError):
    """A model, or a version of it, that is not served here."""


ERRORS: Mapping[type[Exception], tuple[int, str]] = {
    NoImageError: (400, "no_image"),
    EmptyImageError: (400, "empty_image"),
    BadParameterError: (400, "bad_parameter"),
    RequestValidationError: (400, "bad_parameter"),
    NoAttentionError: (400, "no_attention"),
    AddressRefusedError: (400, "address_refused"),
    UnauthorizedError: (401, "unauthorized"),
    NoModelError: (404, "no_model"),
    SlowBodyError: (408, "slow_body"),
    NotAVolumeError: (409, "not_a_volume"),
    BodyTooLargeError: (413, "too_large"),
    ImageTooLargeError: (413, "too_large"),
    UnsupportedMediaTypeError: (415, "unsupported_media_type"),
    UnsupportedImageError: (415, "unsupported_image"),
    UndecodableImageError: (422, "undecodable_image"),
    InvalidImageError: (422, "invalid_image"),
    DecodeTimeoutError: (422, "decode_timeout"),
    UnreachableAddressError: (422, "unreachable_address"),
    RateLimitedError: (429, "rate_limited"),
    ClientLeftError: (499, "client_left"),
    BatchItemError: (500, "internal"),
    QueueFullError: (503, "queue_full"),
    TooManyUploadsError: (503, "queue_full"),
    DrainingError: (503, "draining"),
    WorkerDiedError: (503, "worker_dead"),
    UnavailableError: (503, "unavailable"),
    DeadlineExceededError: (504, "deadline_exceeded"),
}
HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}
INTERNAL = "something went wrong inside the service; its log says more"
REJECT_REASONS = frozenset(code for _, code in ERRORS.values()) - {
    "client_left",
    "unavailable",
    "not_a_volume",
    "no_model",
}
ADMISSION_ERRORS = (UnauthorizedError, RateLimitedError)
CAPTION_ERRORS = tuple(kind for kind in ERRORS if kind not in (NoModelError, NotAVolumeError, UnavailableError))
# A service that ends takes no further request on the same connection.
CLOSING = (DrainingError, WorkerDiedError)


def statuses(kinds: Iterable[type[Exception]]) -> dict[int, list[str]]:
    """Their statuses in order, each with its codes."""
    codes: dict[int, set[str]] = {}
    for status, code in map(ERRORS.__getitem__, kinds):
        codes.setdefault(status, set()).add(code)
    return {status: sorted(codes[status]) for status in sorted(codes)}


def responses(kinds: Iterable[type[Exception]]) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI document promises of a route that ends in one of these errors."""
    return {
        status: {
            "model": ErrorBody,
            "description": "Code: " + ", ".join(codes),
            "content": {"application/json": {"examples": examples.errors_of(codes)}},
            **_HEADERS.get(status, {}),
        }
        for status, codes in statuses(kinds).items()
        if status != 499
    }


_RETRY_AFTER = {"headers": {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}}
_HEADERS: dict[int, dict[str, Any]] = {
    401: {"headers": {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}


class Refusal(NamedTuple):
    status: int
    code: str
    message: str


Dialect: TypeAlias = Callable[[Refusal], tuple[int, object]]
"""How an API tells of an error: status and JSON."""


def native(refusal: Refusal) -> tuple[int, object]:
    return refusal.status, {"error": {"code": refusal.code, "message": refusal.message}}


def refusal_of(error: Exception, metrics: Metrics) -> Refusal:
    """By the table, counted; what it does not know is logged and tells nothing."""
    known = next((ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS), None)
    status, code = known or (500, "internal")
    if code in REJECT_REASONS:
        metrics.reject(code)
    if status == 500:
        logger.error("a picture failed: %s", error, exc_info=None if known else error)
    return Refusal(status, code, INTERNAL if status == 500 else str(error))


def install(app: FastAPI) -> None:
    """`app.state.dialects` may name paths, each with all below it, that speak otherwise."""
    app.state.dialects = {}
    for kind in ERRORS:
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(HTTPException, _answer_http)


def _response(scope: Scope, refusal: Refusal, headers: Mapping[str, str] | None = None) -> JSONResponse:
    dialects: Mapping[str, Dialect] = scope["app"].state.dialects
    path = scope["path"] + "/"
    dialect = next((dialects[top] for top in dialects if path.startswith(top + "/")), native)
    status, body = dialect(refusal)
    return JSONResponse(body, status, headers)


async def answer(request: Request, error: Exception) -> JSONResponse:
    refusal = refusal_of(error, request.app.state.metrics)
    headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
    if isinstance(error, CLOSING):
        headers["Connection"] = "close"
    if retry_after_s := getattr(error, "retry_after_s", None):
        headers["Retry-After"] = str(math.ceil(retry_after_s))
    return _response(request.scope, refusal, headers)


async def _answer_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return await answer(request, BadParameterError("; ".join(map(parameter_sentence, error.errors()))))


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path = request.url.path
    message = {
        404: f"there is nothing at {path}; /docs lists what there is",
        405: f"{path} does not take {request.method}; use {(error.headers or {}).get('Allow', 'another method')}",
    }.get(error.status_code, error.detail)
    code = HTTP_CODES.get(error.status_code, f"http_{error.status_code}")
    return _response(request.scope, Refusal(error.status_code, code, message), error.headers)


def parameter_sentence(problem: Mapping[str, Any]) -> str:
    name = problem["loc"][-1]
    if problem["type"] == "extra_forbidden":
        return f"{name} is not a parameter of this request"
    return f"{name} is {str(problem['input'])[:40]!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"


class UnforeseenErrors:
    """ASGI: turns whatever the table does not know into a plain 500, logged once."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, note_start)
        except Exception:
            if scope["type"] != "http" or started:
                raise
            logger.exception("%s %s failed unforeseen", scope["method"], scope["path"])
            await _response(scope, Refusal(500, "internal", INTERNAL))(scope, receive, send)
