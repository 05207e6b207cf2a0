"""The service beside the offline loop and beside its peers, in turns.

`python -m tests.benchmarks.serving --peers litserve,mosec --clients 1,8,32 --turns 20 --seconds 3`

In each turn every contestant bears the same load for a few seconds, one after another, in an order that rotates; all
others are halted. Beside each measurement stands how fast the machine was. Nothing is dropped.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks import report
from tests.benchmarks.bounds import OPEN, OURS, PARTS, closed
from tests.benchmarks.contestants import Contestant, Running, contestants, start
from tests.benchmarks.figures import percentile
from tests.benchmarks.load import Result, Target, put_load
from tests.benchmarks.pictures import write_pictures
from tests.benchmarks.processes import calibrate, end_by_exit
from tests.benchmarks.records import append, read, values

BUILD = Path("build/bench")
FILE = BUILD / "serving.jsonl"
DRAWN, WARM_S, EAGER_WARM_S = 256, 0.5, 3.0
CAPACITY_SHARE, OPEN_CONNECTIONS = 0.7, 128
SHAPES = ((2, 16), (1, 8), (1, 16))
"""Threads of a worker and pictures of a batch, of the offline loop and of its parts."""
PARTS_S = 0.7
Measure = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Picture:
    data: bytes
    caption: str


class Offline:
    """The program without a server; it does a task at a time."""

    def __init__(self, python: str, pictures: Path) -> None:
        command = [python, "-m", "tests.benchmarks.offline", str(pictures)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, task: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"task": task, **arguments}) + "\n")
        self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            raise RuntimeError("the offline loop has ended; its words are above")
        return json.loads(line)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


class Bench:
    """The contestants, all started and halted, and the pictures that have the same caption alone and in a batch."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self.seconds: float = options.seconds
        folder = BUILD / "pictures"
        paths = write_pictures(folder, DRAWN)
        self.offline = Offline(options.service_python, folder)
        stack.callback(self.offline.close)
        said = self.offline.ask("captions")
        self.pictures = [Picture(p.read_bytes(), c[0]) for p, c in zip(paths, said, strict=True) if len(c) == 1]
        print(f"{len(self.pictures)} of {DRAWN} pictures have the same caption alone and in a batch")
        every = contestants(options.service_python)
        self.running: dict[str, Running] = {}
        for name in [OURS, *options.peers]:
            self.running[name] = self._start(every[name])
            stack.callback(self.running[name].program.stop)

    def load(self, name: str, clients: int, rate: float | None = None) -> dict[str, Any]:
        """What comes of a load on a contestant, which alone is awake meanwhile."""
        running = self.running[name]
        contestant = running.contestant
        slow = 1 if contestant.same_engine else 2
        program = running.program
        program.resume()
        cpu = program.cpu_seconds()
        result = put_load(
            self._target(running),
            clients=clients,
            seconds=self.seconds * slow,
            warm_s=WARM_S if contestant.same_engine else EAGER_WARM_S,
            rate=rate,
        )
        used = program.cpu_seconds() - cpu
        program.halt()
        return _figures(result, contestant, used, rate)

    def _target(self, running: Running) -> Target:
        contestant = running.contestant
        return Target(
            port=running.port,
            requests=[contestant.request(picture.data) for picture in self.pictures],
            captions=[picture.caption for picture in self.pictures],
            caption_in=contestant.caption_in,
        )

    def _start(self, contestant: Contestant) -> Running:
        running = start(contestant, self.pictures[0].data, BUILD / "logs")
        for clients in (1, 8, 32):
            result = put_load(self._target(running), clients=clients, seconds=1.0)
            print(f"{contestant.name}: {clients} clients, {result.per_second:.1f}/s, wrong {result.wrong}")
        running.program.halt()
        return running


def _figures(result: Result, contestant: Contestant, cpu_s: float, rate: float | None) -> dict[str, Any]:
    """Captions that an eager engine puts in other words count as answers; those of our engine are errors."""
    milliseconds = [1000 * latency for latency in result.latencies_s]
    other = 0 if contestant.same_engine else result.wrong
    return {
        "captions_per_s": result.per_second + other / result.seconds,
        **{f"p{percent}_ms": percentile(milliseconds, percent) if milliseconds else None for percent in (50, 95, 99)},
        "errors": result.failed + result.wrong - other,
        "other_words": other,
        "client_cpu_s": result.client_cpu_s,
        "server_cpu_s": cpu_s,
        "seconds": result.seconds,
        "rate": rate,
    }


