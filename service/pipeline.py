"""The way of a picture: bytes -> decode pool -> batcher -> captioner of a worker thread -> Caption.

    pipeline.place()    admission: refuses at once when draining or full
    pipeline.caption()  everything after the body is read

A bad picture fails in the decode pool, alone. Every picture carries the model it was prepared for, so a swap of models
needs no lock and no pause. Pictures with the same bytes, options and model are captioned once while one of them is
under way: each caller keeps a deadline of its own, and the work ends early only when nobody waits for it any more.
"""

import asyncio
import contextlib
import hashlib
import math
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.batcher import Batcher
from service.batcher_errors import DrainingError, QueueFullError
from service.captioned import Captioned, Key, bytes_of, for_the_cache
from service.deadline import deadline
from service.decode_pool import DecodePool
from service.metrics import Metrics
from service.model_source import LoadedModel, ModelSource
from service.passage import Passage, RequestRecord, Stage
from service.shared_work import Cache, InFlight, SharedWork
from shared.bundle import DecodeOptions
from shared.captioner import Caption
from shared.image import ImageLimits, read_pixels

HOPELESS_AFTER_S = 1.0
"""A worker that has nothing left to do ends at once; one that does not is stuck."""
SMALL_BYTES = 262_144
"""A form of this size is read, and its picture hashed, in a fraction of a millisecond."""
MAX_STUCK = 8
"""Decode threads that are replaced while they are stuck; each keeps its picture, about 4 bytes for each pixel."""


@dataclass(frozen=True, slots=True)
class PreparedImage:
    pixels: NDArray[np.uint8]
    options: DecodeOptions
    model: LoadedModel
    work: "Work"


Work: TypeAlias = SharedWork[Captioned]
Result = TypeVar("Result")


@dataclass(slots=True)
class _Caller:
    record: RequestRecord | None
    work: Work | None = None

    @property
    def stage(self) -> str:
        return self.work.stage if self.work else "decode"

    async def wait_for(self, work: Work) -> Captioned:
        self.work = work
        if self.record:
            self.record.wait_for(work.passage)
        return await work.result()


