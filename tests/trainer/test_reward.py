import random
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from pycocoevalcap.cider.cider import Cider

from shared.vocabulary import END_ID, UNK_ID, Vocabulary
from trainer.drawing import draw_scene
from trainer.reward import LARGEST_ID, CiderReward, advantages, consensus_weights

Caption = list[int]
References = list[list[Caption]]

# Few words, so that n-grams meet; the rare large ones are far apart when packed.
WORDS = st.sampled_from([0, 1, END_ID, 4, 5, 6, 7, 300, LARGEST_ID - 1, LARGEST_ID])
CAPTIONS = st.lists(WORDS, max_size=14)

RIDER = [
    ["a man rides a horse on a beach", "a man is riding a brown horse", "a man on a horse"],
    ["a dog runs on a beach", "a dog and a man", "a brown dog on the sand"],
    ["a cat sleeps on a sofa", "a grey cat lies on a couch", "a cat is asleep"],
    ["a red bus stands on a corner", "a bus drives down a street", "a bus stop with a bus"],
]


@st.composite
def corpora(draw: st.DrawFn) -> tuple[References, list[Caption]]:
    """References of some photos, and a hypothesis for each photo: often one that shares much with a reference."""
    references = draw(st.lists(st.lists(CAPTIONS, min_size=1, max_size=4), min_size=1, max_size=6))
    references[0][0].append(4)  # the official scorer needs a word
    hypotheses = [draw(CAPTIONS | st.sampled_from(captions).map(lambda c: [*c[:5], *c[6:]])) for captions in references]
    return references, hypotheses


def official(references: References, hypotheses: list[Caption]) -> NDArray[np.float64]:
    """What COCO's evaluation gives each hypothesis, its captions being the ids written out."""

    def text(caption: Caption) -> str:
        return " ".join(map(str, caption))

    right = {photo: [text(caption) for caption in captions] for photo, captions in enumerate(references)}
    _, each = Cider().compute_score(right, {photo: [text(caption)] for photo, caption in enumerate(hypotheses)})
    return np.asarray(each)


def ids_of(vocabulary: Vocabulary, caption: str, *, end: bool = True) -> list[int]:
    return vocabulary.encode(caption)[1 : None if end else -1]


def vocabulary_of(photos: Sequence[Sequence[str]]) -> Vocabulary:
    return Vocabulary.from_captions([caption for captions in photos for caption in captions], min_count=1)


@pytest.fixture(scope="module")
def drawn() -> tuple[Vocabulary, list[list[str]]]:
    """The captions of drawn pictures."""
    photos = [draw_scene(random.Random(seed), 16)[1] for seed in range(80)]
    return vocabulary_of(photos), photos


@settings(max_examples=300, deadline=None)
@given(corpora())
def test_rewards_are_the_official_scores(corpus: tuple[References, list[Caption]]) -> None:
    references, hypotheses = corpus
    rewards = CiderReward(references)(range(len(references)), hypotheses)
    assert rewards.dtype == np.float32
    assert rewards == pytest.approx(official(references, hypotheses), abs=1e-6)


@pytest.mark.parametrize("apart", [0, 1, 40])
def test_drawn_captions_get_their_official_scores(drawn: tuple[Vocabulary, list[list[str]]], apart: int) -> None:
    vocabulary, photos = drawn
    references = [[ids_of(vocabulary, caption) for caption in captions[:4]] for captions in photos]
    said = [ids_of(vocabulary, photos[(index + apart) % len(photos)][4]) for index in range(len(photos))]
    rewards = CiderReward(references)(range(len(photos)), said)
    assert rewards == pytest.approx(official(references, said), abs=1e-6)
    assert rewards.mean() > (2 if apart == 0 else 0.1)


@settings(max_examples=50, deadline=None)
@given(corpora(), st.randoms(use_true_random=False))
def test_a_caption_is_worth_the_same_alone_and_among_others(
    corpus: tuple[References, list[Caption]], rng: random.Random
) -> None:
    references, hypotheses = corpus
    reward = CiderReward(references)
    photos = [rng.randrange(len(references)) for _ in range(12)]
    said = [rng.choice(hypotheses) for _ in photos]
    alone = [reward([photo], [caption])[0] for photo, caption in zip(photos, said, strict=True)]
    assert reward(photos, said) == pytest.approx(alone, abs=1e-6)


