"""Requests with many pictures feed the queue at its own pace, and leave room in it for others.

However many such requests there are, together they have at most half of the queue: a single picture waits for no more
than that. Where the queue is full all the same, they wait until it is not; time limits go on meanwhile.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request

from service.batcher_errors import QueueFullError
from service.captioned import Captioned
from service.deadline import deadline
from service.model_source import LoadedModel
from service.passage import RequestRecord
from service.pipeline import Pipeline
from shared.bundle import DecodeOptions

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOK_EVERY_S = 0.02


class Pace:
    def __init__(self, pipeline: Pipeline, *, max_batch_size: int, max_queue_size: int) -> None:
        self._pipeline = pipeline
        self._max_batch_size, self._half_queue = max_batch_size, max(1, max_queue_size // 2)
        self._places = asyncio.Semaphore(self._half_queue)

    @property
    def at_once(self) -> int:
        """Pictures of one request that are under way: a batch for each worker, and one that is decoded meanwhile."""
        return min(self._half_queue, self._max_batch_size * (1 + len(self._pipeline.batcher.workers)))

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A request's place in the service, waited for while the queue is full."""
        async with self.deadline(math.inf):
            place = await self._place()
        with place:
            yield

    async def _place(self) -> contextlib.ExitStack:
        while True:
            with contextlib.suppress(QueueFullError), contextlib.ExitStack() as stack:
                stack.enter_context(self._pipeline.place())
                return stack.pop_all()
            await asyncio.sleep(LOOK_EVERY_S)

    def deadline(self, timeout_s: float) -> AbstractAsyncContextManager[None]:
        """`timeout_s` may only shorten the time that the service gives."""
        return deadline(min(timeout_s, self._pipeline.timeout_s))

    async def caption(
        self,
        data: bytes,
        options: DecodeOptions,
        model: LoadedModel,
        *,
        record: RequestRecord | None = None,
    ) -> Captioned:
        """Call within a deadline: the queue may stay full."""
        async with self._places:
            while True:
                if not self._pipeline.is_full:
                    with contextlib.suppress(QueueFullError):
                        return await self._pipeline.caption(lambda: data, len(data), options, model, record=record)
                await asyncio.sleep(LOOK_EVERY_S)


async def pace_of(request: Request) -> Pace:
    return request.app.state.pace


PaceOf = Annotated[Pace, Depends(pace_of)]


async def as_finished(
    items: AsyncIterator[Item], work: Callable[[Item], Awaitable[Result]], *, at_once: int
) -> AsyncIterator[Result]:
    """Results, the first to finish first. No item is asked for while `at_once` are under way."""
    working: set[asyncio.Future[Result]] = set()
    pulling: asyncio.Future[Item | None] | None = None
    more = True
    try:
        while more or working:
            if more and pulling is None and len(working) < at_once:
                pulling = asyncio.ensure_future(_next(items))
            watched: set[asyncio.Future[Any]] = {*working, pulling} if pulling else {*working}
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            finished = working & done
            working -= finished
            if pulling and pulling in done:
                item, pulling = pulling.result(), None
                more = item is not None
                if item is not None:
                    working.add(asyncio.ensure_future(work(item)))
            for each in finished:
                yield each.result()
    finally:
        unfinished = [task for task in (*working, pulling) if task and task.cancel()]
        await asyncio.gather(*unfinished, return_exceptions=True)


async def _next(items: AsyncIterator[Item]) -> Item | None:
    return await anext(items, None)
