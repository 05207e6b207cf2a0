"""Bulk captioning beside the offline loop, in turns: `python -m tests.benchmarks.bulk --turns 20 --seconds 5`.

Both go from files to captions, decoding and all, and are one process with the model loaded. The limit is the offline
loop's best variant; the bound is 0.95 of it. Verdicts go to stdout and `build/bench/bulk.jsonl`.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from service.bulk.captioning import caption_pictures
from service.bulk.files import Picture, find_pictures, read_file
from service.bulk.model import BATCH_SIZES, load_workers
from service.cpus import available_cpus
from service.settings import Settings
from shared.image import ImageLimits
from tests.benchmarks.bounds import at_least, best
from tests.benchmarks.pictures import write_pictures
from tests.benchmarks.processes import calibrate
from tests.benchmarks.records import append, ratios, read, values
from tests.benchmarks.report import bounds_table
from tests.benchmarks.serving import BUILD, DRAWN, SHAPES, Offline, _shape

FILE = BUILD / "bulk.jsonl"
LOAD, NAME, WARM_S = "files to captions", "bulk", 1.0


class Bulk:
    """Runs over the pictures again and again."""

    def __init__(self, folder: Path) -> None:
        self._settings, self._cpus = Settings(), available_cpus()
        self._captioners = load_workers(self._settings, self._cpus)
        self._pictures = find_pictures(folder)

    def rate(self, seconds: float) -> float:
        """Pictures a second, from the first batch that is done after the warm-up to the last one in time."""
        ends = time.perf_counter() + WARM_S + seconds
        done: list[tuple[float, int]] = []
        for rows in caption_pictures(
            self._endless(ends),
            self._captioners,
            read=partial(read_file, max_bytes=self._settings.max_bytes),
            limits=ImageLimits(),
            threads=self._cpus,
            batch_size=BATCH_SIZES[self._captioners[0].engine_name],
        ):
            assert all(row.caption for row in rows)
            if ends - seconds <= (now := time.perf_counter()) < ends:
                done.append((now, len(rows)))
        return sum(count for _, count in done[1:]) / (done[-1][0] - done[0][0])

    def _endless(self, ends: float) -> Iterator[Picture]:
        return itertools.takewhile(lambda picture: time.perf_counter() < ends, itertools.cycle(self._pictures))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bulk")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    options = parser.parse_args()
    run, folder = time.strftime("%Y-%m-%dT%H:%M:%S"), BUILD / "pictures"
    write_pictures(folder, DRAWN)
    offline, bulk = Offline(sys.executable, folder), Bulk(folder)
    slots = [(NAME, bulk.rate)] + [
        (
            f"offline loop, {_shape(*shape)}",
            partial(lambda shape, s: offline.ask("loop", threads=shape[0], batch=shape[1], seconds=s), shape),
        )
        for shape in SHAPES
    ]
    for turn in range(options.turns):
        first = turn % len(slots)
        for name, rate in [*slots[first:], *slots[:first]]:
            record = {"run": run, "turn": turn, "load": LOAD, "name": name, "calibration": calibrate()}
            append(FILE, {**record, "captions_per_s": rate(options.seconds)})
        print(f"turn {turn + 1} of {options.turns}", flush=True)
    offline.close()
    measured = read(FILE)
    limit = best(measured, LOAD, "offline loop", "captions_per_s", max)
    found = ratios(values(measured, LOAD, NAME, "captions_per_s"), limit)
    print("\n".join(bounds_table(at_least("bulk / offline loop", found, 0.95))))


if __name__ == "__main__":
    main()
