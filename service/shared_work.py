"""Identical work is done once: while it is under way for all who ask, and later from a cache of bounded size."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from service.passage import Passage

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SharedWork(Generic[Value]):
    """Work that several callers wait for; dropped when the last of them leaves. `stage` says how far it is."""

    def __init__(self, work: "Callable[[SharedWork[Value]], Coroutine[Any, Any, Value]]", stage: str) -> None:
        self.stage = stage
        self.passage = Passage()
        self.waiting = 0
        self.task = asyncio.create_task(work(self))

    async def result(self) -> Value:
        self.waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self.waiting -= 1
            if not self.waiting:
                self.task.cancel()


class InFlight(Generic[Key, Value]):
    """The works that are under way, each under its key."""

    def __init__(self) -> None:
        self._works: dict[Key, SharedWork[Value]] = {}

    def find(self, key: Key) -> SharedWork[Value] | None:
        work = self._works.get(key)
        return None if work is None or work.task.cancelling() else work

    def begin(
        self, key: Key, work: Callable[[SharedWork[Value]], Coroutine[Any, Any, Value]], stage: str
    ) -> SharedWork[Value]:
        begun = self._works[key] = SharedWork(work, stage)
        begun.task.add_done_callback(lambda task: self._forget(key, begun))
        return begun

    def _forget(self, key: Key, work: SharedWork[Value]) -> None:
        if self._works.get(key) is work:
            del self._works[key]
        if not work.task.cancelled():
            work.task.exception()  # asyncio complains of errors that nobody has looked at


class Cache(Generic[Key, Value]):
    """The values used last, at most so many and at most so many bytes of them by `size_of`."""

    def __init__(self, *, max_entries: int, max_bytes: int, size_of: Callable[[Value], int]) -> None:
        self.bytes = 0
        self.max_entries = max_entries
        self._max_bytes, self._size_of = max_bytes, size_of
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Key) -> Value | None:
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        if key in self._values:
            self.bytes -= self._size_of(self._values.pop(key))
        self._values[key] = value
        self.bytes += self._size_of(value)
        while len(self._values) > self.max_entries or self.bytes > self._max_bytes:
            _, oldest = self._values.popitem(last=False)
            self.bytes -= self._size_of(oldest)
