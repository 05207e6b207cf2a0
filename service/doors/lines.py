"""Lines that one task makes and an answer writes out, perhaps while the request's body still arrives.

Most clients read nothing before they have sent everything: until then only as much is written as their operating system
takes for them, or both sides would wait for each other.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

EARLY_BYTES = 32_768


class Lines:
    def __init__(self, body_read: asyncio.Event) -> None:
        self._body_read = body_read
        self._lines: deque[str] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self.begun = False

    def put(self, line: str) -> None:
        self.begun = True
        self._lines.append(line + "\n")
        self._changed.set()

    def end(self) -> None:
        self._ended = True
        self._changed.set()

    async def some(self) -> None:
        """Until there is a line, or the end without any."""
        while not (self.begun or self._ended):
            await self._change()

    async def written(self) -> AsyncIterator[str]:
        """A line follows, or the end, after the body has been read: what was held back is not forgotten."""
        early = 0
        while self._lines or not self._ended:
            if self._lines and (self._ended or self._body_read.is_set() or early < EARLY_BYTES):
                line = self._lines.popleft()
                early += len(line)
                yield line
            else:
                await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