def test_saying_every_reference_word_for_word_is_worth_ten() -> None:
    reward = CiderReward([[[4, 5, 6, 7, END_ID]] * 3, [[8, 9, END_ID]]])
    assert reward([0, 1, 0], [[4, 5, 6, 7, END_ID], [4, 5, 6, 7, END_ID], [8, 9, 10]]) == pytest.approx([10, 0, 0])


def test_a_caption_longer_than_its_reference_pays_for_it() -> None:
    reward = CiderReward([[[4]], [[5]]])
    assert reward([0], [[4]]) == pytest.approx(10 / 4), "one order of four matches, without a penalty"
    cosine = 1 / np.sqrt(5)  # word 4 and four unknown ones, each of the same weight
    assert reward([0], [[4, 6, 7, 8, 9]]) == pytest.approx(10 / 4 * cosine * np.exp(-(4**2) / 72))


def test_repeating_a_word_gains_nothing() -> None:
    reward = CiderReward([[[4, 5, 6, END_ID]], [[7, 8, END_ID]], [[9, END_ID]]])
    once, twice = reward([0, 0], [[4, 5, 6, END_ID], [4, 4, 5, 6, END_ID]])
    assert twice < once


@pytest.mark.parametrize("caption", [[], [END_ID], [UNK_ID], [LARGEST_ID]])
def test_next_to_nothing_said_is_a_score_like_any_other(caption: Caption) -> None:
    references: References = [[[4, 5, END_ID], [4, END_ID]], [[6, 7, 8, 9, END_ID]], [[]]]
    rewards = CiderReward(references)([0, 1, 2], [caption] * 3)
    assert np.isfinite(rewards).all()
    assert rewards == pytest.approx(official(references, [caption] * 3), abs=1e-6)


def test_an_end_alone_is_worth_nothing() -> None:
    """Every caption ends, so ends tell nothing."""
    reward = CiderReward([[[4, 5, END_ID]], [[6, 7, END_ID]]])
    assert reward([0, 1], [[END_ID], [END_ID]]).tolist() == [0, 0]


def test_of_no_captions_there_are_no_rewards() -> None:
    assert CiderReward([[[4, END_ID]]])([], []).shape == (0,)


def test_a_document_counts_once_however_often_it_says_a_word() -> None:
    others = [[[5, 6, 7, END_ID]], [[8, END_ID]], [[9, 8, END_ID]]]
    said = [[5, 8, 7, END_ID]]
    once = CiderReward([[[5, END_ID]], *others])([1], said)
    often = CiderReward([[[5, 5, 5, END_ID], [5, END_ID], [4, 5, END_ID]], *others])([1], said)
    elsewhere = CiderReward([[[5, END_ID]], *others[:2], [[9, 5, 8, END_ID]]])([1], said)
    assert often == pytest.approx(once)
    assert elsewhere < once - 0.05, "a word of more photos tells less"


def test_a_caption_cut_before_its_end_is_worth_less(drawn: tuple[Vocabulary, list[list[str]]]) -> None:
    vocabulary, photos = drawn
    references = [[ids_of(vocabulary, caption) for caption in captions] for captions in photos]
    alone, beside_others = CiderReward([captions[:1] for captions in references]), CiderReward(references)
    cuts = [[captions[0][:stop] for captions in references] for stop in (None, -1, -2, -3)]
    worth = np.stack([alone(range(len(photos)), cut) for cut in cuts])
    assert (worth[1:] < worth[:-1]).all()
    means = [beside_others(range(len(photos)), cut).mean() for cut in cuts]
    assert means == sorted(means, reverse=True), "another reference may go on where this one ends, but seldom"


@pytest.mark.parametrize("caption", ["a man on a horse", "a man is riding a horse", "a man rides a brown horse"])
def test_only_the_end_token_keeps_captions_from_breaking_off(caption: str) -> None:
    """Without it in all three places (captions, references, frequencies) a dangling "on a" is worth something."""
    vocabulary, gains = vocabulary_of(RIDER), {}
    for end in (True, False):
        references = [[ids_of(vocabulary, text, end=end) for text in captions] for captions in RIDER]
        said = [ids_of(vocabulary, text, end=end) for text in (caption, f"{caption} on a")]
        complete, broken_off = CiderReward(references)([0, 0], said)
        gains[end] = broken_off - complete
    assert gains[True] < -0.2
    assert gains[False] > 0.05


