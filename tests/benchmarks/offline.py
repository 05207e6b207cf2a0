"""Captions without a server: the limit that a service is held against, and its parts alone.

`python -m tests.benchmarks.offline PICTURES` loads engines once; then each line on its input is a JSON task,
and each line of its output the answer: pictures a second, and for `direct` the seconds of each.

    loop     bytes -> decode -> encode -> beam search, batch by batch, each worker for itself
    direct   the same, one picture at a time by one worker
    decode, encode, search     one part of it
    times        seconds that each of some batches takes of one worker: read beforehand, then encoded and searched
    decode_times seconds that each of some pictures takes to read; if asked, while every other core has batches
    captions     what each picture is called alone and in batches, to find those that every batch agrees on
"""

import contextlib
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.beam_search import Arrays, beam_search
from shared.bundle import Bundle
from shared.captioner import Captioner, caption_rules
from shared.engine import BATCH_SIZES, Engine
from shared.engine_loading import load_engine
from shared.image import read_pixels

CORES, LARGE, SEARCHED = 2, 16, 4
BUNDLE = Path("service/default_model")
Work = Callable[[], int]
"""Does a piece of work and says how many pictures it was."""


class Worker:
    """An engine of its own with some threads, and what can be done with it."""

    def __init__(self, bundle: Bundle, precision: str, threads: int) -> None:
        self.bundle = bundle
        self.engine: Engine = load_engine("openvino", bundle, precision=precision, threads=threads)
        self.captioner = Captioner(bundle, self.engine)
        self._decoders = ThreadPoolExecutor(threads)

    def decode(self, pictures: Sequence[bytes]) -> list[NDArray[np.uint8]]:
        return list(self._decoders.map(lambda picture: read_pixels(picture, self.bundle.preprocessing), pictures))

    def caption(self, pictures: Sequence[bytes]) -> list[str]:
        pixels = self.decode(pictures) if len(pictures) > 1 else [read_pixels(pictures[0], self.bundle.preprocessing)]
        found = self.captioner.caption(pixels, [self.bundle.decode] * len(pixels))
        return [caption.caption for caption in found if caption is not None]

    def search(self, features: Arrays) -> None:
        options = self.bundle.decode
        rules = caption_rules(self.bundle.vocabulary, options)
        state = self.engine.start(features, options.beam_size)
        beam_search(self.engine.step, state, features, rules=rules, batch_sizes=BATCH_SIZES)


class Bench:
    """The workers by their number of threads: one that has every core, and one for each core."""

    def __init__(self, pictures: Sequence[bytes], precision: str = "auto") -> None:
        self._bundle = bundle = Bundle.load(BUNDLE)
        self._pictures = pictures
        self._workers = {
            CORES: [Worker(bundle, precision, CORES)],
            1: [Worker(bundle, precision, 1) for _ in range(CORES)],
        }

    def rate(self, task: str, threads: int, batch: int, seconds: float) -> float:
        """Pictures a second of all workers with so many threads."""
        works = [self._work(task, worker, batch, i) for i, worker in enumerate(self._workers[threads])]
        for work in works:
            work()
        counts, ends = [0] * len(works), [0.0] * len(works)
        began = time.perf_counter()

        def run(place: int) -> None:
            while (now := time.perf_counter()) < began + seconds:
                counts[place] += works[place]()
            ends[place] = now - began

        running = [threading.Thread(target=run, args=(place,)) for place in range(len(works))]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return sum(count / end for count, end in zip(counts, ends, strict=True))

    def direct(self, threads: int, seconds: float) -> list[float]:
        worker, pictures = self._workers[threads][0], itertools.cycle(self._pictures)
        worker.caption([next(pictures)])
        latencies, ends = [], time.perf_counter() + seconds
        while (began := time.perf_counter()) < ends:
            worker.caption([next(pictures)])
            latencies.append(time.perf_counter() - began)
        return latencies

    def times(self, threads: int, batch: int, count: int) -> list[float]:
        worker, found = self._workers[threads][0], []
        read = [worker.decode(pictures) for pictures in itertools.islice(self._batches(batch, 0), count)]
        for pixels in read:
            began = time.perf_counter()
            worker.captioner.caption(pixels, [self._bundle.decode] * batch)
            found.append(time.perf_counter() - began)
        return found

    def decode_times(self, batch: int, count: int, *, busy: bool = False) -> list[float]:
        found = []
        with self._others_busy(batch) if busy else contextlib.nullcontext():
            for picture in itertools.islice(itertools.cycle(self._pictures), count):
                began = time.perf_counter()
                read_pixels(picture, self._bundle.preprocessing)
                found.append(time.perf_counter() - began)
        return found

    @contextlib.contextmanager
    def _others_busy(self, batch: int) -> Iterator[None]:
        """Every worker of one core but the first captions such batches."""
        over = threading.Event()

        def work(worker: Worker, place: int) -> None:
            batches = [worker.decode(pictures) for pictures in itertools.islice(self._batches(batch, place), SEARCHED)]
            for pixels in itertools.cycle(batches):
                if over.is_set():
                    return
                worker.captioner.caption(pixels, [self._bundle.decode] * batch)

        others = [
            threading.Thread(target=work, args=(worker, place))
            for place, worker in enumerate(self._workers[1][1:], start=1)
        ]
        for thread in others:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in others:
                thread.join()

    def captions(self) -> list[list[str]]:
        """For each picture one caption, or more where it gets another one in a batch than alone."""
        worker = self._workers[CORES][0]
        found = [{worker.caption([picture])[0]} for picture in self._pictures]
        for start in range(0, len(found), LARGE):
            together = worker.caption(self._pictures[start : start + LARGE])
            for said, caption in zip(found[start : start + LARGE], together, strict=True):
                said.add(caption)
        return [sorted(each) for each in found]

    def _work(self, task: str, worker: Worker, batch: int, place: int) -> Work:
        batches = self._batches(batch, place)
        if task == "loop":
            return lambda: len(worker.caption(next(batches)))
        if task == "decode":
            return lambda: len(worker.decode(next(batches)))
        if task == "encode":
            images = np.stack(worker.decode(next(batches)))
            return lambda: len(worker.engine.encode(images)[0])
        if task == "search":
            # Features of several batches: how many words are said depends on the pictures.
            features = itertools.cycle([_encoded(worker, next(batches)) for _ in range(SEARCHED)])

            def search() -> int:
                worker.search(next(features))
                return batch

            return search
        raise ValueError(f"unknown task {task!r}")

    def _batches(self, size: int, place: int) -> Iterator[list[bytes]]:
        pictures = itertools.islice(itertools.cycle(self._pictures), place * len(self._pictures) // CORES, None)
        while True:
            yield list(itertools.islice(pictures, size))


def _encoded(worker: Worker, pictures: list[bytes]) -> Arrays:
    return tuple(np.array(part) for part in worker.engine.encode(np.stack(worker.decode(pictures))))


def answer(bench: Bench, task: dict[str, Any]) -> Any:
    match task.pop("task"):
        case "captions":
            return bench.captions()
        case "direct":
            return bench.direct(**task)
        case "times":
            return bench.times(**task)
        case "decode_times":
            return bench.decode_times(**task)
        case name:
            return bench.rate(name, **task)


def main(folder: Path) -> None:
    bench = Bench([path.read_bytes() for path in sorted(folder.glob("*.jpg"))])
    for line in sys.stdin:
        print(json.dumps(answer(bench, json.loads(line))), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
