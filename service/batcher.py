"""Many callers, one queue, some worker threads with one batch at a time each; knows neither tensors nor HTTP.

No worker is idle while anything waits: whichever is free takes its share of what is there, at most a moment later if
more is known to come. Every future ends, with a result or with a BatcherError.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from service.batcher_errors import BatcherError, BatchItemError, DrainingError, QueueFullError, WorkerDiedError
from service.deadline import deadline
from service.threads import stay_behind_the_loop

Item = TypeVar("Item")
Result = TypeVar("Result")

LINGER_S = 0.06
"""How long a batch may wait for items that are known to come: on a CPU what prepares them has use for the core."""
CROWDED_S = 1.0
"""Since two callers were here at one time: the next batch would hardly have the machine for itself."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer(Generic[Result]):
    result: Result
    queue_s: float


@dataclass(eq=False, slots=True)
class _Entry(Generic[Item, Result]):
    item: Item
    future: asyncio.Future[Answer[Result]]
    submitted_at: float
    deadline: float
    started_at: float | None = None
    left: bool = False

    @property
    def gone(self) -> bool:
        """Its caller has left, or is leaving: the deadline holds even where the loop is too busy to say so."""
        return self.left or time.monotonic() >= self.deadline


@dataclass(eq=False, slots=True)
class _Worker(Generic[Item, Result]):
    number: int
    alive: bool = True
    is_alone: bool = False
    busy_since: float | None = None
    busy_s: float = 0.0
    batch: list[_Entry[Item, Result]] = field(default_factory=list)


class WorkerState(NamedTuple):
    number: int
    alive: bool
    busy_s: float
    """In batches that have ended."""


_Outcome: TypeAlias = tuple[_Entry[Item, Result], Result | BatcherError | None]


