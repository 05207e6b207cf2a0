"""Nothing is begun for a caller whose time has run out, and the caller is told in time."""

import asyncio
import threading
import time

import pytest

from service.batcher_errors import DeadlineExceededError
from tests.service.batching import Gate, HasLeft, doubled, started, submitted

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("place", ["running", "queued"])
async def test_a_deadline_is_kept_while_the_worker_is_busy(place: str) -> None:
    gate = Gate()
    batcher = started(gate)
    blocker = await submitted(batcher, 0, timeout_s=10 if place == "queued" else 0.1)
    await gate.first_batch_runs()
    victim = blocker if place == "running" else await submitted(batcher, 1, timeout_s=0.1)
    began = time.perf_counter()
    with pytest.raises(DeadlineExceededError):
        await victim
    assert time.perf_counter() - began < 0.15
    gate.opened.set()
    await asyncio.gather(blocker, return_exceptions=True)
    await batcher.close()
    assert [1] not in gate.batches, "an expired item was still run"
    assert batcher.pending == 0


async def test_an_expired_item_is_not_run_even_when_the_loop_was_too_busy_to_say_so() -> None:
    gate, sizes = Gate(), list[int]()
    batcher = started(gate, on_batch=sizes.append)
    first = await submitted(batcher, 0)
    await gate.first_batch_runs()
    expired = await submitted(batcher, 1, timeout_s=0.05)
    threading.Timer(0.1, gate.opened.set).start()
    time.sleep(0.2)  # the loop stands still on purpose
    with pytest.raises(DeadlineExceededError):
        await expired
    assert await first == 0
    assert gate.batches == [[0]]
    assert sizes == [1]
    await batcher.close()


async def test_running_work_is_told_of_a_deadline_even_when_the_loop_was_too_busy_to_say_so() -> None:
    told = threading.Event()

    def until_left(items: list[int], has_left: HasLeft, worker: int | None) -> list[None]:
        until = time.monotonic() + 5
        while not has_left(0) and time.monotonic() < until:
            time.sleep(0.001)
        told.set()
        return [None]

    batcher = started(until_left)
    task = await submitted(batcher, 0, timeout_s=0.05)
    assert told.wait(2)  # the loop stands still on purpose
    with pytest.raises(DeadlineExceededError):
        await task
    await batcher.close()


async def test_what_expires_in_a_failing_batch_is_not_tried_again() -> None:
    tried = list[list[int]]()

    def failing_late(items: list[int], has_left: HasLeft, worker: int | None) -> list[int]:
        tried.append(items)
        if len(items) > 1:
            time.sleep(0.3)
            raise RuntimeError("too many")
        return doubled(items, has_left, worker)

    gate = Gate()
    batcher = started(lambda items, has_left, worker: (gate if items == [9] else failing_late)(items, has_left, worker))
    blocker = await submitted(batcher, 9)
    await gate.first_batch_runs()
    short, long = await submitted(batcher, 0, timeout_s=0.1), await submitted(batcher, 1)
    gate.opened.set()
    time.sleep(0.5)  # the loop stands still on purpose
    assert await long == 2
    with pytest.raises(DeadlineExceededError):
        await short
    assert tried == [[0, 1], [1]]
    assert await blocker == 18
    await batcher.close()