@pytest.mark.parametrize("wrong", [-1, LARGEST_ID + 1, 10**12])
def test_ids_that_do_not_fit_are_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match=rf"word id {wrong} cannot be scored; .* from 0 to {LARGEST_ID}"):
        CiderReward([[[4, wrong, END_ID]]])
    with pytest.raises(ValueError, match=rf"word id {wrong} cannot be scored"):
        CiderReward([[[4, END_ID]]])([0], [[wrong]])


@pytest.mark.parametrize("photo", [-1, 2])
def test_a_photo_that_is_not_there_is_refused(photo: int) -> None:
    with pytest.raises(ValueError, match=f"there is no photo {photo}; indices go from 0 to 1"):
        CiderReward([[[4]], [[5]]])([0, photo], [[4], [4]])


def test_captions_that_are_not_one_for_each_photo_are_refused() -> None:
    with pytest.raises(ValueError, match="2 hypotheses come with 1 photos"):
        CiderReward([[[4]]])([0], [[4], [4]])


def test_a_photo_without_references_is_named() -> None:
    with pytest.raises(ValueError, match="photo 1 has no reference"):
        CiderReward([[[4]], [], [[5]], []])


def made_up(photos: int, rng: np.random.Generator) -> list[list[list[int]]]:
    """Five captions for each photo, as long as COCO's, with frequent and rare words."""
    shape = (photos, 5, 10)
    words = np.minimum(rng.zipf(1.3, size=shape) + UNK_ID, 10_000)
    return [[[*caption, END_ID] for caption in captions] for captions in words.tolist()]


def test_a_batch_is_scored_within_milliseconds() -> None:
    references = made_up(1000, np.random.default_rng(0))
    reward, photos = CiderReward(references), range(100)
    said = [references[photo + photo % 2][0] for photo in photos]
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        reward(photos, said)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.04


@pytest.mark.slow
def test_all_of_coco_is_counted_within_half_a_minute() -> None:
    references = made_up(118_287, np.random.default_rng(0))
    began = time.perf_counter()
    reward = CiderReward(references)
    assert time.perf_counter() - began < 30
    assert reward([118_286], [references[-1][0]]) > 1


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, min_side=2), elements=st.floats(0, 10, width=32)))
def test_advantages_are_rewards_less_the_mean_of_the_others(rewards: NDArray[np.float32]) -> None:
    gained = advantages(rewards)
    assert gained.dtype == np.float32
    images, samples = rewards.shape
    others = [
        [np.delete(rewards[image], sample).mean(dtype=np.float64) for sample in range(samples)]
        for image in range(images)
    ]
    assert gained == pytest.approx(rewards - np.array(others), abs=1e-4)
    assert gained.sum(axis=1) == pytest.approx(np.zeros(images), abs=1e-4)


def test_the_best_sample_gains_and_the_worst_loses() -> None:
    gained = advantages(np.array([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]]))
    assert gained == pytest.approx(np.array([[-3.0, -1.5, 4.5], [0.0, 0.0, 0.0]]))


def test_a_sample_without_others_is_refused() -> None:
    with pytest.raises(ValueError, match="samples per image is 1; it must be at least 2"):
        advantages(np.ones((4, 1)))


def test_a_caption_weighs_what_the_photos_other_captions_think_of_it() -> None:
    texts = [["a dog runs on grass", "a dog runs over grass", "a dog on grass", "yesterday once more"], *RIDER]
    vocabulary = Vocabulary.from_captions((text for captions in texts for text in captions), min_count=1)
    references = [[vocabulary.encode(text)[1:] for text in captions] for captions in texts]
    weights = consensus_weights(references, share=0.6)
    assert [np.mean(each) for each in weights] == pytest.approx([1.0] * len(texts))
    assert weights[0][0] > weights[0][1] > weights[0][3] == pytest.approx(0.4, abs=1e-4)


def test_without_consensus_all_captions_weigh_the_same() -> None:
    assert consensus_weights([[[5, 2], [6, 2]], [[7, 2]]], share=0.0) == [[1.0, 1.0], [1.0]]


def test_a_photos_only_caption_weighs_one() -> None:
    assert consensus_weights([[[5, 6, 7, 2]], [[7, 2]]], share=1.0) == [[1.0], [1.0]]
