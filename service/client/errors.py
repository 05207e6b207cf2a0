"""What a client may meet: each error carries a code, a sentence and the id of its request.

ClientError
    RefusedError           4xx: this request will never do; the code says why
        UnauthorizedError  401: no key, or an unknown one
    BusyError              429 or 503, and the time was too short to come back as asked
    DeadlineError          the time was over, here or there (504)
    ServiceError           any other answer: a fault, or not an answer of this service
    UnreachableError       no answer: nobody listens, or the connection was cut again and again
"""

from collections.abc import Mapping

import httpx2
from pydantic import ValidationError

from service.schemas import ErrorBody


class ClientError(Exception):
    def __init__(self, code: str, message: str, *, request_id: str, status: int | None = None) -> None:
        self.code, self.message, self.request_id, self.status = code, message, request_id, status
        super().__init__(message)


class RefusedError(ClientError):
    pass


class UnauthorizedError(RefusedError):
    pass


class BusyError(ClientError):
    pass


class DeadlineError(ClientError):
    pass


class ServiceError(ClientError):
    pass


class UnreachableError(ClientError):
    pass


KINDS: Mapping[int, type[ClientError]] = {
    401: UnauthorizedError,
    429: BusyError,
    503: BusyError,
    504: DeadlineError,
}


def error_in(response: httpx2.Response, request_id: str) -> ClientError:
    """The error that an answer tells of; a proxy's is in words of its own."""
    status = response.status_code
    kind = KINDS.get(status, RefusedError if 400 <= status < 500 else ServiceError)
    try:
        told = ErrorBody.model_validate_json(response.content).error
    except ValidationError:
        message = f"{response.url} answered {status} {response.reason_phrase}, which is no answer of this service"
        return kind(f"http_{status}", message, request_id=request_id, status=status)
    return kind(told.code, told.message, request_id=request_id, status=status)


def unreachable(error: httpx2.TransportError, url: httpx2.URL, request_id: str) -> UnreachableError:
    reason = str(error) or type(error).__name__
    return UnreachableError("unreachable", f"no answer from {url}: {reason}", request_id=request_id)


def deadline_passed(timeout_s: float, request_id: str) -> DeadlineError:
    return DeadlineError("deadline_exceeded", f"no answer within {timeout_s:.3g} s", request_id=request_id)
