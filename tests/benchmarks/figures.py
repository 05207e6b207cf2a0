"""What is computed from measurements: percentiles, and ratios of paired turns with bootstrap intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000


class Interval(NamedTuple):
    """A median and the 95 % percentile-bootstrap interval of it."""

    median: float
    low: float
    high: float
    turns: int


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed; not a number where there are none."""
    if not values:
        return float("nan")
    return float(np.percentile(values, percent, method="inverted_cdf"))


def bootstrap_median(values: Sequence[float], seed: int = 0) -> Interval:
    if not values:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    sample = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).choice(sample, (RESAMPLES, len(sample)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return Interval(float(np.median(sample)), float(low), float(high), len(sample))