def measure(turn: int, run: str, load: str, slots: Sequence[tuple[str, Measure]]) -> None:
    """One after another, beginning with another one each turn."""
    first = turn % len(slots)
    for name, slot in [*slots[first:], *slots[:first]]:
        before = calibrate()
        figures = slot()
        speed = {"calibration": before, "calibration_after": calibrate()}
        append(FILE, {"run": run, "turn": turn, "load": load, "name": name, **figures, **speed})


def closed_slots(bench: Bench, clients: int, names: Iterable[str]) -> list[tuple[str, Measure]]:
    """Servers under so many clients, and what they are held against."""
    slots: list[tuple[str, Measure]] = [
        (name, partial(bench.load, name, clients))
        for name in names
        if bench.running[name].contestant.same_engine or clients == 32
    ]
    if clients == 1:
        slots += [(f"direct, {threads} threads", partial(_direct, bench, threads)) for threads in (2, 1)]
    elif clients <= 32:
        slots += [
            (f"offline loop, {_shape(*shape)}", partial(_rate, bench, "loop", *shape, bench.seconds))
            for shape in SHAPES
        ]
    return slots


def part_slots(bench: Bench) -> list[tuple[str, Measure]]:
    """Each part of the offline loop alone."""
    shapes = [("decode", SHAPES[0]), *((part, shape) for part in ("encode", "search") for shape in SHAPES)]
    return [(f"{part}, {_shape(*shape)}", partial(_rate, bench, part, *shape, PARTS_S)) for part, shape in shapes]


def open_slots(bench: Bench, names: Iterable[str]) -> list[tuple[str, Measure]]:
    """At a share of what the service bears at 32 clients, the same rate for all."""
    known = list(values(read(FILE), closed(32), OURS, "captions_per_s").values())
    if not known:
        known = [bench.load(OURS, 32)["captions_per_s"] for _ in range(3)]
    rate = CAPACITY_SHARE * percentile(known, 50) or 1.0
    return [
        (name, partial(bench.load, name, OPEN_CONNECTIONS, rate))
        for name in names
        if bench.running[name].contestant.same_engine
    ]


def _shape(threads: int, batch: int) -> str:
    return f"{2 // threads} x {threads} threads, batch {batch}"


def _rate(bench: Bench, task: str, threads: int, batch: int, seconds: float) -> dict[str, Any]:
    return {"captions_per_s": bench.offline.ask(task, threads=threads, batch=batch, seconds=seconds)}


def _direct(bench: Bench, threads: int) -> dict[str, Any]:
    latencies = [1000 * seconds for seconds in bench.offline.ask("direct", threads=threads, seconds=bench.seconds)]
    return {
        "captions_per_s": 1000 * len(latencies) / sum(latencies),
        **{f"p{percent}_ms": percentile(latencies, percent) for percent in (50, 95, 99)},
    }


def arguments() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return [name for name in text.split(",") if name]

    def numbers(text: str) -> list[int]:
        return [int(number) for number in names(text)]

    every = [name for name in contestants("python") if name != OURS]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.serving")
    parser.add_argument("--peers", type=names, default=every, help=f"of {','.join(every)}; may be empty")
    parser.add_argument("--clients", type=numbers, default=[1, 8, 32, 128], help="of the closed loops; may be empty")
    parser.add_argument("--no-open", dest="open", action="store_false", help="without the open loop")
    parser.add_argument("--no-parts", dest="parts", action="store_false", help="without the parts of the offline loop")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--service-python", default=".venv/bin/python", help="with the service's own packages only")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    end_by_exit()
    run = time.strftime("%Y-%m-%dT%H:%M:%S")
    with ExitStack() as stack:
        bench = Bench(options, stack)
        names = [OURS, *options.peers]
        for turn in range(options.turns):
            for clients in options.clients:
                chosen = names if clients <= 32 else [OURS]
                measure(turn, run, closed(clients), closed_slots(bench, clients, chosen))
            if options.parts:
                measure(turn, run, PARTS, part_slots(bench))
            if options.open:
                measure(turn, run, OPEN, open_slots(bench, names))
            print(f"turn {turn + 1} of {options.turns}", flush=True)
    report.main()


if __name__ == "__main__":
    main()