class Pipeline:
    def __init__(
        self,
        *,
        models: ModelSource,
        limits: ImageLimits,
        decode_threads: int,
        decode_timeout_s: float,
        cache_size: int,
        cache_max_bytes: int,
        max_batch_size: int,
        max_queue_size: int,
        max_queue_bytes: int,
        timeout_s: float,
        stuck_after_s: float,
        metrics: Metrics,
        on_batch: Callable[[Sequence[Passage], Sequence[Stage]], None] | None = None,
    ) -> None:
        """`on_batch` hears of every batch that has ended, on the thread of its worker."""
        self.models = models
        self.draining = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.limits = limits
        self._max_queue_size, self._max_queue_bytes = max_queue_size, max_queue_bytes
        self.timeout_s = timeout_s
        self._stuck_after_s = stuck_after_s
        self._metrics, self._on_batch = metrics, on_batch
        self._decoding = 0
        self.decode_pool = DecodePool(decode_threads, timeout_s=decode_timeout_s, max_stuck=MAX_STUCK)
        self._in_flight_works = InFlight[Key, Captioned]()
        self._cache = Cache[Key, Captioned](max_entries=cache_size, max_bytes=cache_max_bytes, size_of=bytes_of)
        self.batcher = Batcher[PreparedImage, Caption](
            self._caption_batch,
            max_batch_size=max_batch_size,
            max_queue_size=max_queue_size,
            coming=lambda: self._decoding,
            on_batch=metrics.batch_size.observe,
            on_wait=metrics.stage("queue").observe,
            on_split=metrics.splits.inc,
        )

    @property
    def in_flight(self) -> int:
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Pictures whose bytes are here and whose batch has not begun."""
        return self._decoding + self.batcher.depth

    def sick(self) -> str | None:
        """Why only a restart helps, or None."""
        if not (self.batcher.alive or self.draining):
            return "a worker thread has ended"
        if self.batcher.busy_s > self._stuck_after_s:
            return f"a worker thread has been in one batch for more than {self._stuck_after_s:.3g} s"
        if self.decode_pool.starved:
            return f"all {self.decode_pool.stuck} decode threads are stuck"
        return None

    def unready(self) -> str | None:
        """Why pictures should go elsewhere, or None."""
        return "the service is shutting down" if self.draining else self.sick()

    def start(self) -> None:
        self.batcher.start(len(self.models.current.captioners.workers))

    def admit(self) -> None:
        """Raises DrainingError or QueueFullError where there is no place."""
        if self.draining:
            raise DrainingError("the service is shutting down")
        self._refuse_if_full()

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A request's place in the service, from its first byte to its answer."""
        self.admit()
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def caption(
        self,
        picture: Callable[[], bytes],
        body_bytes: int,
        options: DecodeOptions,
        model: LoadedModel,
        *,
        timeout_s: float = math.inf,
        record: RequestRecord | None = None,
    ) -> Captioned:
        """`picture` runs in the decode pool: finding the bytes in a large body takes its time, too.

        In a small one it takes less than the way to the pool and back. `timeout_s` may only shorten the time that the
        service gives.
        """
        caller = _Caller(record)
        try:
            async with deadline(min(timeout_s, self.timeout_s)):
                captioned = await self._caption(picture, body_bytes <= SMALL_BYTES, options, model, caller)
        except asyncio.CancelledError:
            self._metrics.cancel(caller.stage)
            raise
        self._metrics.answer_from_cache(captioned.cache)
        return captioned

    async def _caption(
        self, picture: Callable[[], bytes], is_small: bool, options: DecodeOptions, model: LoadedModel, caller: _Caller
    ) -> Captioned:
        data, digest = _digested(picture) if is_small else await self._in_pool(lambda: _digested(picture))
        key = Key(digest, options, weakref.ref(model))
        if hit := self._cache.get(key):
            return hit
        if under_way := self._in_flight_works.find(key):
            return replace(await caller.wait_for(under_way), cache="coalesced")
        self._refuse_if_full()
        return await caller.wait_for(
            self._in_flight_works.begin(key, lambda work: self._work(data, key, model, work), "decode")
        )

    async def _work(self, data: bytes, key: Key, model: LoadedModel, work: Work) -> Captioned:
        """Has no deadline: its callers have theirs."""
        began = time.monotonic()
        preprocessing, on_size = model.captioner.bundle.preprocessing, self._metrics.pixels.observe
        pixels = await self._in_pool(lambda: read_pixels(data, preprocessing, self.limits, on_size=on_size))
        decoded = time.monotonic()
        decode_s = decoded - began
        work.passage.note("decode", began, decoded)
        self._metrics.stage("decode").observe(decode_s)
        work.stage = "queue"
        answer = await self.batcher.submit(PreparedImage(pixels, key.options, model, work), timeout_s=math.inf)
        if self._cache.max_entries:
            self._cache.put(key, for_the_cache(answer.result))
        return Captioned(answer.result, decode_s, answer.queue_s)

    async def _in_pool(self, work: Callable[[], Result]) -> Result:
        self._decoding += 1
        try:
            return await self.decode_pool.run(work)
        finally:
            self._decoding -= 1

    async def drain(self, timeout_s: float) -> None:
        """Refuse what is new, finish what has a place, and at the end of the time refuse that, too."""
        self.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        await self.batcher.close(drain=False, timeout_s=HOPELESS_AFTER_S)
        self.decode_pool.close()

    def give_up(self, reason: str) -> None:
        """Refuse everything at once, also what has a place; call on the event loop."""
        self.draining = True
        self.batcher.give_up(reason)
        self._idle.set()

    @property
    def is_full(self) -> bool:
        size = self.models.current.captioner.bundle.preprocessing.size
        return self.waiting >= self._max_queue_size or (self.waiting + 1) * 3 * size**2 > self._max_queue_bytes

    def _refuse_if_full(self) -> None:
        if self.is_full:
            raise QueueFullError(self.waiting, self.batcher.estimated_wait_s)

    def _caption_batch(
        self, items: list[PreparedImage], has_left: Callable[[int], bool], worker: int | None
    ) -> list[Caption | None]:
        """Pictures of an old and a new model can meet in one batch, right after a swap."""
        results: list[Caption | None] = [None] * len(items)
        places: dict[int, list[int]] = {}
        for i, item in enumerate(items):
            item.work.stage = "engine"
            places.setdefault(id(item.model), []).append(i)
        for group in places.values():
            for i, caption in zip(group, self._caption_group(items, group, has_left, worker), strict=True):
                results[i] = caption
        return results

    def _caption_group(
        self, items: list[PreparedImage], group: list[int], has_left: Callable[[int], bool], worker: int | None
    ) -> list[Caption | None]:
        captioners = items[group[0]].model.captioners
        captioner = captioners.alone if worker is None else captioners.workers[worker]
        began = time.monotonic()
        captions = captioner.caption(
            [items[i].pixels for i in group],
            [items[i].options for i in group],
            lambda row: has_left(group[row]),
        )
        if first := next(filter(None, captions), None):
            passages = [items[i].work.passage for i, caption in zip(group, captions, strict=True) if caption]
            self._note_batch(passages, began, first)
        for caption in filter(None, captions):
            self._metrics.caption_made(len(caption.candidates[0].words), caption.log_probability)
        return captions

    def _note_batch(self, passages: Sequence[Passage], began: float, first: Caption) -> None:
        encoded = began + first.encode_s
        stages = Stage("encode", began, encoded), Stage("beam_search", encoded, encoded + first.beam_search_s)
        for stage in stages:
            self._metrics.stage(stage.name).observe(stage.ended - stage.began)
        if self._on_batch:
            self._on_batch(passages, stages)
        for passage in passages:
            passage.stages += (Stage("queue", passage.stages[-1].ended, began), *stages)


def _digested(picture: Callable[[], bytes]) -> tuple[bytes, bytes]:
    data = picture()
    return data, hashlib.sha256(data).digest()
