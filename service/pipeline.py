"""The way of a picture: bytes -> decode pool -> batcher -> captioner on the worker thread -> Caption.

    pipeline.place()    admission: refuses at once when draining or full
    pipeline.caption()  everything after the body is read

A bad picture fails in the decode pool, alone. Every picture carries the model it was prepared for, so a swap of models
needs no lock and no pause.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.batcher import Batcher, DeadlineExceededError, DrainingError, QueueFullError
from service.metrics import Metrics
from service.model_source import LoadedModel, ModelSource
from shared.bundle import DecodeOptions
from shared.captioner import Caption
from shared.image import ImageLimits, read_pixels

HOPELESS_AFTER_S = 1.0
"""A worker that has nothing left to do ends at once; one that does not is stuck."""


@dataclass(frozen=True, slots=True)
class PreparedImage:
    pixels: NDArray[np.uint8]
    options: DecodeOptions
    model: LoadedModel


@dataclass(frozen=True, slots=True)
class Captioned:
    caption: Caption
    decode_s: float
    queue_s: float


class Pipeline:
    def __init__(
        self,
        *,
        models: ModelSource,
        limits: ImageLimits,
        decode_threads: int,
        max_batch_size: int,
        max_queue_size: int,
        timeout_s: float,
        stuck_after_s: float,
        metrics: Metrics,
    ) -> None:
        self.models = models
        self.draining = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._limits = limits
        self._max_queue_size = max_queue_size
        self._timeout_s = timeout_s
        self._stuck_after_s = stuck_after_s
        self._metrics = metrics
        self._decoding = 0
        self._pool = ThreadPoolExecutor(decode_threads, thread_name_prefix="decode")
        self.batcher = Batcher[PreparedImage, Caption](
            self._caption_batch,
            max_batch_size=max_batch_size,
            max_queue_size=max_queue_size,
            on_batch=metrics.batch_size.observe,
            on_wait=metrics.stage("queue").observe,
            on_cancel=metrics.cancel,
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
            return "the worker thread has ended"
        if self.batcher.busy_s > self._stuck_after_s:
            return f"the worker thread has been in one batch for more than {self._stuck_after_s:.3g} s"
        return None

    def unready(self) -> str | None:
        """Why pictures should go elsewhere, or None."""
        return "the service is shutting down" if self.draining else self.sick()

    def start(self) -> None:
        self.batcher.start()

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A request's place in the service, from its first byte to its answer."""
        if self.draining:
            raise DrainingError("the service is shutting down")
        self._refuse_if_full()
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def caption(self, picture: Callable[[], bytes], options: DecodeOptions, model: LoadedModel) -> Captioned:
        """`picture` runs in the decode pool: finding the bytes in a large form takes its time, too."""
        self._refuse_if_full()
        began = time.monotonic()
        prepared = await self._prepare(picture, options, model)
        decode_s = time.monotonic() - began
        self._metrics.stage("decode").observe(decode_s)
        answer = await self.batcher.submit(prepared, timeout_s=self._timeout_s - decode_s)
        return Captioned(answer.result, decode_s, answer.queue_s)

    async def drain(self, timeout_s: float) -> None:
        """Refuse what is new, finish what has a place, and at the end of the time refuse that, too."""
        self.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        await self.batcher.close(drain=False, timeout_s=HOPELESS_AFTER_S)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def give_up(self, reason: str) -> None:
        """Refuse everything at once, also what has a place; call on the event loop."""
        self.draining = True
        self.batcher.give_up(reason)
        self._idle.set()

    def _refuse_if_full(self) -> None:
        if self.waiting >= self._max_queue_size:
            raise QueueFullError(self.waiting, self.batcher.estimated_wait_s)

    async def _prepare(self, picture: Callable[[], bytes], options: DecodeOptions, model: LoadedModel) -> PreparedImage:
        def prepare() -> PreparedImage:
            pixels = read_pixels(picture(), model.captioner.bundle.preprocessing, self._limits)
            return PreparedImage(pixels, options, model)

        self._decoding += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._pool, prepare)
        except TimeoutError:
            raise DeadlineExceededError(self._timeout_s) from None
        except asyncio.CancelledError:
            self._metrics.cancel("decode")
            raise
        finally:
            self._decoding -= 1

    def _caption_batch(self, items: list[PreparedImage], has_left: Callable[[int], bool]) -> list[Caption | None]:
        """Pictures of an old and a new model can meet in one batch, right after a swap."""
        results: list[Caption | None] = [None] * len(items)
        places: dict[int, list[int]] = {}
        for i, item in enumerate(items):
            places.setdefault(id(item.model), []).append(i)
        for group in places.values():
            for i, caption in zip(group, self._caption_group(items, group, has_left), strict=True):
                results[i] = caption
        return results

    def _caption_group(
        self, items: list[PreparedImage], group: list[int], has_left: Callable[[int], bool]
    ) -> list[Caption | None]:
        captions = items[group[0]].model.captioner.caption(
            [items[i].pixels for i in group],
            [items[i].options for i in group],
            lambda row: has_left(group[row]),
        )
        if first := next(filter(None, captions), None):
            self._metrics.stage("encode").observe(first.encode_s)
            self._metrics.stage("beam_search").observe(first.beam_search_s)
        return captions
