"""The simulated service beside the real one: `python -m tests.benchmarks.queueing --seconds 30`, on a quiet machine.

What each station takes is measured alone. How much slower batches beside each other are is told by closed loops, and
what it takes to wake the event loop by one load of single requests at random. Then requests arrive at random, one by
one and in bursts, at several shares of what the service bears. Of these the simulation must tell p50 within 20 % and
p99 within 35 %.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from service.cpus import available_cpus
from service.settings import Settings
from shared.engine import BATCH_SIZES
from tests.benchmarks.bounds import OURS
from tests.benchmarks.contestants import Running, contestants, start
from tests.benchmarks.figures import percentile
from tests.benchmarks.load import Connection, Result, Target, put_load
from tests.benchmarks.offline import CORES
from tests.benchmarks.pictures import write_pictures
from tests.benchmarks.processes import end_by_exit
from tests.benchmarks.records import append
from tests.benchmarks.serving import BUILD, DRAWN, Offline
from tests.benchmarks.simulation import Arrivals, Shape, Times, fitted_to_arrivals, fitted_to_loops

FILE = BUILD / "queueing.jsonl"
CONNECTIONS, REPEATED, WARM_S = 128, 20, 1.0
SMALL, LARGE, PACE_S = 4, 16, 2.0
PARTS = 3
"""Of a load at random: before and after each it is measured how fast the machine is."""
CLOSED, FITTED_SHARE = (2, 4, 8, 16), 0.85
"""Clients of the closed loops, the last of which tells the loop's work, and the share of the load at random."""
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

    def times(self, outside_s: float, loop_s: float, woken_s: float, rounds: int) -> Times:
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
        slower, decode_slower = dict.fromkeys(sizes, 1.0), _times_as_long(decode, busy_decode)
        return Times(loop_s, woken_s, outside_s, decode, alone, beside, slower, decode_slower)


def _times_as_long(idle: Sequence[float], busy: Sequence[float]) -> float:
    return max(1.0, statistics.median(busy) / statistics.median(idle))


class AtRandom(NamedTuple):
    """What came of a load."""

    rate: float
    latencies_s: list[float]
    arrivals: list[Arrivals]
    failed: int


class Calibration:
    """The service under loads by which the simulation is fitted, and how fast the machine was at each."""

    def __init__(self, running: Running, pictures: Sequence[bytes], stations: Stations, seconds: float) -> None:
        contestant = running.contestant
        requests = [contestant.request(picture) for picture in pictures]
        self.target = Target(running.port, requests, [""] * len(requests), lambda body: "")
        self._running, self._stations, self._seconds = running, stations, seconds
        self.rate = put_load(self.target, clients=32, seconds=seconds / 3, warm_s=2.0).per_second
        self.reference = self._before = stations.pace()

    def load(self, **options: Any) -> tuple[Result, float, float]:
        """What came of a load, so many times as long everything took as at first, and the loop's CPU for a request."""
        cpu_s = self._running.program.main_thread_seconds()
        result = put_load(self.target, warm_s=WARM_S, **options)
        cpu_s = self._running.program.main_thread_seconds() - cpu_s
        before, self._before = self._before, self._stations.pace()
        return result, 2 * self.reference / (before + self._before), cpu_s / len(result.arrivals_s)

    def times(self, shape: Shape, rounds: int) -> Times:
        outside_s, alone_s = self._one_by_one()
        closed, loop_s = dict[int, float](), 0.0
        for clients in CLOSED:
            result, longer, loop_s = self.load(clients=clients, seconds=self._seconds / 3)
            closed[clients] = result.per_second * longer
        measured = self._stations.times(outside_s, loop_s, max(0.0, alone_s - loop_s), rounds)
        times = fitted_to_loops(shape, measured, closed)
        fit = self.at_random(FITTED_SHARE, 1.0, seed=PARTS)
        return fitted_to_arrivals(shape, times, fit.arrivals, statistics.median(fit.latencies_s))

    def at_random(self, share: float, burst: float, seed: int = 0) -> "AtRandom":
        """Requests at random, at this share of what the service bears."""
        rate, latencies, arrivals, failed = share * self.rate, list[float](), list[Arrivals](), 0
        for part in range(PARTS):
            options = {"rate": rate, "burst": burst, "seed": seed + part}
            result, longer, _ = self.load(clients=CONNECTIONS, seconds=self._seconds / PARTS, **options)
            latencies += result.latencies_s
            arrivals.append(Arrivals(result.arrivals_s, longer, WARM_S))
            failed += result.failed
        return AtRandom(rate, latencies, arrivals, failed)

    def _one_by_one(self) -> tuple[float, float]:
        """What is left of an answer's time when its stages and the loop's CPU are taken off; and that CPU."""
        connection, program = Connection(self.target.port), self._running.program
        rest, cpu_s = [], program.main_thread_seconds()
        for request in self.target.requests:
            began = time.perf_counter()
            answer = connection.ask(request)
            took = time.perf_counter() - began
            timing = json.loads(answer.body)["timing"]
            rest.append(took - sum(timing[f"{stage}_ms"] for stage in ("decode", "encode", "beam_search")) / 1000)
        connection.close()
        cpu_s = (program.main_thread_seconds() - cpu_s) / len(rest)
        return max(0.0, statistics.median(rest) - cpu_s), cpu_s


