"""One work for many callers, and the cache of what was worked out."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from service.shared_work import Cache, InFlight, SharedWork

pytestmark = pytest.mark.anyio
Works = InFlight[str, int]


class Counted:
    """Work that ends when it is told to, and remembers how it went."""

    def __init__(self) -> None:
        self.begun, self.dropped, self.end = 0, 0, asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, work: SharedWork[int]) -> int:
        self.begun += 1
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.dropped += 1
            raise
        if self.error:
            raise self.error
        return self.begun


async def ask(works: Works, counted: Callable[[SharedWork[int]], Coroutine[Any, Any, int]], key: str = "a") -> int:
    work = works.find(key) or works.begin(key, counted, "decode")
    return await work.result()


async def asked(works: Works, counted: Counted, count: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(ask(works, counted)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_all_who_ask_while_it_runs_get_the_one_result() -> None:
    works, counted = Works(), Counted()
    tasks = await asked(works, counted, 3)
    counted.end.set()
    assert await asyncio.gather(*tasks) == [1, 1, 1]
    assert await ask(works, counted) == 2, "what has ended is not in flight"


async def test_other_keys_are_other_works() -> None:
    works, counted = Works(), Counted()
    counted.end.set()
    assert sorted(await asyncio.gather(ask(works, counted, "a"), ask(works, counted, "b"))) == [1, 2]


async def test_who_leaves_takes_nothing_from_the_others() -> None:
    works, counted = Works(), Counted()
    first, *others = await asked(works, counted, 3)
    first.cancel()
    await asyncio.sleep(0)
    counted.end.set()
    assert await asyncio.gather(*others) == [1, 1]
    assert counted.dropped == 0
    assert first.cancelled()


async def test_the_work_is_dropped_when_all_have_left_and_begun_anew_for_who_comes_then() -> None:
    works, counted = Works(), Counted()
    tasks = await asked(works, counted, 2)
    for task in tasks:
        task.cancel()
    await asyncio.sleep(0)
    counted.end.set()
    assert await ask(works, counted) == 2
    assert counted.dropped == 1


async def test_a_failure_goes_to_all_that_wait() -> None:
    works, counted = Works(), Counted()
    counted.error = ValueError("broken")
    tasks = await asked(works, counted, 3)
    counted.end.set()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, ValueError)


def cache(max_entries: int, max_bytes: int = 1000) -> Cache[str, str]:
    return Cache(max_entries=max_entries, max_bytes=max_bytes, size_of=len)


async def test_the_cache_gives_back_what_it_got_and_drops_what_was_used_longest_ago() -> None:
    values = cache(2)
    values.put("a", "1")
    values.put("b", "2")
    assert values.get("a") == "1"
    values.put("c", "3")
    assert [values.get(key) for key in "abc"] == ["1", None, "3"]


async def test_the_cache_holds_no_more_bytes_than_it_may() -> None:
    values = cache(100, max_bytes=10)
    for key in "abc":
        values.put(key, "4444")
    assert (len(values), values.bytes) == (2, 8)
    values.put("c", "333")
    assert (len(values), values.bytes) == (2, 7)
    values.put("huge", "x" * 11)
    assert (len(values), values.bytes) == (0, 0)


async def test_a_cache_of_no_entries_keeps_nothing() -> None:
    values = cache(0)
    values.put("a", "1")
    assert values.get("a") is None
