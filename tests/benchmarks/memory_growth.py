"""How much a service grows under half an hour of pictures of all sizes and batches of all sizes.

`python -m tests.benchmarks.memory_growth --minutes 30`

Exit code 1 where memory after the first tenth of the time has grown by 2 % or more at the end.

What a library's pages take is divided among all who use it: start and end no other service meanwhile.
"""

import argparse
import random
import statistics
import sys
import time

from tests.benchmarks import report
from tests.benchmarks.bounds import OURS
from tests.benchmarks.contestants import Running, contestants, start
from tests.benchmarks.load import Target, put_load
from tests.benchmarks.pictures import jpeg
from tests.benchmarks.processes import end_by_exit
from tests.benchmarks.records import append

FILE = report.BUILD / "memory.jsonl"
WARM_SHARE, BOUND = 0.1, 0.02
SIDES = (16, 2400)
SIZES, UPLOADS = 4, 512
"""Sizes of pictures in a load, and uploads that differ."""
CLIENTS = (1, 2, 3, 5, 8, 13, 21, 32, 64)
"""The more clients, the larger the batches."""
LOAD_S = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.memory_growth")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--service-python", default=".venv/bin/python", help="with the service's own packages only")
    options = parser.parse_args()
    end_by_exit()
    contestant = contestants(options.service_python)[OURS]
    running = start(contestant, jpeg(0), report.BUILD / "logs")
    try:
        samples = watch(running, 60 * options.minutes)
    finally:
        running.program.stop()
    grown = growth(samples, 60 * options.minutes)
    append(FILE, {"minutes": options.minutes, "growth": grown, "samples": samples})
    after = 60 * options.minutes * WARM_SHARE
    print(f"memory grew by {100 * grown:.2f} % after the first {after:.0f} s; less than {BOUND:.0%} is allowed")
    return grown >= BOUND


def watch(running: Running, seconds: float) -> list[tuple[float, int]]:
    """Seconds since the start and bytes resident, while loads of one size after another come and go."""
    dice, began, samples = random.Random(0), time.monotonic(), []
    while (elapsed := time.monotonic() - began) < seconds:
        clients = dice.choice(CLIENTS)
        result = put_load(_mixed(running, dice), clients=clients, seconds=LOAD_S, warm_s=0.0)
        samples.append((time.monotonic() - began, running.program.resident_bytes()))
        print(
            f"{elapsed:7.1f} s  {samples[-1][1] / 1e6:7.1f} MB  {clients:2} clients  {result.wrong:4} answers, "
            f"{result.failed} failed",
            flush=True,
        )
    return samples


def _mixed(running: Running, dice: random.Random) -> Target:
    """Pictures of sizes that never came before; what they are called matters to nobody."""
    low, high = SIDES
    drawn = [jpeg(dice.getrandbits(32), dice.randint(low, high), dice.randint(low, high)) for _ in range(SIZES)]
    # Bytes after its end make an upload of its own of the same picture: the service captions equal ones only once.
    requests = [running.contestant.request(drawn[i % SIZES] + dice.randbytes(8)) for i in range(UPLOADS)]
    return Target(running.port, requests, [""] * UPLOADS, running.contestant.caption_in)


def growth(samples: list[tuple[float, int]], seconds: float) -> float:
    """From the median of the tenth of the time after the warm-up to that of the last tenth, as a share."""
    tenth = WARM_SHARE * seconds
    first = [size for at, size in samples if tenth <= at < 2 * tenth]
    last = [size for at, size in samples if at >= seconds - tenth]
    return statistics.median(last) / statistics.median(first) - 1


if __name__ == "__main__":
    sys.exit(main())
