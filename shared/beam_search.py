"""Beam search over a batch, in numpy, so that every engine decodes by the same rules. Greedy is a beam of one.

`step` says how likely words are; everything that is decided about captions is decided here.
Shapes: B images, K beams of each, C continuations per beam, T words so far, P grid cells.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = tuple[Any, ...]
"""Of float32: numpy arrays, or tensors on an engine's device, which are indexed alike."""


class Step(NamedTuple):
    """The best continuations of each beam, best first, and the memory that goes with them."""

    log_probs: NDArray[np.float32]  # (B, K, C)
    words: NDArray[np.int64]  # (B, K, C)
    attention: NDArray[np.float32]  # (B, K, P)
    state: Arrays  # each (B, K, ...)


class StepFunction(Protocol):
    """One word on: features (each (B, ...)), last words (B, K), state (each (B, K, ...)) -> Step.

    C is the vocabulary, or at least 2 K and as many more as the rules may forbid.
    """

    def __call__(self, features: Arrays, words: NDArray[np.int64], state: Arrays) -> Step: ...


@dataclass(frozen=True)
class Rules:
    """How captions begin and end, and what they may not say."""

    start_id: int
    end_id: int
    forbidden: tuple[int, ...] = ()
    """Words that are never said."""
    bad_endings: tuple[int, ...] = ()
    """Words that no caption ends with, such as `a`, `of`, `with`. No caption is empty either."""
    no_repeat: int = 3
    """No run of this many words (2 or more) comes twice; 0 allows all."""
    max_length: int = 20
    """Words of the longest caption; after them only the end may follow."""
    length_penalty: float = 0.0
    """Captions rank by log-probability / length ** length_penalty; the length counts the end."""


@dataclass(frozen=True)
class Hypothesis:
    """A caption: word ids without `<start>` and `<end>`, and what the model thinks of it."""

    words: tuple[int, ...]
    log_prob: float
    """Natural logarithm; the sum over the words and, if `ended`, the end."""
    score: float
    """What ranks it."""
    ended: bool
    """False where the rules let nothing follow, not even the end; it ranks behind every ended one."""
    word_log_probs: tuple[float, ...]
    attention: NDArray[np.float32] = field(compare=False, repr=False)
    """(T, P): where the model looked as it said each word."""


def beam_search(
    step: StepFunction,
    state: Arrays,
    features: Arrays,
    *,
    rules: Rules,
    n_best: int = 1,
    has_left: Callable[[int], bool] = lambda image: False,
    batch_sizes: Sequence[int] = (),
) -> list[list[Hypothesis]]:
    """Up to `n_best` captions of each image, best first; none for an image whose caller has left.

    `state` (each (B, K, ...)) sets the beam size K; `features` are arrays (B, ...). An image is done when nothing still
    open can outrank the `n_best` found. Between steps, images done or left are dropped; the batch shrinks to the
    smallest of `batch_sizes` that holds the rest (to any size when empty).
    """
    batch, beam_size = state[0].shape[:2]
    found: list[list[Hypothesis]] = [[] for _ in range(batch)]
    images = np.arange(batch)
    beams = _start(batch, beam_size)
    words = np.full((batch, beam_size), rules.start_id, dtype=np.int64)
    for _ in range(rules.max_length + 1):
        said = step(features, words, state)
        if any(array.shape[:2] != words.shape for array in (*said[:3], *said.state)):
            raise ValueError(f"the engine was asked about {words.shape} captions and answered for others")
        beams, parents = _extend(beams, said, rules, [found[image] for image in images])
        open_rows = np.array(
            [_can_improve(beams.scores[row, 0], found[image], n_best, rules) for row, image in enumerate(images)]
        ) & np.array([not has_left(int(image)) for image in images])
        keep = _rows_to_keep(open_rows, batch_sizes)
        if not len(keep):
            break
        state = tuple(array[keep[:, None], parents[keep]] for array in said.state)
        if len(keep) < len(images):
            features, images, beams = tuple(array[keep] for array in features), images[keep], beams.take(keep)
        words = beams.words[:, :, -1]
    return [[] if has_left(image) else _best(found[image], n_best) for image in range(batch)]


@dataclass(frozen=True)
class _Beams:
    """The open captions of each image, best first; an unused place has the score minus infinity."""

    scores: NDArray[np.float64]  # (B, K)
    words: NDArray[np.int64]  # (B, K, T)
    log_probs: NDArray[np.float32]  # (B, K, T)
    speakers: NDArray[np.intp]  # (B, K, T): the beam that said each word, by its place at that time
    attention: NDArray[np.float32]  # (T, B, K, P): of the beams of each time, so that none is copied to its children

    def take(self, rows: NDArray[np.intp]) -> "_Beams":
        return _Beams(
            self.scores[rows], self.words[rows], self.log_probs[rows], self.speakers[rows], self.attention[:, rows]
        )

    def pick(self, beams: NDArray[np.intp], scores: NDArray[np.float64]) -> "_Beams":
        """The captions in the places `beams` (B, K), with new scores."""
        rows = np.arange(len(beams))[:, None]
        return _Beams(
            scores, self.words[rows, beams], self.log_probs[rows, beams], self.speakers[rows, beams], self.attention
        )

    def hypothesis(self, row: int, beam: int, rules: Rules, ended: bool = False) -> Hypothesis:
        """The caption in one place; where it `ended`, its last word is the end."""
        length = self.words.shape[2]
        said = length - ended
        log_prob = float(self.scores[row, beam])
        return Hypothesis(
            words=tuple(self.words[row, beam, :said].tolist()),
            log_prob=log_prob,
            score=log_prob / length**rules.length_penalty,
            ended=ended,
            word_log_probs=tuple(self.log_probs[row, beam, :said].tolist()),
            attention=self.attention[np.arange(said), row, self.speakers[row, beam, :said]],
        )


