import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.beam_search import Arrays, Hypothesis, Rules, Step, beam_search

START, END, BAD, UNSAID = 0, 1, 2, 3
VOCABULARY = 6


class ToyModel:
    """Random log-probabilities for every word after every history; its state is the history itself."""

    def __init__(self, seed: int, images: int) -> None:
        self.images = images
        self._seed = seed

    def log_probs(self, image: int, history: tuple[int, ...]) -> NDArray[np.float64]:
        rng = np.random.default_rng([self._seed, image, *history])
        logits = rng.normal(size=VOCABULARY) * 2
        return np.asarray(logits - np.log(np.exp(logits).sum()))

    def features(self) -> Arrays:
        return (np.arange(self.images, dtype=np.float32),)

    def state(self, beam_size: int) -> Arrays:
        return (np.full((self.images, beam_size, 12), -1, dtype=np.float32),)

    def step(self, features: Arrays, words: NDArray[np.int64], state: Arrays) -> Step:
        history = state[0].copy()
        batch, beams = words.shape
        log_probs = np.zeros((batch, beams, VOCABULARY), dtype=np.float32)
        for row, beam in np.ndindex(batch, beams):
            place = int((history[row, beam] >= 0).sum())
            history[row, beam, place] = words[row, beam]
            told = tuple(int(word) for word in history[row, beam, : place + 1])
            log_probs[row, beam] = self.log_probs(int(features[0][row]), told)
        order = np.argsort(-log_probs, axis=2, kind="stable")
        attention = np.full((batch, beams, 4), 0.25, dtype=np.float32)
        return Step(np.take_along_axis(log_probs, order, axis=2), order, attention, (history,))


def rules(max_length: int = 4, length_penalty: float = 0.0, no_repeat: int = 0) -> Rules:
    return Rules(START, END, (UNSAID, START), (BAD,), no_repeat, max_length, length_penalty)


def search(model: ToyModel, beam_size: int, rules: Rules, n_best: int = 1) -> list[list[Hypothesis]]:
    return beam_search(model.step, model.state(beam_size), model.features(), rules=rules, n_best=n_best)


def teacher_forced(model: ToyModel, image: int, words: tuple[int, ...]) -> float:
    path = (*words, END)
    return sum(model.log_probs(image, (START, *path[:t]))[word] for t, word in enumerate(path))


def brute_force(model: ToyModel, image: int, rules: Rules) -> list[tuple[float, tuple[int, ...]]]:
    sayable = [word for word in range(VOCABULARY) if word not in (START, END, UNSAID)]
    captions = [
        words
        for length in range(1, rules.max_length + 1)
        for words in itertools.product(sayable, repeat=length)
        if words[-1] != BAD
    ]
    scores = [teacher_forced(model, image, words) / (len(words) + 1) ** rules.length_penalty for words in captions]
    return sorted(zip(scores, captions, strict=True), reverse=True)


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_full_width_equals_brute_force(seed: int, length_penalty: float) -> None:
    model, wanted = ToyModel(seed, images=3), rules(3, length_penalty)
    for image, found in enumerate(search(model, 3**3 * 2, wanted, n_best=5)):
        expected = brute_force(model, image, wanted)[:5]
        assert [hypothesis.words for hypothesis in found] == [words for _, words in expected]
        assert [hypothesis.score for hypothesis in found] == pytest.approx([score for score, _ in expected], abs=1e-5)


