import itertools

import numpy as np
import pytest

from trainer.evaluate.metrics import score_captions
from trainer.evaluate.significance import Floats, Metric, compare, interval, mean_of

REFERENCES = {
    1: ["a man rides a brown horse on the beach", "a man is riding a horse near the sea"],
    2: ["two dogs play in the snow", "two brown dogs are playing with a ball in the snow"],
    3: ["a red bus stands at a stop", "the bus is waiting at the bus stop"],
    4: ["a child in a blue shirt eats a big apple", "a boy eats fruit"],
}
SAID = {
    1: "a man is riding a horse on a beach",
    2: "two dogs are playing in the snow with a ball",
    3: "a bus at the bus stop",
    4: "a child in a blue shirt",
}


def noise(seed: int, size: int, mean: float = 0.0) -> Floats:
    return np.random.default_rng(seed).normal(mean, 1.0, size)


def test_the_statistics_of_all_images_give_the_corpus_score() -> None:
    scores = score_captions(REFERENCES, SAID)
    assert set(scores.metrics) == set(scores.corpus)
    for name, metric in scores.metrics.items():
        assert metric.score() == pytest.approx(scores.corpus[name], abs=1e-9), name


@pytest.mark.parametrize("seed", range(5))
def test_a_resample_scores_what_the_scorer_gives_the_drawn_images(seed: int) -> None:
    drawn = np.random.default_rng(seed).integers(4, size=4) + 1
    references = {place: REFERENCES[image_id] for place, image_id in enumerate(drawn.tolist())}
    said = {place: SAID[image_id] for place, image_id in enumerate(drawn.tolist())}
    metrics, expected = score_captions(REFERENCES, SAID).metrics, score_captions(references, said).corpus
    for name in ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L"):
        low, high = interval(metrics[name], resamples=1, seed=seed)
        assert low == high == pytest.approx(expected[name], abs=1e-9), name


def test_document_frequencies_stay_those_of_the_whole_split() -> None:
    scores = score_captions(REFERENCES, SAID)
    drawn = np.random.default_rng(3).integers(4, size=4) + 1
    expected = np.mean([scores.per_image[image_id]["CIDEr-D"] for image_id in drawn.tolist()])
    assert interval(scores.metrics["CIDEr-D"], resamples=1, seed=3).low == pytest.approx(expected)


def test_the_interval_of_a_mean_is_that_of_the_textbook() -> None:
    values = noise(0, 400)
    low, high = interval(mean_of(values), resamples=4000)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    found = [interval(mean_of(noise(seed, 100, mean=5)), resamples=300, seed=seed) for seed in range(200)]
    assert 0.90 <= np.mean([low <= 5 <= high for low, high in found]) <= 0.98


def test_a_seed_fixes_the_interval_and_another_moves_it_a_little() -> None:
    metric = mean_of(noise(0, 50))
    assert interval(metric, seed=1) == interval(metric, seed=1)
    assert interval(metric, seed=1) != interval(metric, seed=2)
    assert interval(metric, seed=1) == pytest.approx(interval(metric, seed=2), abs=0.05)


@pytest.mark.parametrize("resamples", [1, 49, 50, 51, 120])
def test_every_resample_counts_however_many_there_are(resamples: int) -> None:
    seen: list[int] = []

    def count(sums: Floats) -> Floats:
        seen.append(len(sums))
        return sums[..., 0]

    interval(Metric(noise(0, 7)[:, None], count), resamples=resamples)
    assert seen == [resamples]


def test_equal_systems_do_not_differ() -> None:
    metric = score_captions(REFERENCES, SAID).metrics["BLEU-4"]
    assert compare(metric, metric) == (0, 0, 0, 0, 1)


def test_a_clear_difference_is_found_and_a_faint_one_is_not() -> None:
    ours = noise(0, 300)
    better, same = mean_of(ours + 0.2 + noise(1, 300) / 5), mean_of(ours + noise(2, 300) / 5)
    found = compare(better, mean_of(ours))
    assert found.difference == pytest.approx(0.2, abs=0.05)
    assert 0.1 < found.low < found.difference < found.high < 0.3
    assert found.better_in == 1
    assert found.p_value == pytest.approx(1 / 1001)
    faint = compare(same, mean_of(ours))
    assert faint.low < 0 < faint.high
    assert faint.p_value > 0.05


def test_a_comparison_turned_around_changes_its_sign_alone() -> None:
    ours, theirs = mean_of(noise(0, 80, mean=0.2)), mean_of(noise(1, 80))
    one, other = compare(ours, theirs), compare(theirs, ours)
    assert (other.difference, other.low, other.high) == pytest.approx((-one.difference, -one.high, -one.low))
    assert other.better_in == pytest.approx(1 - one.better_in)
    assert other.p_value == pytest.approx(one.p_value)


def test_pairing_sees_what_unpaired_intervals_hide() -> None:
    easy_and_hard = 10 * noise(0, 200)
    ours, theirs = mean_of(easy_and_hard + 0.3 + noise(1, 200) / 10), mean_of(easy_and_hard)
    assert interval(ours).low < interval(theirs).high, "each alone, they overlap"
    assert compare(ours, theirs).low > 0


def test_the_p_value_is_that_of_trying_every_swap() -> None:
    differences = np.array([0.9, -0.2, 0.4, 0.8, -0.5, 0.7, 0.1, 0.6])
    signs = np.array(list(itertools.product([-1, 1], repeat=8)))
    exact = (np.abs((signs * differences).mean(axis=1)) >= differences.mean() - 1e-9).mean()
    found = compare(mean_of(differences), mean_of(np.zeros(8)), resamples=20_000).p_value
    assert found == pytest.approx(exact, abs=0.01)


def test_differences_that_are_none_are_rarely_found() -> None:
    pairs = [(noise(2 * seed, 60), noise(2 * seed + 1, 60)) for seed in range(200)]
    values = [compare(mean_of(a), mean_of(b), resamples=200).p_value for a, b in pairs]
    assert 0.01 <= np.mean([value < 0.05 for value in values]) <= 0.10


def test_captions_swapped_in_all_images_turn_bleu_around() -> None:
    worse = {**SAID, 1: "a dog", 2: "two dogs"}
    ours, theirs = (score_captions(REFERENCES, said).metrics["BLEU-4"] for said in (SAID, worse))
    found = compare(ours, theirs, resamples=5000)
    assert found.difference == pytest.approx(
        score_captions(REFERENCES, SAID).corpus["BLEU-4"] - score_captions(REFERENCES, worse).corpus["BLEU-4"]
    )
    assert found.p_value == pytest.approx(0.5, abs=0.03), (
        "two images differ: both or none swapped is half of the tosses"
    )


def test_other_images_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="3 images are compared with 4; they must be the same images"):
        compare(mean_of(noise(0, 3)), mean_of(noise(0, 4)))
