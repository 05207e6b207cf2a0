"""COCO's metrics from the official scorers, for every image and for all together, and what their intervals need."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from shared.vocabulary import tokenize
from trainer.evaluate.meteor import meteor as meteor_scores
from trainer.evaluate.significance import Floats, Interval, Metric, Scored, interval, mean_of
from trainer.evaluate.spice import spice as spice_score

ORDERS = 4
SMALL, TINY = 1e-9, 1e-15
"""The official scorer of BLEU adds these, so that it never divides by nothing."""

References = Mapping[int, list[str]]


@dataclass(frozen=True)
class Scores:
    """All times 100, as papers print them."""

    corpus: dict[str, float]
    per_image: dict[int, dict[str, float]]
    """BLEU as the scorer has it for one caption, which is harsh: no common four words, next to no BLEU-4."""
    metrics: dict[str, Metric]
    """How each corpus score follows from the images; SPICE is not among them."""

    def intervals(self, *, resamples: int, seed: int) -> dict[str, Interval]:
        return {name: interval(metric, resamples=resamples, seed=seed) for name, metric in self.metrics.items()}


def score_captions(
    references: Mapping[int, Sequence[str]],
    hypotheses: Mapping[int, str],
    *,
    meteor: bool = False,
    spice: bool = False,
) -> Scores:
    """BLEU-1..4, ROUGE-L and CIDEr-D, and METEOR and SPICE (which need Java) if asked for.

    Every image of `references` needs a hypothesis. CIDEr-D takes its document frequencies from these references, as
    COCO's evaluation does, so scores of different splits, or of parts of a split, do not compare.
    """
    if set(references) != set(hypotheses):
        raise ValueError(
            f"{len(references)} images have references, {len(hypotheses)} have captions; they must be the same"
        )
    right = {image_id: [" ".join(tokenize(text)) for text in texts] for image_id, texts in references.items()}
    said = {image_id: " ".join(tokenize(hypotheses[image_id])) for image_id in right}
    scored = {f"BLEU-{n}": bleu for n, bleu in enumerate(_bleu(right, said), start=1)}
    if meteor:
        scored["METEOR"] = meteor_scores(right, said)
    scored["ROUGE-L"] = _mean(Rouge(), right, said)
    scored["CIDEr-D"] = _mean(Cider(), right, said)
    corpus = {name: 100 * float(each.corpus) for name, each in scored.items()}
    if spice:
        corpus["SPICE"] = 100 * spice_score(right, said)
    rows = (100 * np.stack([each.each for each in scored.values()], axis=1)).tolist()
    return Scores(
        corpus=corpus,
        per_image={image_id: dict(zip(scored, row, strict=True)) for image_id, row in zip(right, rows, strict=True)},
        metrics={name: Metric(each.metric.statistics, _percent(each.metric)) for name, each in scored.items()},
    )


def _percent(metric: Metric) -> Callable[[Floats], Floats]:
    return lambda sums: 100 * metric.of_sums(sums)


def _mean(scorer: Any, references: References, hypotheses: Mapping[int, str]) -> Scored:
    """Of a scorer whose corpus score is the mean of its images' scores."""
    corpus, each = scorer.compute_score(references, {image_id: [text] for image_id, text in hypotheses.items()})
    return Scored(corpus, each, mean_of(each))


def _bleu(references: References, hypotheses: Mapping[int, str]) -> list[Scored]:
    """BLEU-1..4 with the nearest reference's length, and the clipped counts that they follow from."""
    scorer = BleuScorer(n=ORDERS)
    for image_id, texts in references.items():
        scorer += (hypotheses[image_id], texts)
    corpus, each = scorer.compute_score(option="closest")
    counts = np.array([_counts(caption) for caption in scorer.ctest], dtype=np.float64)
    return [
        Scored(corpus[n - 1], np.array(each[n - 1]), Metric(counts, partial(bleu_of_counts, order=n)))
        for n in range(1, ORDERS + 1)
    ]


def _counts(caption: Mapping[str, Any]) -> list[int]:
    length = caption["testlen"]
    nearest = min((abs(reference - length), reference) for reference in caption["reflen"])[1]
    return [*caption["correct"], *caption["guess"], length, nearest]


def bleu_of_counts(counts: Floats, *, order: int) -> Floats:
    """(..., 10) -> (...): clipped n-gram matches, n-grams, words, and words of the nearest references."""
    correct, said, length, right_length = np.split(counts, [ORDERS, 2 * ORDERS, 2 * ORDERS + 1], axis=-1)
    precisions = (correct[..., :order] + TINY) / (said[..., :order] + SMALL)
    ratio = (length[..., 0] + TINY) / (right_length[..., 0] + SMALL)
    return precisions.prod(axis=-1) ** (1 / order) * np.exp(np.minimum(0.0, 1 - 1 / ratio))
