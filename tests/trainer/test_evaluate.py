import pytest

from trainer.evaluate import has_java, score

# Two sentences with two references each; the figures that another lab's tool publishes for them come from files that
# are not ours to ship, so these were worked out by hand or by the official scorers.
REFERENCES = {
    1: ["a man rides a brown horse on the beach", "a man is riding a horse near the sea"],
    2: ["two dogs play in the snow", "two brown dogs are playing with a ball in the snow"],
    3: ["a red bus stands at a stop", "the bus is waiting at the bus stop"],
}


def test_a_perfect_caption_has_perfect_bleu_and_rouge() -> None:
    scores = score(REFERENCES, {image_id: captions[0] for image_id, captions in REFERENCES.items()})
    assert scores["BLEU-1"] == pytest.approx(100)
    assert scores["BLEU-4"] == pytest.approx(100)
    assert scores["ROUGE-L"] == pytest.approx(100)
    assert scores["CIDEr-D"] > 300


def test_bleu_1_is_clipped_precision_with_a_brevity_penalty() -> None:
    scores = score({1: ["the cat sat on the mat"], 2: ["a dog"]}, {1: "the the the", 2: "a dog"})
    # 4 of 5 words are right (two of three `the`), and 5 words against 8 cost exp(1 - 8 / 5).
    assert scores["BLEU-1"] == pytest.approx(100 * 4 / 5 * 2.718281828 ** (1 - 8 / 5), rel=1e-5)


def test_case_and_punctuation_do_not_count() -> None:
    plain = {1: "a man rides a horse", 2: "two dogs play", 3: "a red bus"}
    loud = {1: "A man rides a horse.", 2: "Two dogs play!", 3: "A red bus..."}
    assert score(REFERENCES, plain) == score(REFERENCES, loud)


def test_a_word_that_all_images_share_counts_for_less_than_a_rare_one() -> None:
    rare, common = {1: "horse", 2: "x", 3: "x"}, {1: "a", 2: "x", 3: "x"}
    references = {1: ["a horse"], 2: ["a dog"], 3: ["a bus"]}
    assert score(references, rare)["CIDEr-D"] > score(references, common)["CIDEr-D"]


def test_one_image_alone_has_no_cider_for_every_word_is_everywhere() -> None:
    assert score({1: ["a dog"]}, {1: "a dog"})["CIDEr-D"] == 0


def test_an_empty_caption_scores_nothing_and_breaks_nothing() -> None:
    said = {1: "", 2: "two dogs play in the snow", 3: "a red bus stands at a stop"}
    assert score(REFERENCES, said)["CIDEr-D"] > 0


def test_images_without_a_caption_are_refused() -> None:
    with pytest.raises(ValueError, match="3 images have references, 1 have captions"):
        score(REFERENCES, {1: "a man"})


@pytest.mark.skipif(not has_java(), reason="METEOR needs Java")
def test_meteor_ranks_a_right_caption_above_a_wrong_one() -> None:
    right = {image_id: captions[0] for image_id, captions in REFERENCES.items()}
    wrong = dict(zip(REFERENCES, reversed(list(right.values())), strict=True))
    assert score(REFERENCES, right, meteor=True)["METEOR"] > score(REFERENCES, wrong, meteor=True)["METEOR"] + 20
