"""Threads that read pictures: as many as are wanted, whatever a picture does to one of them.

Work past its time limit fails its caller at once. Its thread cannot be stopped: until the work returns it is counted as
stuck, and another thread takes its place, for at most `max_stuck` of them. No thread keeps the process from ending.
Everything but the work itself runs on the event loop.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

from service.batcher_errors import DrainingError
from service.threads import stay_behind_the_loop

Result = TypeVar("Result")


class DecodeTimeoutError(ValueError):
    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"this picture could not be decoded within {timeout_s:.3g} s")


@dataclass(eq=False, slots=True)
class _Job:
    work: Callable[[], Any] | None
    future: asyncio.Future[Any]
    timer: asyncio.TimerHandle | None = None
    started_at: float | None = None
    is_stuck: bool = False


class DecodePool:
    def __init__(self, threads: int, *, timeout_s: float, max_stuck: int) -> None:
        self.stuck = 0
        self._threads, self._timeout_s, self._max_stuck = threads, timeout_s, max_stuck
        self._alive = 0
        self._closed = False
        self._open: set[_Job] = set()
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()

    @property
    def starved(self) -> bool:
        """Every thread is stuck, and no more may be made."""
        return self.stuck >= self._threads + self._max_stuck

    async def run(self, work: Callable[[], Result]) -> Result:
        """The work's own result or error, DecodeTimeoutError, or DrainingError once the pool is closed."""
        if self._closed:
            raise DrainingError("the service is shutting down")
        loop = asyncio.get_running_loop()
        job = _Job(work, loop.create_future())
        job.timer = loop.call_later(self._timeout_s, self._look_at, job)
        self._open.add(job)
        self._queue.put(job)
        self._hire()
        try:
            return await job.future
        finally:
            job.work = None  # it holds a whole body, and may still wait for its turn
            del job  # an error leads here: no ring, which only the garbage collector would open

    def close(self) -> None:
        """What waits or runs fails now; a running decode ends when it ends."""
        self._closed = True
        for job in self._open:
            if not job.future.done():
                job.future.set_exception(DrainingError("the service is shutting down"))
        for _ in range(self._alive):
            self._queue.put(None)

    def _hire(self) -> None:
        if self._alive < self._threads + min(self.stuck, self._max_stuck):
            self._alive += 1
            threading.Thread(target=self._work, name="decode", daemon=True).start()

    def _work(self) -> None:
        stay_behind_the_loop()
        while (job := self._queue.get()) is not None:
            job.started_at = time.monotonic()
            work, result, error = job.work, None, None
            try:
                result = work() if work else None
            except BaseException as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                job.future.get_loop().call_soon_threadsafe(self._finish, job, result, error)
            del job, work, result, error  # while this thread waits, nothing of the picture is kept

    def _finish(self, job: _Job, result: object, error: BaseException | None) -> None:
        self._open.discard(job)
        if job.timer:
            job.timer.cancel()
        if job.is_stuck:
            self.stuck -= 1
            if self._alive > self._threads + min(self.stuck, self._max_stuck):
                self._alive -= 1
                self._queue.put(None)
        if job.future.done():
            return
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)

    def _look_at(self, job: _Job) -> None:
        """The limit is on the work, not on the wait for its turn."""
        left_s = self._timeout_s - (time.monotonic() - job.started_at if job.started_at else 0)
        if left_s > 0:
            job.timer = job.future.get_loop().call_later(left_s, self._look_at, job)
            return
        job.is_stuck = True
        self.stuck += 1
        if not job.future.done():
            job.future.set_exception(DecodeTimeoutError(self._timeout_s))
        self._hire()
