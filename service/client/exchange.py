"""From a request to its result, without input or output: a generator says what to send and how long to wait.

    Send    -> httpx2.Response, or the httpx2.TransportError that came instead
    Wait    -> None

Answers 429 and 503 are asked again when their `Retry-After` says, within the one deadline of the call, and so is what
has no answer, a few times: to caption a picture twice does no harm. Whoever drives the generator knows how requests
travel and how time passes; everything else is here, once for both clients.
"""

import math
import random
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TypeAlias, TypedDict, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from service.client.errors import ClientError, ServiceError, deadline_passed, error_in, unreachable
from service.client.pictures import Picture
from service.schemas import CaptionBody, ModelBody

UNANSWERED_TRIES = 4
FIRST_WAIT_S = 0.1
"""After a cut connection; three times as long after each further one."""
SPREAD = 0.2
"""Waits are longer by up to this share, so that clients which were refused together do not come back together."""
TIMED_OUT = (httpx2.ReadTimeout, httpx2.WriteTimeout, httpx2.PoolTimeout)
HOPELESS = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)


@dataclass(frozen=True)
class Send:
    request: httpx2.Request
    left_s: float
    """Until the deadline."""


@dataclass(frozen=True)
class Wait:
    seconds: float


Result = TypeVar("Result")
Body = TypeVar("Body", bound=BaseModel)
Outcome: TypeAlias = httpx2.Response | httpx2.TransportError | None
Exchange: TypeAlias = Generator[Send | Wait, Outcome, Result]


class Options(TypedDict, total=False):
    """Of a caption; what is left out is the model's own."""

    beam_size: int
    n: int
    max_length: int
    explain: bool


@dataclass(frozen=True)
class Answer:
    """One of many: `index` counts the pictures as they were given. It has a caption, or an error."""

    index: int
    picture: Picture
    result: CaptionBody | None = None
    error: ClientError | OSError | None = None

    @property
    def caption(self) -> str | None:
        return self.result.caption if self.result else None


@dataclass(frozen=True)
class Call:
    """A request, as often as it takes."""

    method: str
    url: httpx2.URL
    headers: Mapping[str, str]
    timeout_s: float
    content: bytes = b""
    accepts: tuple[int, ...] = (200,)
    again: tuple[int, ...] = (429, 503)
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def request(self, left_s: float) -> httpx2.Request:
        told = {"X-Request-Id": self.request_id, "X-Request-Timeout-Ms": str(max(1, math.floor(left_s * 1000)))}
        return httpx2.Request(
            self.method,
            self.url,
            headers={**self.headers, **told},
            content=self.content,
            extensions={"timeout": httpx2.Timeout(left_s).as_dict()},
        )

    def failure(self, outcome: Outcome, unanswered: int) -> tuple[ClientError, float]:
        """What went wrong, and the seconds after which it may go well; infinite for never."""
        if isinstance(outcome, httpx2.Response):
            wait_s = (_retry_after_s(outcome) or FIRST_WAIT_S) if outcome.status_code in self.again else math.inf
            return error_in(outcome, self.request_id), wait_s
        assert outcome is not None
        if isinstance(outcome, TIMED_OUT):
            return deadline_passed(self.timeout_s, self.request_id), math.inf
        is_last = unanswered == UNANSWERED_TRIES or isinstance(outcome, HOPELESS)
        wait_s = math.inf if is_last else FIRST_WAIT_S * 3 ** (unanswered - 1)
        return unreachable(outcome, self.url, self.request_id), wait_s


class Calls:
    """What may be asked of one service."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        timeout_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._url = _checked(url)
        if not timeout_s > 0:
            raise ValueError(f"timeout_s is {timeout_s}; it must be more than 0")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout_s, self._clock, self._chance = timeout_s, clock, chance

    def caption(self, picture: bytes, options: Options, timeout_s: float | None = None) -> Exchange[CaptionBody]:
        call = Call(
            "POST",
            self._at("caption").copy_merge_params({name: str(value).lower() for name, value in options.items()}),
            {**self._headers, "Content-Type": "application/octet-stream"},
            timeout_s or self._timeout_s,
            content=picture,
        )
        return self._exchange(call, partial(_parsed, CaptionBody))

    def model(self, timeout_s: float | None = None) -> Exchange[ModelBody]:
        call = Call("GET", self._at("model"), self._headers, timeout_s or self._timeout_s)
        return self._exchange(call, partial(_parsed, ModelBody))

    def ready(self, timeout_s: float | None = None) -> Exchange[bool]:
        """503 is an answer here, and not asked again."""
        timeout_s = timeout_s or self._timeout_s
        call = Call("GET", self._at("readyz"), self._headers, timeout_s, accepts=(200, 503), again=())
        return self._exchange(call, lambda call, response: response.status_code == 200)

    def _at(self, path: str) -> httpx2.URL:
        return self._url.copy_with(path=f"{self._url.path.rstrip('/')}/{path}")

    def _exchange(self, call: Call, parse: Callable[[Call, httpx2.Response], Result]) -> Exchange[Result]:
        deadline = self._clock() + call.timeout_s
        unanswered = 0
        while (left_s := deadline - self._clock()) > 0:
            outcome = yield Send(call.request(left_s), left_s)
            if isinstance(outcome, httpx2.Response):
                if outcome.status_code in call.accepts:
                    return parse(call, outcome)
            else:
                unanswered += 1
            error, wait_s = call.failure(outcome, unanswered)
            wait_s *= 1 + SPREAD * self._chance()
            if self._clock() + wait_s >= deadline:
                raise error
            yield Wait(wait_s)
        raise deadline_passed(call.timeout_s, call.request_id)


def _checked(url: str) -> httpx2.URL:
    try:
        found = httpx2.URL(url)
    except httpx2.InvalidURL:
        found = httpx2.URL()
    if found.scheme not in ("http", "https") or not found.host:
        raise ValueError(f"the service's address is {url!r}; it must be like http://localhost:8000")
    return found


def whole(response: httpx2.Response, content: bytes) -> httpx2.Response:
    """A streamed response with the bytes that came."""
    return httpx2.Response(response.status_code, headers=response.headers, content=content, request=response.request)


def _parsed(kind: type[Body], call: Call, response: httpx2.Response) -> Body:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError:
        message = f"the answer of {call.url} is none of this service; does the address name another one?"
        raise ServiceError("unexpected_answer", message, request_id=call.request_id, status=200) from None


def _retry_after_s(response: httpx2.Response) -> float:
    """0 where it says nothing, or nothing that can be understood."""
    told = response.headers.get("Retry-After", "")
    if told.isdigit():
        return float(told)
    try:
        at = parsedate_to_datetime(told)
    except ValueError:
        return 0.0
    return max(0.0, (at.astimezone(UTC) - datetime.now(UTC)).total_seconds())
