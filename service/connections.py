"""Connections that take more than their share: uvicorn ends only those that say nothing after an answer.

A guard around uvicorn's protocol ends a connection whose request head does not arrive in time or whose client does not
read its answer, and bounds how many there are. At the bound, the connection that has gone without a request for
longest makes room; where all are in one, a new connection is told 503, unless it is a probe that asks: who is busy must
not be taken for dead.
"""

import asyncio
from collections import OrderedDict
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

from service.bare_answer import refusal

LOOK_EVERY_S = 1.0
RETRY_AFTER_S = 1
TOO_MANY = f"too many connections; come back in {RETRY_AFTER_S} s"
LAST_WORDS_S = 1.0
MAX_SURPLUS = 100
"""Connections beyond the bound that are given time to ask, and to read their answer; the others are cut off."""
PROBES = (b"GET /livez ", b"GET /readyz ", b"GET /startupz ")


class Connections:
    """All of one port. `protocol` is what uvicorn takes as `http`."""

    def __init__(self, *, max_connections: int, header_timeout_s: float, write_timeout_s: float) -> None:
        self.header_timeout_s, self.write_timeout_s = header_timeout_s, write_timeout_s
        self.look_every_s = min(LOOK_EVERY_S, header_timeout_s / 4, write_timeout_s / 4)
        self._max_connections = max_connections
        self._open = OrderedDict[GuardedConnection, None]()
        """The one that has gone without a request for longest comes first."""
        self._surplus: set[SurplusConnection] = set()

    def protocol(self, **arguments: Any) -> asyncio.Protocol:
        """The two kinds of connection have every method that asyncio calls, but inherit nothing."""
        if self._has_room():
            return cast(asyncio.Protocol, GuardedConnection(H11Protocol(**arguments), self._open, self))
        return cast(asyncio.Protocol, SurplusConnection(H11Protocol(**arguments), self._surplus))

    def _has_room(self) -> bool:
        if len(self._open) < self._max_connections:
            return True
        idle = next((each for each in self._open if each.is_idle), None)
        if idle is not None:
            idle.end()
        return idle is not None


class GuardedConnection:
    def __init__(
        self, inner: H11Protocol, siblings: "OrderedDict[GuardedConnection, None]", limits: Connections
    ) -> None:
        self._inner, self._siblings, self._limits = inner, siblings, limits
        self._loop = asyncio.get_running_loop()
        self._head_since: float | None = self._loop.time()
        self._unsent_since: float | None = None
        self._transport: asyncio.Transport | None = None
        siblings[self] = None

    @property
    def is_idle(self) -> bool:
        """No request is in progress, as far as its head has arrived."""
        return self._inner.cycle is None or self._inner.cycle.response_complete

    def end(self) -> None:
        self._siblings.pop(self, None)
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._timer = self._loop.call_later(self._limits.look_every_s, self._look, transport)
        self._inner.connection_made(transport)
        if self not in self._siblings:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)
        if self.is_idle:
            self._head_since = self._head_since or self._loop.time()
        else:
            self._head_since = None
            if self in self._siblings:
                self._siblings.move_to_end(self)

    def eof_received(self) -> None:
        self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._siblings.pop(self, None)
        self._timer.cancel()
        self._inner.connection_lost(error)

    def _look(self, transport: asyncio.Transport) -> None:
        now = self._loop.time()
        self._unsent_since = (self._unsent_since or now) if transport.get_write_buffer_size() else None
        head_s, unsent_s = now - (self._head_since or now), now - (self._unsent_since or now)
        if head_s > self._limits.header_timeout_s or unsent_s > self._limits.write_timeout_s:
            self.end()
        else:
            self._timer = self._loop.call_later(self._limits.look_every_s, self._look, transport)


class SurplusConnection:
    """Answers a probe; else refuses, and passes over what follows: with data that nobody took the answer is lost."""

    def __init__(self, inner: H11Protocol, siblings: "set[SurplusConnection]") -> None:
        self._inner, self._siblings = inner, siblings
        self._transport: asyncio.Transport | None = None
        self._is_probe: bool | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        if len(self._siblings) >= MAX_SURPLUS:
            transport.abort()
            return
        self._siblings.add(self)
        self._transport = transport
        asyncio.get_running_loop().call_later(LAST_WORDS_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._transport and self._is_probe is None:
            self._is_probe = data.startswith(PROBES)
            if self._is_probe:
                self._inner.connection_made(self._transport)
            else:
                self._transport.write(refusal("too_many_connections", TOO_MANY, retry_after_s=RETRY_AFTER_S))
                self._transport.write_eof()
        if self._is_probe:
            self._inner.data_received(data)

    def eof_received(self) -> None:
        if self._is_probe:
            self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._is_probe:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._is_probe:
            self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._siblings.discard(self)
        if self._is_probe:
            self._inner.connection_lost(error)