def _start(batch: int, beam_size: int) -> _Beams:
    scores = np.full((batch, beam_size), -np.inf)
    scores[:, 0] = 0.0  # all beams are equal at the start: one of them speaks for all
    words = np.zeros((batch, beam_size, 0), dtype=np.int64)
    attention = np.zeros((0, batch, beam_size, 0), dtype=np.float32)
    return _Beams(scores, words, words.astype(np.float32), words.astype(np.intp), attention)


def _extend(beams: _Beams, said: Step, rules: Rules, found: list[list[Hypothesis]]) -> tuple[_Beams, NDArray[np.intp]]:
    """Every beam one word on. What ended goes to `found`; the K best others go on, each from its parent (B, K)."""
    batch, beam_size, candidates = said.words.shape
    totals = np.where(_forbidden(said.words, beams.words, rules), -np.inf, beams.scores[:, :, None] + said.log_probs)
    flat = totals.reshape(batch, -1)
    order = np.argsort(-flat, axis=1, kind="stable")[:, : 2 * beam_size]
    ranked = _grow(beams, said, order // candidates, order % candidates, np.take_along_axis(flat, order, axis=1))
    ended = (ranked.words[:, :, -1] == rules.end_id) & np.isfinite(ranked.scores)
    for row, beam in np.argwhere(ended[:, :beam_size]):
        found[row].append(ranked.hypothesis(row, beam, rules, ended=True))
    for row in np.flatnonzero(~np.isfinite(ranked.scores[:, 0])):  # nothing may follow: what was said is all
        if beams.words.shape[2]:
            alive = np.flatnonzero(np.isfinite(beams.scores[row])).tolist()
            found[row] += [beams.hypothesis(int(row), beam, rules) for beam in alive]
    open_scores = np.where(ended, -np.inf, ranked.scores)
    best = np.argsort(-open_scores, axis=1, kind="stable")[:, :beam_size]
    going = ranked.pick(best, np.take_along_axis(open_scores, best, axis=1))
    return going, going.speakers[:, :, -1]


def _grow(
    beams: _Beams, said: Step, parents: NDArray[np.intp], choices: NDArray[np.intp], scores: NDArray[np.float64]
) -> _Beams:
    rows = np.arange(len(parents))[:, None]
    grown = beams.pick(parents, scores)
    words, log_probs = said.words[rows, parents, choices], said.log_probs[rows, parents, choices]
    before = beams.attention if beams.words.shape[2] else said.attention[None][:0]
    return _Beams(
        scores=scores,
        words=np.concatenate([grown.words, words[:, :, None]], axis=2),
        log_probs=np.concatenate([grown.log_probs, log_probs[:, :, None]], axis=2),
        speakers=np.concatenate([grown.speakers, parents[:, :, None]], axis=2),
        attention=np.concatenate([before, said.attention[None]]),
    )


def _forbidden(words: NDArray[np.int64], history: NDArray[np.int64], rules: Rules) -> NDArray[np.bool_]:
    """Which of the continuations `words` (B, K, C) the rules forbid after `history` (B, K, T)."""
    length = history.shape[2]
    forbidden = _among(words, rules.forbidden)
    must_go_on = _among(history[:, :, -1], rules.bad_endings) if length else np.ones(words.shape[:2], dtype=bool)
    forbidden |= must_go_on[:, :, None] & (words == rules.end_id)
    if length == rules.max_length:
        forbidden |= words != rules.end_id
    size = rules.no_repeat - 1
    if 0 < size < length:
        repeats = np.ones((*history.shape[:2], length - size), dtype=bool)
        for i in range(size):
            repeats &= history[:, :, i : length - size + i] == history[:, :, length - size + i, None]
        for row, beam, begin in np.argwhere(repeats):
            forbidden[row, beam] |= words[row, beam] == history[row, beam, begin + size]
    return forbidden


def _among(words: NDArray[np.int64], some: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether each word is one of `some`; np.isin would sort them."""
    return (words[..., None] == np.array(some, dtype=np.int64)).any(axis=-1)


def _can_improve(best_open: float, found: list[Hypothesis], n_best: int, rules: Rules) -> bool:
    """Whether the best open caption could still enter the `n_best`: at best its rest is certain, and long."""
    if not np.isfinite(best_open):
        return False
    scores = sorted((hypothesis.score for hypothesis in found if hypothesis.ended), reverse=True)
    reachable = best_open / (rules.max_length + 1) ** rules.length_penalty
    return len(scores) < n_best or reachable > scores[n_best - 1]


def _rows_to_keep(open_rows: NDArray[np.bool_], batch_sizes: Sequence[int]) -> NDArray[np.intp]:
    """The open rows, filled up with closed ones to a batch size that the engine knows."""
    count = int(open_rows.sum())
    size = min((size for size in batch_sizes if size >= count), default=count) if count else 0
    return np.sort(np.argsort(~open_rows, kind="stable")[:size])


def _best(found: list[Hypothesis], n_best: int) -> list[Hypothesis]:
    return sorted(found, key=lambda hypothesis: (not hypothesis.ended, -hypothesis.score))[:n_best]
