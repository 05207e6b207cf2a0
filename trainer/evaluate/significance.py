"""How sure a score is: bootstrap intervals over images, and tests of two systems that captioned the same images.

Every corpus score here is a function of numbers that add up over images (BLEU of its counts, CIDEr-D of its sum), so
the scores of all resamples are one matrix product away. What the references alone decide, such as CIDEr-D's document
frequencies, stays as the whole split has it.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.95
BLOCK = 50
"""Resamples at a time: 40,000 images then take 16 MB."""


class Metric(NamedTuple):
    """A corpus score as a function of per-image statistics, summed over the images."""

    statistics: Floats  # (N images, S numbers)
    of_sums: Callable[[Floats], Floats]  # (..., S) -> (...)

    def score(self) -> float:
        return float(self.of_sums(self.statistics.sum(axis=0)))


class Scored(NamedTuple):
    """What a metric says of a set of captions."""

    corpus: float
    each: Floats  # (N images)
    metric: Metric
    """How the corpus score follows from the images."""


class Interval(NamedTuple):
    low: float
    high: float


class Comparison(NamedTuple):
    """Of one system with another on the same images."""

    difference: float
    """Ours less theirs."""
    low: float
    high: float
    """The 95 % interval of the difference, by paired bootstrap."""
    better_in: float
    """The share of the paired resamples in which ours scores higher (Koehn 2004)."""
    p_value: float
    """How often a difference as large comes about by chance where both are equally good: approximate randomisation."""


def mean_of(values: Floats) -> Metric:
    """The mean over the images of a per-image score (N)."""
    return Metric(np.stack([values, np.ones_like(values)], axis=1), lambda sums: sums[..., 0] / sums[..., 1])


def interval(metric: Metric, *, resamples: int = 1000, seed: int = 0) -> Interval:
    """The percentile bootstrap interval (Efron 1979): images are drawn with replacement, as many as there are."""
    return _percentiles(metric.of_sums(_resampled_sums(metric.statistics, resamples, seed)))


def compare(ours: Metric, theirs: Metric, *, resamples: int = 1000, seed: int = 0) -> Comparison:
    """The difference of two systems, row by row on the same images.

    The interval is Koehn's paired bootstrap ("Statistical Significance Tests for Machine Translation Evaluation",
    2004): both systems are scored on the same resamples. The p-value, two-sided, is approximate randomisation: the
    systems' captions are swapped image by image by the toss of a coin. It finds fewer differences that are none
    (Riezler and Maxwell 2005).
    """
    if ours.statistics.shape != theirs.statistics.shape:
        raise ValueError(
            f"{len(ours.statistics)} images are compared with {len(theirs.statistics)}; they must be the same images"
        )
    difference = ours.score() - theirs.score()
    both = np.concatenate([ours.statistics, theirs.statistics], axis=1)
    our_sums, their_sums = np.split(_resampled_sums(both, resamples, seed), 2, axis=1)
    resampled = ours.of_sums(our_sums) - theirs.of_sums(their_sums)
    swapped = _swapped_differences(ours, theirs, resamples, seed)
    as_large = np.abs(swapped) >= abs(difference) - 1e-9  # sums in another order differ in their last digits
    return Comparison(
        difference=difference,
        **_percentiles(resampled)._asdict(),
        better_in=float((resampled > 0).mean()),
        p_value=float((as_large.sum() + 1) / (resamples + 1)),
    )


def _percentiles(scores: Floats) -> Interval:
    low, high = np.quantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _resampled_sums(statistics: Floats, resamples: int, seed: int) -> Floats:
    """(N, S) -> (R, S): the sums over each resample. The same seed and N draw the same images."""
    rng, size = np.random.default_rng(seed), len(statistics)

    def times_drawn(rows: int) -> NDArray[np.intp]:
        return np.stack([np.bincount(rng.integers(size, size=size), minlength=size) for _ in range(rows)])

    return np.concatenate([times_drawn(rows) @ statistics for rows in _blocks(resamples)])


def _swapped_differences(ours: Metric, theirs: Metric, resamples: int, seed: int) -> Floats:
    """(R): the difference after swapping each image's captions, or not, by a fair coin."""
    rng, size = np.random.default_rng(seed), len(ours.statistics)
    surplus = theirs.statistics - ours.statistics
    moved = np.concatenate([rng.integers(2, size=(rows, size)) @ surplus for rows in _blocks(resamples)])
    return ours.of_sums(ours.statistics.sum(axis=0) + moved) - theirs.of_sums(theirs.statistics.sum(axis=0) - moved)


def _blocks(count: int) -> Iterator[int]:
    for begin in range(0, count, BLOCK):
        yield min(BLOCK, count - begin)