class Batcher(Generic[Item, Result]):
    """`process(items, has_left, worker)` returns one result per item, in order; None only where `has_left(i)` is true.

    Workers are numbered from 0, one call at a time each; None is one of several where no other works, nor is likely to.
    `coming()` says how many items are on their way. `on_batch(size)`, `on_wait(seconds)` and `on_split()` run on the
    workers' threads; `on_cancel` hears "queue" or "engine" on the loop.
    """

    def __init__(
        self,
        process: Callable[[list[Item], Callable[[int], bool], int | None], Sequence[Result | None]],
        *,
        max_batch_size: int,
        max_queue_size: int,
        coming: Callable[[], int] = lambda: 0,
        on_batch: Callable[[int], None] = lambda size: None,
        on_wait: Callable[[float], None] = lambda seconds: None,
        on_split: Callable[[], None] = lambda: None,
        on_cancel: Callable[[str], None] = lambda stage: None,
    ) -> None:
        self._process = process
        self._max_batch_size, self._max_queue_size = max_batch_size, max_queue_size
        self._coming = coming
        self._on_batch, self._on_wait, self._on_split, self._on_cancel = on_batch, on_wait, on_split, on_cancel
        self._queue: deque[_Entry[Item, Result]] = deque()
        self._open: set[_Entry[Item, Result]] = set()
        self._changed = threading.Condition()
        self._closing = False
        self._seconds_per_item = 0.0
        self._crowded_at = -CROWDED_S
        self._workers: list[_Worker[Item, Result]] = []
        self._threads: list[threading.Thread] = []

    def start(self, workers: int = 1) -> None:
        """Call on the event loop that will submit."""
        self._loop = asyncio.get_running_loop()
        self._workers = [_Worker(number) for number in range(workers)]
        self._threads = [
            threading.Thread(target=self._work, args=(worker,), name=f"batcher-{worker.number}", daemon=True)
            for worker in self._workers
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether every worker is; the others go on without one that died."""
        return self._workers != [] and all(worker.alive for worker in self._workers)

    @property
    def workers(self) -> list[WorkerState]:
        return [WorkerState(worker.number, worker.alive, worker.busy_s) for worker in self._workers]

    @property
    def depth(self) -> int:
        """How many wait; those that run are not counted."""
        return len(self._queue)

    @property
    def pending(self) -> int:
        """How many callers wait for an answer, queued or running."""
        return len(self._open)

    @property
    def busy_s(self) -> float:
        """Seconds since the longest running call of `process` began; 0 when all are idle."""
        now = time.monotonic()
        return max((now - since for worker in self._workers if (since := worker.busy_since)), default=0.0)

    @property
    def estimated_wait_s(self) -> float:
        """How long what is open takes, at the measured rate."""
        return len(self._open) * self._seconds_per_item / max(1, self._alive_workers)

    async def submit(self, item: Item, *, timeout_s: float) -> Answer[Result]:
        entry = self._accept(item, timeout_s)
        try:
            async with deadline(timeout_s):
                return await entry.future
        except asyncio.CancelledError:
            self._on_cancel("queue" if entry.started_at is None else "engine")
            raise
        finally:
            self._leave(entry)
            del entry  # an error leads here: no ring

    async def close(self, *, drain: bool = True, timeout_s: float | None = None) -> None:
        """Refuse new items, finish (or, without `drain`, refuse) the waiting ones, end the workers."""
        with self._changed:
            self._closing = True
            refused = [] if drain else [self._queue.popleft() for _ in range(len(self._queue))]
            self._changed.notify_all()
        self._resolve([(entry, DrainingError("the service is shutting down")) for entry in refused])
        await asyncio.to_thread(self._join, timeout_s)
        self._fail(self._open)

    def _join(self, timeout_s: float | None) -> None:
        until = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))

    @property
    def _alive_workers(self) -> int:
        return sum(worker.alive for worker in self._workers)

    @property
    def _idle_workers(self) -> int:
        return sum(worker.alive and not worker.batch for worker in self._workers)

    def give_up(self, reason: str) -> None:
        """Fail every caller now, whatever the worker does; call on the event loop."""
        self._closing = True
        self._resolve([(entry, WorkerDiedError(reason)) for entry in self._open])

    def _accept(self, item: Item, timeout_s: float) -> _Entry[Item, Result]:
        now = time.monotonic()
        with self._changed:
            if self._closing:
                raise DrainingError("the service is shutting down")
            if not self._alive_workers:
                raise WorkerDiedError("the worker thread has ended")
            if len(self._queue) >= self._max_queue_size:
                raise QueueFullError(len(self._queue), self.estimated_wait_s)
            entry = _Entry[Item, Result](item, self._loop.create_future(), now, now + timeout_s)
            self._queue.append(entry)
            self._open.add(entry)
            if len(self._open) > 1 or self._coming():
                self._crowded_at = now
            self._changed.notify()
        return entry

    def _leave(self, entry: _Entry[Item, Result]) -> None:
        entry.left = True
        self._open.discard(entry)
        if entry.started_at is None:
            with self._changed, contextlib.suppress(ValueError):
                self._queue.remove(entry)

    def _work(self, worker: _Worker[Item, Result]) -> None:
        stay_behind_the_loop()
        try:
            while self._take_batch(worker):
                began = time.monotonic()
                outcomes = self._outcomes(worker, worker.batch)
                seconds = (time.monotonic() - began) / len(worker.batch)
                self._seconds_per_item = 0.8 * (self._seconds_per_item or seconds) + 0.2 * seconds
                worker.batch = []  # idle, before those who are answered can ask again
                self._to_loop(self._resolve, outcomes)
                del outcomes
        except BaseException:
            logger.critical("worker thread %d died", worker.number, exc_info=True)
        finally:
            worker.busy_since = None
            with self._changed:  # whoever submits sees a living worker or is failed here
                worker.alive = False
                self._to_loop(self._fail, worker.batch if self._alive_workers else self._open)

    def _take_batch(self, worker: _Worker[Item, Result]) -> bool:
        """Blocks until the worker's batch has work; False only when closed and drained."""
        batch = worker.batch
        with self._changed:
            while not batch and not (self._closing and not self._queue):
                self._changed.wait_for(lambda: self._queue or self._closing)
                self._changed.wait_for(self._is_complete, timeout=LINGER_S)
                alive, idle = self._alive_workers, self._idle_workers
                share = min(self._max_batch_size, -(-len(self._queue) // idle))
                now = time.monotonic()
                while self._queue and len(batch) < share:
                    entry = self._queue.popleft()
                    entry.started_at = now
                    if not entry.gone:
                        batch.append(entry)
                worker.is_alone = 1 < alive == idle and not self._queue and now > self._crowded_at + CROWDED_S
                if self._queue:
                    self._changed.notify()
        if not batch:
            return False
        self._on_batch(len(batch))
        for entry in batch:
            self._on_wait(now - entry.submitted_at)
        return True

    def _is_complete(self) -> bool:
        """Whether waiting would make the batch no larger, or leave a core without work."""
        return self._closing or self._coming() < self._idle_workers or not 0 < len(self._queue) < self._max_batch_size

    def _outcomes(
        self, worker: _Worker[Item, Result], batch: list[_Entry[Item, Result]]
    ) -> list[_Outcome[Item, Result]]:
        """A batch that fails is tried again in halves, until the guilty item stands alone."""
        batch = [entry for entry in batch if not entry.gone]
        if not batch:
            return []
        began = worker.busy_since = time.monotonic()
        try:
            results = self._process(
                [entry.item for entry in batch], lambda i: batch[i].gone, None if worker.is_alone else worker.number
            )
            return list(zip(batch, results, strict=True))
        except Exception as error:
            logger.warning("a batch of %d failed: %r", len(batch), error, exc_info=len(batch) == 1)
            if len(batch) == 1:
                return [(batch[0], BatchItemError(f"{type(error).__name__}: {error}"))]
        finally:
            worker.busy_since = None
            worker.busy_s += time.monotonic() - began
        self._on_split()
        half = len(batch) // 2
        return self._outcomes(worker, batch[:half]) + self._outcomes(worker, batch[half:])

    def _to_loop(self, callback: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _resolve(self, outcomes: Sequence[_Outcome[Item, Result]]) -> None:
        for entry, outcome in outcomes:
            if entry.future.done():
                continue
            if isinstance(outcome, BatcherError):
                entry.future.set_exception(outcome)
            elif outcome is None:
                if not entry.gone:
                    entry.future.set_exception(BatchItemError("no result for an item whose caller was still waiting"))
            else:
                entry.future.set_result(Answer(outcome, (entry.started_at or 0.0) - entry.submitted_at))

    def _fail(self, entries: Iterable[_Entry[Item, Result]]) -> None:
        self._resolve([(entry, WorkerDiedError("the worker thread has ended")) for entry in entries])
