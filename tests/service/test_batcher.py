"""The batcher with small real functions as its work; no model, no HTTP."""

import asyncio
import random
import threading
import time

import pytest

from service.batcher_errors import BatcherError, BatchItemError, QueueFullError
from tests.service.batching import Gate, HasLeft, doubled, started, submitted, worker_number

pytestmark = pytest.mark.anyio


async def test_every_caller_gets_the_result_of_its_own_item() -> None:
    batcher = started(doubled)
    answers = await asyncio.gather(*(batcher.submit(i, timeout_s=10) for i in range(50)))
    assert [answer.result for answer in answers] == [2 * i for i in range(50)]
    await batcher.close()


async def test_a_lone_item_does_not_wait_for_company() -> None:
    batcher = started(doubled)
    await batcher.submit(0, timeout_s=10)
    durations = []
    for i in range(50):
        began = time.perf_counter()
        answer = await batcher.submit(i, timeout_s=10)
        durations.append(time.perf_counter() - began)
        assert answer.queue_s < 0.1
    assert sorted(durations)[25] < 0.004
    await batcher.close()


async def test_what_arrives_during_a_batch_is_the_next_one_in_order() -> None:
    gate, sizes, waits = Gate(), list[int](), list[float]()
    batcher = started(gate, max_batch_size=4, on_batch=sizes.append, on_wait=waits.append)
    tasks = [await submitted(batcher, 0)]
    await gate.first_batch_runs()
    tasks += [await submitted(batcher, i) for i in range(1, 8)]
    assert (batcher.depth, batcher.pending) == (7, 8)
    gate.opened.set()
    assert await asyncio.gather(*tasks) == [2 * i for i in range(8)]
    assert gate.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]
    assert sizes == [1, 4, 3]
    assert len(waits) == 8
    await batcher.close()


async def test_whichever_worker_is_free_takes_what_is_there() -> None:
    gate, workers = Gate(), list[int]()

    def held_at_0(items: list[int], has_left: HasLeft, worker: int | None) -> list[int]:
        workers.append(worker_number())
        return gate(items, has_left, worker) if 0 in items else doubled(items, has_left, worker)

    batcher = started(held_at_0, workers=2, max_batch_size=2)
    held = await submitted(batcher, 0)
    await gate.first_batch_runs()
    tasks = [await submitted(batcher, i) for i in range(1, 8)]
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10, 12, 14]
    busy, *others = workers
    assert set(others) == {1 - busy}
    gate.opened.set()
    assert await held == 0
    await batcher.close()
    assert not batcher.alive


async def test_each_worker_runs_one_batch_at_a_time() -> None:
    running, most = [0, 0, 0], [0, 0, 0]

    def watched(items: list[int], has_left: HasLeft, worker: int | None) -> list[int]:
        number = worker_number()
        running[number] += 1
        most[number] = max(most[number], running[number])
        time.sleep(0.001)
        running[number] -= 1
        return doubled(items, has_left, worker)

    batcher = started(watched, workers=3, max_batch_size=2)
    answers = await asyncio.gather(*(batcher.submit(i, timeout_s=10) for i in range(200)))
    assert [answer.result for answer in answers] == [2 * i for i in range(200)]
    assert most == [1, 1, 1]
    await batcher.close()


async def test_a_worker_hears_that_it_is_alone_and_will_be(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, heard = Gate(), dict[int, int | None]()

    def hearing(items: list[int], has_left: HasLeft, worker: int | None) -> list[int]:
        heard.update((item, worker) for item in items)
        return gate(items, has_left, worker) if 1 in items else doubled(items, has_left, worker)

    batcher = started(hearing, workers=2)
    await (await submitted(batcher, 0))
    first = await submitted(batcher, 1)
    await gate.first_batch_runs()
    await (await submitted(batcher, 2))
    gate.opened.set()
    assert await first == 2
    await (await submitted(batcher, 3))
    monkeypatch.setattr("service.batcher.CROWDED_S", 0.0)
    await (await submitted(batcher, 4))
    await batcher.close()
    assert (heard[0], heard[1], heard[4]) == (None, None, None)
    assert heard[2] in (0, 1), "not alone"
    assert heard[3] in (0, 1), "alone, but a moment ago two were here"


async def test_idle_workers_share_what_waits() -> None:
    gate, sizes = Gate(), list[int]()

    def held(items: list[int], has_left: HasLeft, worker: int | None) -> list[int]:
        sizes.append(len(items))
        return gate(items, has_left, worker)

    coming = [2]
    batcher = started(held, workers=2, max_batch_size=8, coming=lambda: coming[0])
    tasks = [await submitted(batcher, i) for i in range(6)]
    coming[0] = 0
    for _ in range(2):
        await gate.first_batch_runs()
    gate.opened.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10]
    assert sizes == [3, 3]
    await batcher.close()


async def test_a_batch_waits_a_moment_for_what_is_known_to_come() -> None:
    gate, coming = Gate(), [2]
    gate.opened.set()
    batcher = started(gate, coming=lambda: coming[0])
    tasks = []
    for i in range(3):
        coming[0] = 2 - i
        tasks.append(await submitted(batcher, i))
    assert await asyncio.gather(*tasks) == [0, 2, 4]
    coming[0] = 1  # it never comes
    assert await (await submitted(batcher, 3)) == 6
    await batcher.close()
    assert gate.batches == [[0, 1, 2], [3]]


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    gate = Gate()
    batcher = started(gate, max_queue_size=2)
    tasks = [await submitted(batcher, 0)]
    await gate.first_batch_runs()
    tasks += [await submitted(batcher, i) for i in (1, 2)]
    began = time.perf_counter()
    with pytest.raises(QueueFullError) as refusal:
        await batcher.submit(3, timeout_s=10)
    assert time.perf_counter() - began < 0.05
    assert refusal.value.retry_after_s is not None
    assert refusal.value.retry_after_s >= 1
    gate.opened.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4]
    await batcher.close()


