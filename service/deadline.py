"""A time limit, in the words of the service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.batcher_errors import DeadlineExceededError


@asynccontextmanager
async def deadline(timeout_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise DeadlineExceededError(timeout_s) from None
