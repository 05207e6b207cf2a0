"""Damage many files, read them as the service does, and tell what came of it.

`python -m tests.shared.fuzz_images COUNT [FIRST]` reads the examples FIRST to FIRST + COUNT - 1; the same number is the
same example. Exit code 1 at the first one that gives neither a picture nor an `InvalidImageError`, takes more than
5 s of CPU, or with which the process grows past 200 MB more than it needed for the undamaged files.
"""

import random
import resource
import sys
import time
import warnings
from collections import Counter

from shared.image import ImageLimits, InvalidImageError, Preprocessing, read_pixels
from tests.shared.image_damage import SEEDS, damaged

PREPROCESSING = Preprocessing(224, "squash", (0, 0, 0), (1, 1, 1))
LIMITS = ImageLimits(max_pixels=4_000_000)
CPU_S, GROWTH_MB = 5.0, 200.0


def outcome_of(data: bytes) -> str:
    try:
        read_pixels(data, PREPROCESSING, LIMITS)
    except InvalidImageError as error:
        return type(error).__name__
    return "picture"


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main(count: int, first: int = 0) -> int:
    warnings.simplefilter("ignore")
    for _, data in SEEDS:
        outcome_of(data)
    outcomes: dict[str, Counter[str]] = {kind: Counter() for kind, _ in SEEDS}
    slowest: dict[str, tuple[float, int]] = {kind: (0.0, 0) for kind, _ in SEEDS}
    before = peak_mb()
    for number in range(first, first + count):
        kind, data = SEEDS[number % len(SEEDS)]
        began = time.process_time()
        try:
            outcomes[kind][outcome_of(damaged(data, random.Random(number)))] += 1
        except Exception as error:
            print(f"example {number}, a {kind}: {error!r}")
            return 1
        slowest[kind] = max(slowest[kind], (time.process_time() - began, number))
        if slowest[kind][0] > CPU_S or peak_mb() - before > GROWTH_MB:
            print(f"example {number}, a {kind}: {slowest[kind][0]:.1f} s of CPU, {peak_mb() - before:.0f} MB more")
            return 1
    for kind, counts in outcomes.items():
        told = ", ".join(f"{name} {many}" for name, many in counts.most_common())
        print(f"{kind:5} {told}; slowest {slowest[kind][0] * 1000:.0f} ms (example {slowest[kind][1]})")
    print(f"{count} examples from {first}; the process grew by {peak_mb() - before:.0f} MB at its peak")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