def compared(calibration: Calibration, shape: Shape, times: Times) -> Iterator[Comparison]:
    """On paper the very arrivals of the load come, to a machine that is as fast as it was before and after them."""
    for share, burst in itertools.product((0.3, 0.5, 0.7, 0.85), (1.0, 4.0)):
        load = calibration.at_random(share, burst)
        on_paper = [each for part in load.arrivals for each in part.latencies(shape, times, REPEATED)]
        real_ms, paper_ms = (
            {percent: 1000 * percentile(latencies, percent) for percent in BOUNDS}
            for latencies in (load.latencies_s, on_paper)
        )
        yield Comparison(share, burst, load.rate, real_ms, paper_ms, load.failed)


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
    parser.add_argument("--service-python", default=".venv/bin/python", help="with the service's own packages only")
    options = parser.parse_args()
    end_by_exit()
    folder = BUILD / "pictures"
    pictures = [path.read_bytes() for path in write_pictures(folder, DRAWN)]
    service = contestants(options.service_python)[OURS]
    running = start(service, pictures[0], BUILD / "logs")
    offline = Offline(options.service_python, folder)
    try:
        stations, cpus = Stations(offline), available_cpus()
        shape = Shape(cpus, cpus, cpus, Settings().max_batch_size)
        calibration = Calibration(running, pictures, stations, options.seconds)
        times = calibration.times(shape, options.rounds)
        print(f"{calibration.rate:.1f}/s at 32 clients; {calibration.reference:.1f}/s offline; {described(times)}")
        print("| load | burst | 1/s | p50 ms | simulated | error | p99 ms | simulated | error | |")
        print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
        all_met = True
        for found in compared(calibration, shape, times):
            append(FILE, {**found._asdict(), "is_met": found.is_met})
            print(line(found), flush=True)
            all_met &= found.is_met
        return 0 if all_met else 1
    finally:
        offline.close()
        running.program.stop()


def described(times: Times) -> str:
    """Milliseconds, medians."""
    batches = (
        f"{size}: {1000 * statistics.median(times.alone[size]):.0f} with all cores, "
        f"{1000 * statistics.median(times.beside[size]):.0f} with one (x {times.slower[size]:.2f} beside another)"
        for size in times.beside
    )
    return (
        f"loop {1000 * times.loop_s:.1f} ms and {1000 * times.woken_s:.1f} more when woken, "
        f"outside {1000 * times.outside_s:.1f}, "
        f"decode {1000 * statistics.median(times.decode):.1f} (x {times.decode_slower:.2f} beside batches), "
        f"batches of {'; '.join(batches)}"
    )


if __name__ == "__main__":
    sys.exit(main())
