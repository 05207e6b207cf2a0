"""How a batcher ends: drained, at once, stuck or dead."""

import asyncio

import pytest

from service.batcher_errors import DrainingError, WorkerDiedError
from tests.service.batching import Gate, HasLeft, doubled, started, submitted, worker_number

pytestmark = pytest.mark.anyio


async def test_closing_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    gate = Gate()
    batcher = started(gate)
    tasks = [await submitted(batcher, 0)]
    await gate.first_batch_runs()
    tasks += [await submitted(batcher, i) for i in range(1, 10)]
    closing = asyncio.create_task(batcher.close())
    await asyncio.sleep(0)
    with pytest.raises(DrainingError):
        await batcher.submit(99, timeout_s=10)
    gate.opened.set()
    assert await asyncio.gather(*tasks) == [2 * i for i in range(10)]
    await closing
    assert not batcher.alive


async def test_closing_without_draining_refuses_what_waits() -> None:
    gate = Gate()
    batcher = started(gate)
    running = await submitted(batcher, 0)
    await gate.first_batch_runs()
    waiting = await submitted(batcher, 1)
    closing = asyncio.create_task(batcher.close(drain=False))
    with pytest.raises(DrainingError):
        await waiting
    gate.opened.set()
    assert await running == 0
    await closing


async def test_a_worker_that_will_not_end_does_not_keep_its_callers() -> None:
    gate = Gate()
    batcher = started(gate)
    stuck = await submitted(batcher, 0)
    await gate.first_batch_runs()
    await asyncio.sleep(0.02)
    assert batcher.busy_s > 0.01
    await batcher.close(timeout_s=0.05)
    with pytest.raises(WorkerDiedError):
        await stuck
    gate.opened.set()


async def test_the_death_of_the_worker_is_seen_and_ends_every_future() -> None:
    gate = Gate()

    def dying(items: list[int], has_left: HasLeft, worker: int | None) -> list[int]:
        gate(items, has_left, worker)
        raise SystemExit

    batcher = started(dying)
    tasks = [await submitted(batcher, 0)]
    await gate.first_batch_runs()
    tasks += [await submitted(batcher, i) for i in range(1, 10)]
    assert batcher.alive
    gate.opened.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, WorkerDiedError) for outcome in outcomes)
    assert not batcher.alive
    assert batcher.pending == 0
    with pytest.raises(WorkerDiedError):
        await batcher.submit(1, timeout_s=10)


async def test_an_idle_worker_counts_as_neither_busy_nor_dead() -> None:
    batcher = started(doubled)
    await batcher.submit(1, timeout_s=10)
    assert batcher.alive
    assert batcher.busy_s == 0
    await batcher.close()


async def test_the_death_of_one_worker_is_seen_and_the_others_go_on() -> None:
    gates = [Gate(), Gate()]

    def mortal(items: list[int], has_left: HasLeft, worker: int | None) -> list[int]:
        results = gates[worker_number()](items, has_left, worker)
        if worker_number() == 0:
            raise SystemExit
        return results

    batcher = started(mortal, workers=2, max_batch_size=1)
    tasks = [await submitted(batcher, 0), await submitted(batcher, 1)]
    for gate in gates:
        await gate.first_batch_runs()
    waiting = await submitted(batcher, 2)
    doomed, spared = tasks if gates[0].batches == [[0]] else tasks[::-1]
    gates[0].opened.set()
    with pytest.raises(WorkerDiedError):
        await doomed
    assert not batcher.alive
    gates[1].opened.set()
    assert await spared in (0, 2)
    assert await waiting == 4
    assert await (await submitted(batcher, 3)) == 6
    assert batcher.pending == 0
    await batcher.close()


async def test_the_longest_running_call_says_how_busy_the_workers_are() -> None:
    gates = [Gate(), Gate()]
    batcher = started(
        lambda items, has_left, worker: gates[items[0]](items, has_left, worker), workers=2, max_batch_size=1
    )
    first = await submitted(batcher, 0)
    await gates[0].first_batch_runs()
    await asyncio.sleep(0.05)
    second = await submitted(batcher, 1)
    await gates[1].first_batch_runs()
    assert batcher.busy_s > 0.05
    gates[0].opened.set()
    await first
    assert 0 < batcher.busy_s < 0.05
    gates[1].opened.set()
    await second
    await batcher.close()
    assert batcher.busy_s == 0
