"""Small real functions as a batcher's work, and batchers around them."""

import asyncio
import threading
from collections.abc import Callable, Sequence

from service.batcher import Batcher

HasLeft = Callable[[int], bool]


def doubled(items: list[int], has_left: HasLeft, worker: int | None) -> list[int]:
    return [2 * item for item in items]


def worker_number() -> int:
    """Of the worker whose thread asks."""
    return int(threading.current_thread().name.rpartition("-")[2])


class Gate:
    """Work that stops at a gate, and remembers its batches."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, items: list[int], has_left: HasLeft, worker: int | None) -> list[int]:
        self.batches.append(items)
        self.entered.release()
        assert self.opened.wait(10)
        return doubled(items, has_left, worker)

    async def first_batch_runs(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=10)


def started(
    process: Callable[[list[int], HasLeft, int | None], Sequence[int | None]],
    *,
    workers: int = 1,
    max_batch_size: int = 4,
    max_queue_size: int = 1000,
    coming: Callable[[], int] = lambda: 0,
    on_cancel: Callable[[str], None] = lambda stage: None,
    on_batch: Callable[[int], None] = lambda size: None,
    on_wait: Callable[[float], None] = lambda seconds: None,
) -> Batcher[int, int]:
    batcher = Batcher[int, int](
        process,
        max_batch_size=max_batch_size,
        max_queue_size=max_queue_size,
        coming=coming,
        on_batch=on_batch,
        on_wait=on_wait,
        on_cancel=on_cancel,
    )
    batcher.start(workers)
    return batcher


async def submitted(batcher: Batcher[int, int], item: int, timeout_s: float = 10) -> asyncio.Task[int]:
    """The task of one submission that is already in the queue."""

    async def result() -> int:
        return (await batcher.submit(item, timeout_s=timeout_s)).result

    task = asyncio.create_task(result())
    await asyncio.sleep(0)
    return task
