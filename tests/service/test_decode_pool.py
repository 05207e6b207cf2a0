"""Threads that get stuck, and the others that go on."""

import asyncio
import contextlib
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from service.batcher_errors import DrainingError
from service.decode_pool import DecodePool, DecodeTimeoutError

pytestmark = pytest.mark.anyio
OTHERS: set[threading.Thread] = set()
"""Threads that were there before the pool."""


@asynccontextmanager
async def pool_of(threads: int, *, timeout_s: float = 0.2, max_stuck: int = 8) -> AsyncIterator[DecodePool]:
    pool = DecodePool(threads, timeout_s=timeout_s, max_stuck=max_stuck)
    OTHERS.clear()
    OTHERS.update(threading.enumerate())
    yield pool
    pool.close()
    await until(lambda: decode_threads() == 0)


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0.005)


def decode_threads() -> int:
    return sum(thread.name == "decode" for thread in set(threading.enumerate()) - OTHERS)


async def test_the_result_and_the_error_of_the_work_come_back() -> None:
    async with pool_of(1) as pool:
        assert await pool.run(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 / 0)
        with pytest.raises(SystemExit):
            await pool.run(lambda: exit(1))
        assert await pool.run(lambda: 8) == 8


async def test_there_are_never_more_threads_than_wanted() -> None:
    async with pool_of(2) as pool:
        running = []

        def work() -> int:
            running.append(1)
            time.sleep(0.01)
            most = len(running)
            running.pop()
            return most

        assert max(await asyncio.gather(*(pool.run(work) for _ in range(20)))) == 2
        assert decode_threads() == 2


async def test_work_over_its_time_fails_its_caller_at_once_and_is_counted_until_it_returns() -> None:
    release = threading.Event()
    async with pool_of(1, timeout_s=0.2) as pool:
        began = time.monotonic()
        with pytest.raises(DecodeTimeoutError, match=r"within 0\.2 s"):
            await pool.run(release.wait)
        assert 0.19 < time.monotonic() - began < 0.4
        assert pool.stuck == 1
        assert await pool.run(lambda: "next") == "next"
        assert decode_threads() == 2
        release.set()
        await until(lambda: pool.stuck == 0)
        await until(lambda: decode_threads() == 1)
        assert await pool.run(lambda: "as before") == "as before"


async def test_the_wait_for_a_thread_is_not_counted_as_work() -> None:
    async with pool_of(1, timeout_s=0.2) as pool:
        naps = [pool.run(lambda: time.sleep(0.12)) for _ in range(4)]
        assert await asyncio.gather(*naps) == [None] * 4
        assert pool.stuck == 0


async def test_threads_are_replaced_up_to_a_bound_and_then_the_pool_is_starved() -> None:
    release = threading.Event()
    async with pool_of(1, timeout_s=0.05, max_stuck=2) as pool:
        for stuck in (1, 2, 3):
            assert not pool.starved
            with pytest.raises(DecodeTimeoutError):
                await pool.run(release.wait)
            assert pool.stuck == stuck
        assert pool.starved
        assert decode_threads() == 3
        waiting = asyncio.create_task(pool.run(lambda: "in the end"))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        release.set()
        assert await waiting == "in the end"
        await until(lambda: decode_threads() == 1)


async def test_work_whose_caller_left_is_not_begun_but_counted_when_it_gets_stuck() -> None:
    release, begun = threading.Event(), []
    async with pool_of(1, timeout_s=0.1) as pool:
        running = asyncio.create_task(pool.run(release.wait))
        waiting = asyncio.create_task(pool.run(lambda: begun.append(1)))
        await asyncio.sleep(0.01)
        running.cancel()
        waiting.cancel()
        await until(lambda: pool.stuck == 1)
        release.set()
        await until(lambda: pool.stuck == 0)
        assert await pool.run(lambda: len(begun)) == 0


async def test_closing_fails_what_waits_and_what_runs_and_takes_nothing_new() -> None:
    release = threading.Event()
    async with pool_of(1, timeout_s=10) as pool:
        tasks = [asyncio.create_task(pool.run(release.wait)) for _ in range(2)]
        await asyncio.sleep(0.01)
        pool.close()
        for task in tasks:
            with pytest.raises(DrainingError):
                await task
        with pytest.raises(DrainingError):
            await pool.run(lambda: 1)
        release.set()


async def test_nothing_of_a_picture_is_kept_after_its_work() -> None:
    class Picture:
        pass

    async def refused(pool: DecodePool) -> weakref.ref[Picture]:
        picture = Picture()

        def work() -> None:
            raise ValueError(picture)

        with contextlib.suppress(ValueError):
            await pool.run(work)
        return weakref.ref(picture)

    async with pool_of(1) as pool:
        alive = await refused(pool)
        await until(lambda: gc.collect() >= 0 and alive() is None)
