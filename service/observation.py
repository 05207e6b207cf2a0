"""ASGI: every request gets an id, and at its end it is counted, timed, logged and, if asked for, traced.

`X-Request-Id` and `Server-Timing` are headers of every answer. What is between is noted in the request's record.
"""

import logging
import re
import secrets
import time
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.logs import FIELDS
from service.metrics import Metrics
from service.passage import RECORD, RequestRecord, Stage
from service.request_metrics import CLIENT_LEFT, NO_ROUTE

if TYPE_CHECKING:
    from service.tracing import Tracing

REQUEST_ID = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")
"""What a client may call its request; anything else gets an id of ours."""
QUIET_ROUTES = frozenset({"/livez", "/readyz", "/startupz", "/metrics", "/v2/health/live", "/v2/health/ready"})
"""Asked every few seconds by machines: logged with debug only."""

logger = logging.getLogger("service.requests")


class Observation:
    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: "Tracing | None") -> None:
        self.app = app
        self._metrics, self._tracing = metrics, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        record = scope[RECORD] = self._begin(scope)

        async def note_answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = [(b"x-request-id", record.request_id.encode()), (b"server-timing", server_timing(record))]
                message = {**message, "headers": [*message.get("headers", ()), *headers]}
            else:
                record.response_bytes += len(message.get("body", b""))
            await send(message)

        self._metrics.requests.in_flight += 1
        try:
            await self.app(scope, receive, note_answer)
        finally:
            self._metrics.requests.in_flight -= 1
            self._end(scope, record)

    def _begin(self, scope: Scope) -> RequestRecord:
        given = traceparent = tracestate = b""
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given = value
            elif name == b"traceparent":
                traceparent = value
            elif name == b"tracestate":
                tracestate = value
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        span = self._tracing.begin(traceparent, tracestate) if self._tracing else None
        return RequestRecord(request_id, time.monotonic(), span)

    def _end(self, scope: Scope, record: RequestRecord) -> None:
        ended = time.monotonic()
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        method = self._metrics.requests.known_method(route, scope["method"])
        status = record.status or CLIENT_LEFT
        if record.read:
            self._metrics.stage("read").observe(record.read.ended - record.read.began)
        if record.passage and record.passage.stages and status == 200:
            record.reply = Stage("reply", record.passage.stages[-1].ended, ended)
            self._metrics.stage("reply").observe(ended - record.reply.began)
        trace_id = self._tracing.end(record, route, method, status, ended) if self._tracing else None
        self._metrics.requests.end(
            route,
            method,
            status,
            seconds=ended - record.began,
            size=record.request_bytes,
            trace_id=trace_id,
        )
        level = logging.DEBUG if route in QUIET_ROUTES else logging.INFO
        if logger.isEnabledFor(level):
            fields = _log_fields(record, route, method, status, ended, trace_id)
            logger.log(level, "answered", extra={FIELDS: fields})


def server_timing(record: RequestRecord) -> bytes:
    """What has ended so far, in milliseconds, and all of it up to the answer's first byte."""
    parts = [f"{name};dur={1000 * (ended - began):.3f}" for name, began, ended in record.stages()]
    parts.append(f"total;dur={1000 * (time.monotonic() - record.began):.3f}")
    return ", ".join(parts).encode()


def _log_fields(
    record: RequestRecord, route: str, method: str, status: int, ended: float, trace_id: str | None
) -> dict[str, object]:
    """No header but the request's own id, no path, no query: the log tells nothing of what a client sent."""
    fields: dict[str, object] = {
        "request_id": record.request_id,
        "method": method,
        "route": route,
        "status": status,
        "duration_ms": round(1000 * (ended - record.began), 3),
        **{f"{name}_ms": round(1000 * (until - since), 3) for name, since, until in record.stages()},
        "request_bytes": record.request_bytes,
        "response_bytes": record.response_bytes,
    }
    if trace_id:
        fields["trace_id"] = trace_id
    return fields