@pytest.mark.parametrize("seed", range(10))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    model = ToyModel(seed, images=1)
    history, total = [START], 0.0
    while history[-1] != END and len(history) <= 7:
        log_probs = model.log_probs(0, tuple(history))
        banned = {START, UNSAID} | ({END} if history[-1] in (START, BAD) else set())
        if len(history) == 7:
            banned = set(range(VOCABULARY)) - ({END} - banned)
        best = max((word for word in range(VOCABULARY) if word not in banned), key=lambda w: log_probs[w], default=None)
        if best is None:
            break
        history.append(best)
        total += log_probs[best]
    [[found]] = search(model, 1, rules(max_length=6))
    assert found.words == tuple(word for word in history[1:] if word != END)
    assert found.log_prob == pytest.approx(total, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    beam_size=st.integers(1, 5),
    max_length=st.integers(1, 6),
    length_penalty=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_every_score_is_the_teacher_forced_score(
    seed: int, beam_size: int, max_length: int, length_penalty: float
) -> None:
    model = ToyModel(seed, images=2)
    for image, found in enumerate(search(model, beam_size, rules(max_length, length_penalty), n_best=beam_size)):
        assert found, "something is always said"
        assert [h.score for h in found if h.ended] == sorted((h.score for h in found if h.ended), reverse=True)
        for hypothesis in found:
            assert 1 <= len(hypothesis.words) <= max_length
            assert not {START, END, UNSAID} & set(hypothesis.words)
            assert hypothesis.attention is not None
            assert hypothesis.attention.shape == (len(hypothesis.words), 4)
            if hypothesis.ended:
                assert hypothesis.words[-1] != BAD
                assert hypothesis.log_prob == pytest.approx(teacher_forced(model, image, hypothesis.words), abs=1e-4)
                length = len(hypothesis.words) + 1
                assert hypothesis.score == pytest.approx(hypothesis.log_prob / length**length_penalty)


@pytest.mark.parametrize("batch_sizes", [(), (1, 2, 4, 8)])
def test_an_image_gets_the_same_captions_alone_and_in_a_batch(batch_sizes: tuple[int, ...]) -> None:
    model = ToyModel(7, images=8)
    together = beam_search(
        model.step, model.state(3), model.features(), rules=rules(6), n_best=3, batch_sizes=batch_sizes
    )
    for image in range(8):
        features = (np.array([image], dtype=np.float32),)
        state = (model.state(3)[0][:1],)
        [alone] = beam_search(model.step, state, features, rules=rules(6), n_best=3)
        assert alone == together[image]


def test_the_batch_shrinks_only_to_sizes_the_engine_knows() -> None:
    model, sizes = ToyModel(3, images=8), set()

    def step(features: Arrays, words: NDArray[np.int64], state: Arrays) -> Step:
        sizes.add(len(words))
        return model.step(features, words, state)

    beam_search(step, model.state(2), model.features(), rules=rules(8), batch_sizes=(1, 2, 4, 8))
    assert 8 in sizes
    assert len(sizes) > 1
    assert sizes <= {1, 2, 4, 8}


def test_a_caller_who_leaves_gets_nothing_and_costs_no_further_step() -> None:
    model, asked = ToyModel(1, images=4), []

    def step(features: Arrays, words: NDArray[np.int64], state: Arrays) -> Step:
        asked.append(sorted(int(image) for image in features[0]))
        return model.step(features, words, state)

    found = beam_search(
        step, model.state(2), model.features(), rules=rules(8), has_left=lambda image: image == 2 and len(asked) >= 1
    )
    assert [bool(captions) for captions in found] == [True, True, False, True]
    assert 2 in asked[0]
    assert all(2 not in images for images in asked[1:])


def repeating(features: Arrays, words: NDArray[np.int64], state: Arrays) -> Step:
    """A model that would say 4 5 4 5 ... for ever: the end is nearly impossible."""
    log_probs = np.full((*words.shape, VOCABULARY), -20.0, dtype=np.float32)
    wanted = np.where(words == 4, 5, 4)
    np.put_along_axis(log_probs, wanted[:, :, None], np.float32(-0.01), axis=2)
    ids = np.broadcast_to(np.arange(VOCABULARY), log_probs.shape)
    return Step(log_probs, ids, np.ones((*words.shape, 1), np.float32), state)


def test_it_ends_even_where_the_model_never_would() -> None:
    [[found]] = beam_search(
        repeating, (np.zeros((1, 1, 1), np.float32),), (np.zeros((1, 1), np.float32),), rules=rules(9)
    )
    assert found.words == (4, 5, 4, 5, 4, 5, 4, 5, 4)


@pytest.mark.parametrize("size", [2, 3])
def test_no_run_of_words_comes_twice(size: int) -> None:
    nothing = (np.zeros((1, 3, 1), np.float32),)
    [found] = beam_search(
        repeating, nothing, (np.zeros((1, 1), np.float32),), rules=rules(12, no_repeat=size), n_best=3
    )
    for hypothesis in found:
        runs = list(zip(*(hypothesis.words[i:] for i in range(size)), strict=False))
        assert len(runs) == len(set(runs))


def test_what_the_rules_let_nothing_follow_is_still_a_caption() -> None:
    def only_bad(features: Arrays, words: NDArray[np.int64], state: Arrays) -> Step:
        log_probs = np.full((*words.shape, 1), -0.5, dtype=np.float32)
        return Step(log_probs, np.full((*words.shape, 1), BAD), np.ones((*words.shape, 1), np.float32), state)

    nothing = (np.zeros((1, 2, 1), np.float32),)
    [[found]] = beam_search(only_bad, nothing, (np.zeros((1, 1), np.float32),), rules=rules(3))
    assert (found.words, found.ended) == ((BAD, BAD, BAD), False)
    assert math.isclose(found.log_prob, -1.5)
