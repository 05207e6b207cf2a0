"""The simulated service beside the real one: `python -m tests.benchmarks.queueing --seconds 30`, on a quiet machine.

What each station takes is measured alone; how much slower batches beside each other are, by closed loops of a few
clients. Then requests arrive at random, one by one and in bursts, at several shares of what the service bears. Of these
loads, which it has not seen, the simulation must tell p50 within 20 % and p99 within 35 %.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from service.cpus import available_cpus
from service.settings import Settings
from shared.engine import BATCH_SIZES
from tests.benchmarks.bounds import OURS
from tests.benchmarks.contestants import Running, contestants, start
from tests.benchmarks.figures import percentile
from tests.benchmarks.load import Connection, Target, put_load
from tests.benchmarks.offline import CORES
from tests.benchmarks.pictures import write_pictures
from tests.benchmarks.processes import end_by_exit
from tests.benchmarks.records import append
from tests.benchmarks.serving import BUILD, DRAWN, Offline
from tests.benchmarks.simulation import Shape, Times, fitted, simulate

FILE = BUILD / "queueing.jsonl"
CONNECTIONS, REPEATED, WARM_S = 128, 20, 1.0
SMALL, LARGE, PACE_S = 4, 16, 2.0
CLOSED = (2, 4, 8, 16)
"""Clients of the closed loops."""
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


class Stations:
    """The service's stations without the service: what each takes, and how fast the machine is just now."""

    def __init__(self, offline: Offline) -> None:
        self._offline = offline

    def pace(self) -> float:
        """Pictures a second of the offline loop."""
        return self._offline.ask("loop", threads=1, batch=SMALL, seconds=PACE_S)

    def times(self, loop: Sequence[float], rounds: int) -> Times:
        """Everything is measured in turn, for the machine is not always equally fast."""
        sizes = [size for size in BATCH_SIZES if size <= Settings().max_batch_size]
        alone, beside = (defaultdict[int, list[float]](list) for _ in range(2))
        decode, busy_decode = list[float](), list[float]()
        for _ in range(rounds):
            for size in sizes:
                for found, threads in ((alone, CORES), (beside, 1)):
                    asked = {"batch": size, "count": 1 + -(-LARGE // size), "threads": threads}
                    found[size] += self._offline.ask("times", **asked)[1:]
            decode += self._offline.ask("decode_times", batch=SMALL, count=LARGE)
            busy_decode += self._offline.ask("decode_times", batch=SMALL, count=LARGE, busy=True)
        return Times(loop, decode, alone, beside, dict.fromkeys(sizes, 1.0), _times_as_long(decode, busy_decode))


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


def compared(
    target: Target, shape: Shape, times: Times, stations: Stations, rate: float, seconds: float
) -> Iterator[Comparison]:
    """On paper the very arrivals of the load come, to a machine that is as fast as it was before and after the load."""
    reference = before = stations.pace()
    closed = dict[int, float]()
    for clients in CLOSED:
        measured = put_load(target, clients=clients, seconds=seconds / 3, warm_s=WARM_S).per_second
        after = stations.pace()
        closed[clients], before = measured * 2 * reference / (before + after), after
    times = fitted(shape, times, closed)
    print(f"closed loops: {closed}; {described(times)}")
    for share, burst in itertools.product((0.3, 0.5, 0.7, 0.85), (1.0, 4.0)):
        load = put_load(target, clients=CONNECTIONS, seconds=seconds, warm_s=WARM_S, rate=share * rate, burst=burst)
        after = stations.pace()
        now, before = times.stretched(2 * reference / (before + after)), after
        on_paper = [
            latency
            for seed in range(REPEATED)
            for due, latency in zip(load.arrivals_s, simulate(shape, now, load.arrivals_s, seed=seed), strict=True)
            if due >= WARM_S
        ]
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
    parser.add_argument("--rounds", type=int, default=5, help="of measurements of each station")
    parser.add_argument("--workers", type=int, default=available_cpus(), help="CAPTION_WORKERS")
    parser.add_argument("--service-python", default=".venv/bin/python", help="with the service's own packages only")
    options = parser.parse_args()
    end_by_exit()
    folder = BUILD / "pictures"
    pictures = [path.read_bytes() for path in write_pictures(folder, DRAWN)]
    service = contestants(options.service_python)[OURS]
    service = replace(service, environment={**(service.environment or {}), "CAPTION_WORKERS": str(options.workers)})
    running = start(service, pictures[0], BUILD / "logs")
    offline = Offline(options.service_python, folder)
    try:
        target = Target(running.port, [service.request(p) for p in pictures], [""] * len(pictures), lambda body: "")
        rate = put_load(target, clients=32, seconds=options.seconds / 3, warm_s=2.0).per_second
        stations = Stations(offline)
        times = stations.times(list(_loop_s(running, pictures)), options.rounds)
        cpus = available_cpus()
        shape = Shape(cpus, options.workers, cpus, Settings().max_batch_size)
        print(f"{rate:.1f}/s at 32 clients; {stations.pace():.1f}/s offline; {described(times)}")
        print("| load | burst | 1/s | p50 ms | simulated | error | p99 ms | simulated | error | |")
        print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
        all_met = True
        for found in compared(target, shape, times, stations, rate, options.seconds):
            append(FILE, {**found._asdict(), "is_met": found.is_met})
            print(line(found), flush=True)
            all_met &= found.is_met
        return 0 if all_met else 1
    finally:
        offline.close()
        running.program.stop()


def described(times: Times) -> str:
    """Milliseconds, medians."""
    median = {name: 1000 * statistics.median(found) for name, found in (("loop", times.loop), ("decode", times.decode))}
    batches = (
        f"{size}: {1000 * statistics.median(times.alone[size]):.0f} with all cores, "
        f"{1000 * statistics.median(times.beside[size]):.0f} with one (x {times.slower[size]:.2f} beside another)"
        for size in times.beside
    )
    return (
        f"loop {median['loop']:.1f} ms, decode {median['decode']:.1f} (x {times.decode_slower:.2f} beside batches), "
        f"batches of {'; '.join(batches)}"
    )


if __name__ == "__main__":
    sys.exit(main())
