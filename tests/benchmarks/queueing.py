"""The simulated service beside the real one: `python -m tests.benchmarks.queueing --seconds 30`, on a quiet machine.

What each station takes is measured, alone and beside batches on the other cores; then requests arrive at random, one by
one and in bursts, at several shares of what the service bears. The simulation must tell its p50 within 20 % and its p99
within 35 %.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from service.cpus import available_cpus
from service.settings import Settings
from shared.engine import BATCH_SIZES
from tests.benchmarks.bounds import OURS
from tests.benchmarks.contestants import Running, contestants, start
from tests.benchmarks.figures import percentile
from tests.benchmarks.load import Connection, Target, put_load
from tests.benchmarks.offline import CORES
from tests.benchmarks.pictures import write_pictures
from tests.benchmarks.processes import calibrate, end_by_exit
from tests.benchmarks.records import append
from tests.benchmarks.serving import BUILD, DRAWN, Offline
from tests.benchmarks.simulation import Shape, Times, simulate

FILE = BUILD / "queueing.jsonl"
CONNECTIONS, SIMULATED, SMALL = 128, 20_000, 4
BOUNDS = {50: 0.20, 99: 0.35}


class Comparison(NamedTuple):
    share: float
    burst: float
    rate: float
    measured_ms: dict[int, float]
    simulated_ms: dict[int, float]
    failed: int

    def error(self, percent: int) -> float:
        return self.simulated_ms[percent] / self.measured_ms[percent] - 1

    @property
    def is_met(self) -> bool:
        return not self.failed and all(abs(self.error(percent)) <= bound for percent, bound in BOUNDS.items())


def measured_times(python: str, running: Running, folder: Path, count: int) -> Times:
    offline = Offline(python, folder)
    sizes = [size for size in BATCH_SIZES if size <= Settings().max_batch_size]

    def batches(**options: Any) -> dict[int, list[float]]:
        return {size: offline.ask("times", batch=size, count=count, **options)[1:] for size in sizes}

    try:
        alone, beside, busy = batches(threads=CORES), batches(threads=1), batches(threads=1, busy=True)
        decode, busy_decode = (
            offline.ask("decode_times", batch=SMALL, count=count, busy=busy) for busy in (False, True)
        )
    finally:
        offline.close()
    pictures = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    with awake(running):
        loop = list(_loop_s(running, pictures[:count]))
    slower = {size: _times_as_long(beside[size], busy[size]) for size in sizes}
    return Times(loop, decode, alone, beside, slower, _times_as_long(decode, busy_decode))


def _times_as_long(idle: Sequence[float], busy: Sequence[float]) -> float:
    return max(1.0, statistics.median(busy) / statistics.median(idle))


def _loop_s(running: Running, pictures: Sequence[bytes]) -> Iterator[float]:
    """What is left of an answer's time when its stages are taken off: HTTP, hand-overs, and the client."""
    connection = Connection(running.port)
    for picture in pictures:
        began = time.perf_counter()
        answer = connection.ask(running.contestant.request(picture))
        took = time.perf_counter() - began
        timing = json.loads(answer.body)["timing"]
        yield max(0.0, took - sum(timing[f"{stage}_ms"] for stage in ("decode", "encode", "beam_search")) / 1000)
    connection.close()


@contextmanager
def awake(running: Running) -> Iterator[None]:
    running.program.resume()
    yield
    running.program.halt()


def compared(target: Target, shape: Shape, times: Times, rate: float, seconds: float) -> Iterator[Comparison]:
    for share, burst in itertools.product((0.3, 0.5, 0.7, 0.85), (1.0, 4.0)):
        load = put_load(target, clients=CONNECTIONS, seconds=seconds, warm_s=1.0, rate=share * rate, burst=burst)
        on_paper = simulate(shape, times, rate=share * rate, burst=burst, requests=SIMULATED)
        real_ms, paper_ms = (
            {percent: 1000 * percentile(latencies, percent) for percent in BOUNDS}
            for latencies in (load.latencies_s, on_paper)
        )
        yield Comparison(share, burst, share * rate, real_ms, paper_ms, load.failed)


def line(found: Comparison) -> str:
    cells = [f"{found.share:.0%}", f"{found.burst:.0f}", f"{found.rate:.0f}"]
    for percent, bound in BOUNDS.items():
        cells += [f"{found.measured_ms[percent]:.1f}", f"{found.simulated_ms[percent]:.1f}"]
        cells += [f"{found.error(percent):+.0%} ({bound:.0%})"]
    return f"| {' | '.join(cells)} | {'met' if found.is_met else '**missed**'} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.queueing")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each load")
    parser.add_argument("--count", type=int, default=60, help="of measurements of each station")
    parser.add_argument("--workers", type=int, default=available_cpus(), help="CAPTION_WORKERS")
    parser.add_argument("--service-python", default=".venv/bin/python", help="with the service's own packages only")
    options = parser.parse_args()
    end_by_exit()
    folder = BUILD / "pictures"
    pictures = [path.read_bytes() for path in write_pictures(folder, DRAWN)]
    service = contestants(options.service_python)[OURS]
    # A service that was halted for long would else end itself.
    own = {"CAPTION_WORKERS": str(options.workers), "CAPTION_STUCK_AFTER_S": "3600"}
    service = replace(service, environment={**(service.environment or {}), **own})
    running = start(service, pictures[0], BUILD / "logs")
    try:
        target = Target(running.port, [service.request(p) for p in pictures], [""] * len(pictures), lambda body: "")
        rate = put_load(target, clients=32, seconds=options.seconds / 3, warm_s=2.0).per_second
        running.program.halt()
        times = measured_times(options.service_python, running, folder, options.count)
        cpus = available_cpus()
        shape = Shape(cpus, options.workers, cpus, Settings().max_batch_size)
        print(f"{rate:.1f}/s at 32 clients; {calibrate():.0f} MB/s hashed")
        print("| load | burst | 1/s | p50 ms | simulated | error | p99 ms | simulated | error | |")
        print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
        all_met = True
        with awake(running):
            for found in compared(target, shape, times, rate, options.seconds):
                append(FILE, {**found._asdict(), "is_met": found.is_met})
                print(line(found), flush=True)
                all_met &= found.is_met
        return 0 if all_met else 1
    finally:
        running.program.stop()


if __name__ == "__main__":
    sys.exit(main())
