"""Identical work is done once: while it is under way for all who ask, and later from a cache of bounded size."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

from service.passage import Passage

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SharedWork(Generic[Value]):
    """Work that several callers wait for; dropped when the last of them leaves. `stage` says how far it is."""

    def __init__(
        self,
        work: "Callable[[SharedWork[Value]], Coroutine[Any, Any, Value]]",
        stage: str,
        on_end: "Callable[[SharedWork[Value]], None]",
    ) -> None:
        self.stage = stage
        self._on_end = on_end
        self.passage = Passage()
        self.waiting = 0
        self._task: asyncio.Task[Value] | None = asyncio.create_task(work(self))
        self._task.add_done_callback(self._end)

    @property
    def is_over(self) -> bool:
        """Ended, or about to be dropped."""
        return self._task is None or self._task.cancelling() > 0

    async def result(self) -> Value:
        assert self._task, "asked while it is under way"
        self.waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self.waiting -= 1
            if not self.waiting and self._task:
                self._task.cancel()

    def _end(self, task: asyncio.Task[Value]) -> None:
        self._task = None  # its error leads to frames that lead here: a ring, which would keep picture and model
        if not task.cancelled():
            task.exception()  # asyncio complains of errors that nobody has looked at
        self._on_end(self)


class InFlight(Generic[Key, Value]):
    """The works that are under way, each under its key."""

    def __init__(self) -> None:
        self._works: dict[Key, SharedWork[Value]] = {}

    def find(self, key: Key) -> SharedWork[Value] | None:
        work = self._works.get(key)
        return None if work is None or work.is_over else work

    def begin(
        self, key: Key, work: Callable[[SharedWork[Value]], Coroutine[Any, Any, Value]], stage: str
    ) -> SharedWork[Value]:
        begun = self._works[key] = SharedWork(work, stage, partial(self._forget, key))
        return begun

    def _forget(self, key: Key, work: SharedWork[Value]) -> None:
        if self._works.get(key) is work:
            del self._works[key]


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
