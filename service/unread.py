"""Answers that come before the end of their request's body: refusals, most of them.

A short body that nobody has begun to read is passed over by the server, and the connection serves the next request.
After any other the connection is closed, but not before the client has had a moment to read the answer: closing while
bytes arrive would make the operating system throw the answer away.
"""

import asyncio
import contextlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SHORT_BYTES = 1_000_000
READS_ON = "caption.reads_on"
"""Set in the scope of a request whose answer begins while its body is being read: it will be read to its end."""
LINGER_S = 1.0
LINGER_BYTES = 8_000_000


class UnreadBodies:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        unread, begun = _declared(scope), False
        closing = False
        last: Message | None = None

        async def note_end() -> Message:
            nonlocal unread, begun
            message = await receive()
            begun = True
            if not message.get("more_body", False):
                unread = 0
            return message

        async def withhold_last(message: Message) -> None:
            nonlocal closing, last
            is_cut_off = unread and (begun or unread > SHORT_BYTES) and READS_ON not in scope
            if message["type"] == "http.response.start" and is_cut_off:
                closing = True
                message.setdefault("headers", [])
                MutableHeaders(scope=message)["Connection"] = "close"
            if closing and message["type"] == "http.response.body" and not message.get("more_body", False):
                last = message
                message = {**message, "more_body": True}
            await send(message)

        await self.app(scope, note_end, withhold_last)
        if last is not None:
            await _linger(receive)
            await send({"type": "http.response.body", "body": b""})


def _declared(scope: Scope) -> float:
    """The bytes of the body; of one without a length nobody knows."""
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers:
        return float("inf")
    length = headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0


async def _linger(receive: Receive) -> None:
    passed = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while passed < LINGER_BYTES:
                message = await receive()
                passed += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
