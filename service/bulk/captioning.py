"""From files to rows at the full speed of the machine, without HTTP.

Every thread does what is wanted most: it captions a batch if one is whole and an engine is free, else it reads the next
picture. So where each core has an engine, no thread waits for another, and where a GPU does the work, all cores read.
"""

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.bulk.files import Picture
from service.bulk.rows import Row
from shared.bundle import DecodeOptions
from shared.captioner import Caption, Captioner
from shared.image import ImageLimits, read_pixels

Read = Callable[[str], bytes]
Finish = Callable[[Picture, Row], Row]
Prepared = tuple[Picture, NDArray[np.uint8]]
Task = Callable[[], None]


class Failure(NamedTuple):
    error: Exception
    otherwise: str
    """The code of an error for which the service's answers have none."""


Outcome: TypeAlias = Caption | Failure
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


def caption_pictures(
    pictures: Iterable[Picture],
    captioners: Sequence[Captioner],
    *,
    read: Read,
    limits: ImageLimits,
    threads: int,
    batch_size: int,
    finish: Finish | None = None,
) -> Iterator[list[Row]]:
    """Rows as they come, in no order. `finish` runs beside other work on what has a caption."""
    bundle = captioners[0].bundle
    return caption_each(
        pictures,
        captioners,
        read=read,
        limits=limits,
        threads=threads,
        batch_size=batch_size,
        options=bundle.decode,
        result=partial(_row, version=bundle.version, finish=finish),
    )


def caption_each(
    pictures: Iterable[Picture],
    captioners: Sequence[Captioner],
    *,
    read: Read,
    limits: ImageLimits,
    threads: int,
    batch_size: int,
    options: DecodeOptions,
    result: Callable[[Picture, Outcome], Result],
) -> Iterator[list[Result]]:
    """What `result` makes of each picture, as they come; it runs beside other work."""
    work = _Work(pictures, captioners, read, limits, batch_size, options, result)
    for _ in range(max(threads, len(captioners))):
        threading.Thread(target=work.run, daemon=True).start()
        work.running += 1
    try:
        yield from work.results_until_done()
    finally:
        work.stop()


class _Work(Generic[Result]):
    """What the threads share; `_changed` guards all of it."""

    def __init__(
        self,
        pictures: Iterable[Picture],
        captioners: Sequence[Captioner],
        read: Read,
        limits: ImageLimits,
        batch_size: int,
        options: DecodeOptions,
        result: Callable[[Picture, Outcome], Result],
    ) -> None:
        self.running = 0
        self._preprocessing, self._options = captioners[0].bundle.preprocessing, options
        self._read, self._limits, self._batch_size, self._result = read, limits, batch_size, result
        self._pictures = iter(pictures)
        self._free = list(captioners)
        self._ahead = batch_size * (1 + len(captioners))
        self._prepared: deque[Prepared] = deque()
        self._reading = 0
        self._all_begun = self._stopping = False
        self._changed = threading.Condition()
        self._results: SimpleQueue[list[Result] | BaseException | None] = SimpleQueue()

    def run(self) -> None:
        try:
            while task := self._next():
                task()
            self._results.put(None)
        except BaseException as error:
            self._results.put(error)

    def results_until_done(self) -> Iterator[list[Result]]:
        while self.running:
            result = self._results.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                self.running -= 1
            else:
                yield result

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _next(self) -> Task | None:
        """Blocks until there is something to do; None at the end."""
        with self._changed:
            while not self._stopping:
                if self._free and self._has_batch():
                    count = min(self._batch_size, len(self._prepared))
                    return partial(self._caption, self._free.pop(), [self._prepared.popleft() for _ in range(count)])
                if not self._all_begun and len(self._prepared) + self._reading < self._ahead:
                    if picture := next(self._pictures, None):
                        self._reading += 1
                        return partial(self._prepare, picture)
                    self._all_begun = True
                    continue
                if self._all_begun and not self._reading and not self._prepared:
                    break
                self._changed.wait()
            self._changed.notify_all()
        return None

    def _has_batch(self) -> bool:
        is_last = self._all_begun and not self._reading and self._prepared
        return bool(is_last) or len(self._prepared) >= self._batch_size

    def _prepare(self, picture: Picture) -> None:
        prepared: list[Prepared] = []
        try:
            data = self._read(picture.location)
            prepared = [(picture, read_pixels(data, self._preprocessing, self._limits))]
        except Exception as error:  # every file system has errors of its own
            self._results.put([self._result(picture, Failure(error, "unreadable_file"))])
        finally:
            with self._changed:
                self._reading -= 1
                self._prepared.extend(prepared)
                self._changed.notify_all()

    def _caption(self, captioner: Captioner, batch: list[Prepared]) -> None:
        try:
            found = list(self._in_halves(captioner, batch))
        finally:
            with self._changed:
                self._free.append(captioner)
                self._changed.notify_all()
        self._results.put([self._result(picture, outcome) for picture, outcome in found])

    def _in_halves(self, captioner: Captioner, batch: list[Prepared]) -> Iterator[tuple[Picture, Outcome]]:
        """A batch that fails is tried again in halves, until the guilty picture stands alone."""
        try:
            captions = captioner.caption([pixels for _, pixels in batch], [self._options] * len(batch))
        except Exception as error:
            logger.warning("a batch of %d failed: %r", len(batch), error)
            if len(batch) == 1:
                yield batch[0][0], Failure(error, "internal")
                return
            half = len(batch) // 2
            yield from itertools.chain(
                self._in_halves(captioner, batch[:half]), self._in_halves(captioner, batch[half:])
            )
            return
        for (picture, _), caption in zip(batch, captions, strict=True):
            yield picture, caption or Failure(ValueError("the model said nothing"), "internal")


def _row(picture: Picture, outcome: Outcome, version: str, finish: Finish | None) -> Row:
    if isinstance(outcome, Failure):
        return error_row(picture, outcome)
    row = Row(picture.name, outcome.caption, outcome.log_probability, version)
    return finish(picture, row) if finish else row


def error_row(picture: Picture, failure: Failure) -> Row:
    """With the code of the service's answer, where it would have one."""
    from service.errors import ERRORS  # takes the web framework along, and most runs go without an error

    error = failure.error
    code = next((ERRORS[kind][1] for kind in type(error).__mro__ if kind in ERRORS), failure.otherwise)
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Row(picture.name, error_code=code, error_message=" ".join(said.split()) or type(error).__name__)