async def test_the_estimated_wait_follows_the_measured_rate() -> None:
    def slow(items: list[int], has_left: HasLeft, worker: int | None) -> list[int]:
        time.sleep(0.05 * len(items))
        return items

    batcher = started(slow)
    await asyncio.gather(*(batcher.submit(i, timeout_s=10) for i in range(8)))
    tasks = [await submitted(batcher, i) for i in range(10)]
    assert 0.3 < batcher.estimated_wait_s < 1.5
    await asyncio.gather(*tasks)
    await batcher.close()


async def test_an_item_whose_caller_left_is_not_run_and_frees_its_place() -> None:
    gate, stages = Gate(), list[str]()
    batcher = started(gate, max_queue_size=2, on_cancel=stages.append)
    first = await submitted(batcher, 0)
    await gate.first_batch_runs()
    leaving, staying = await submitted(batcher, 1), await submitted(batcher, 2)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert batcher.depth == 1
    late = await submitted(batcher, 3)
    gate.opened.set()
    assert await asyncio.gather(*[first, staying, late]) == [0, 4, 6]
    assert gate.batches == [[0], [2, 3]]
    assert stages == ["queue"]
    await batcher.close()


async def test_running_work_is_told_who_has_left() -> None:
    entered, seen, stages = threading.Event(), list[list[bool]](), list[str]()

    def steps(items: list[int], has_left: HasLeft, worker: int | None) -> list[int | None]:
        entered.set()
        until = time.monotonic() + 5
        while not has_left(0) and time.monotonic() < until:
            time.sleep(0.001)
        seen.append([has_left(i) for i in range(len(items))])
        return [None if has_left(i) else item for i, item in enumerate(items)]

    batcher = started(steps, on_cancel=stages.append)
    task = await submitted(batcher, 7)
    assert await asyncio.to_thread(entered.wait, 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await batcher.close()
    assert seen == [[True]]
    assert stages == ["engine"]


async def test_one_poisonous_item_fails_alone_among_63_good_ones() -> None:
    gate = Gate()

    def picky(items: list[int], has_left: HasLeft, worker: int | None) -> list[int]:
        results = gate(items, has_left, worker)
        if 13 in items:
            raise RuntimeError("cannot stand 13")
        return results

    batcher = started(picky, max_batch_size=64)
    blocker = await submitted(batcher, 100)
    await gate.first_batch_runs()
    tasks = [await submitted(batcher, i) for i in range(64)]
    gate.opened.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert await blocker == 200
    assert len(gate.batches[1]) == 64, "the test wants them all in one batch"
    assert len(gate.batches) <= 2 + 2 * 6
    assert isinstance(outcomes.pop(13), BatchItemError)
    assert outcomes == [2 * i for i in range(64) if i != 13]
    assert await (await submitted(batcher, 5)) == 10
    await batcher.close()


async def test_a_wrong_number_of_results_reaches_nobody() -> None:
    def forgetful(items: list[int], has_left: HasLeft, worker: int | None) -> list[int]:
        return items[1:] if len(items) > 1 or items == [3] else items

    batcher = started(forgetful, max_batch_size=8)
    outcomes = await asyncio.gather(*(batcher.submit(i, timeout_s=10) for i in range(8)), return_exceptions=True)
    assert isinstance(outcomes.pop(3), BatchItemError)
    assert [answer.result for answer in outcomes if not isinstance(answer, BaseException)] == [0, 1, 2, 4, 5, 6, 7]
    await batcher.close()


async def test_no_result_for_a_caller_who_still_waits_is_an_error() -> None:
    batcher = started(lambda items, has_left, worker: [None if item == 1 else item for item in items])
    good, bad = await asyncio.gather(*(batcher.submit(i, timeout_s=10) for i in (0, 1)), return_exceptions=True)
    assert not isinstance(good, BaseException)
    assert isinstance(bad, BatchItemError)
    await batcher.close()


async def test_five_thousand_submissions_with_leavers_and_failures_leave_nothing_behind() -> None:
    dice = random.Random(4)

    def moody(items: list[int], has_left: HasLeft, worker: int | None) -> list[int]:
        if any(item % 97 == 0 for item in items):
            raise ValueError("a multiple of 97")
        return doubled(items, has_left, worker)

    async def call(i: int) -> str:
        await asyncio.sleep(dice.random() * 0.5)
        try:
            async with asyncio.timeout(0.002 if dice.random() < 0.1 else 30):
                answer = await batcher.submit(i, timeout_s=0.001 if dice.random() < 0.05 else 30)
        except TimeoutError:
            return "left"
        except BatcherError as error:
            return type(error).__name__
        assert answer.result == 2 * i
        return "answered"

    batcher = started(moody, max_batch_size=16, max_queue_size=5000)
    outcomes = await asyncio.gather(*(call(i) for i in range(5000)))
    assert batcher.pending == batcher.depth == 0
    assert set(outcomes) <= {"answered", "left", "DeadlineExceededError", "BatchItemError"}
    assert outcomes.count("answered") > 4000
    assert 1 <= outcomes.count("BatchItemError") <= 5000 // 97 + 1
    await batcher.close()
    assert not batcher.alive
