"""Beam search over a batch, in numpy, so that every engine decodes by the same rules. Greedy is a beam of one.

`step` says how likely words are; everything that is decided about captions is decided here.
Shapes: B images, K beams of each, C continuations per beam, T words so far, P grid cells.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
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
    found = [_Found(n_best) for _ in range(batch)]
    said_before: list[_Said] = []
    images = np.arange(batch)
    beams = _start(batch, beam_size)
    words = np.full((batch, beam_size), rules.start_id, dtype=np.int64)
    for _ in range(rules.max_length + 1):
        said = step(features, words, state)
        if any(array.shape[:2] != words.shape for array in (*said[:3], *said.state)):
            raise ValueError(f"the engine was asked about {words.shape} captions and answered for others")
        said_before.append(_Said(images, said.log_probs, said.words, said.attention))
        beams, parents = _extend(beams, said, rules, [found[image] for image in images])
        keep = _rows_to_keep(_open_rows(beams, images, found, rules, has_left), batch_sizes)
        if not len(keep):
            break
        places = keep[:, None] * beam_size + parents[keep]
        state = tuple(array.reshape(-1, *array.shape[2:])[places] for array in said.state)
        if len(keep) < len(images):
            features, images, beams = tuple(array[keep] for array in features), images[keep], beams.take(keep)
        words = beams.words[:, :, -1]
    return [[] if has_left(image) else _best(found[image], image, said_before) for image in range(batch)]


class _Said(NamedTuple):
    """What one step said, without the state."""

    images: NDArray[np.intp]  # (B,), ascending: which image each row is
    log_probs: NDArray[np.float32]  # (B, K, C)
    words: NDArray[np.int64]  # (B, K, C)
    attention: NDArray[np.float32]  # (B, K, P)


class _Path(NamedTuple):
    """A caption as the places of its words among the K x C that each step said."""

    score: float
    log_prob: float
    places: list[int]
    ended: bool


class _Found:
    """The finished captions of one image."""

    def __init__(self, n_best: int) -> None:
        self.paths: list[_Path] = []
        self.to_beat = -np.inf
        """The score of the last of the `n_best` that have ended; minus infinity while there are fewer."""
        self._n_best = n_best

    def add(self, path: _Path) -> None:
        self.paths.append(path)
        if path.ended:
            scores = sorted((path.score for path in self.paths if path.ended), reverse=True)
            self.to_beat = scores[self._n_best - 1] if len(scores) >= self._n_best else -np.inf

    def best(self) -> list[_Path]:
        return sorted(self.paths, key=lambda path: (not path.ended, -path.score))[: self._n_best]


class _Beams(NamedTuple):
    """The open captions of each image, best first; an unused place has the score minus infinity."""

    scores: NDArray[np.float64]  # (B, K)
    words: NDArray[np.int64]  # (B, K, T)
    places: NDArray[np.intp]  # (B, K, T): of each word, among the K x C that its step said

    def take(self, rows: NDArray[np.intp]) -> "_Beams":
        return _Beams(self.scores[rows], self.words[rows], self.places[rows])


def _start(batch: int, beam_size: int) -> _Beams:
    scores = np.full((batch, beam_size), -np.inf)
    scores[:, 0] = 0.0  # all beams are equal at the start: one of them speaks for all
    nothing = np.zeros((batch, beam_size, 0), dtype=np.int64)
    return _Beams(scores, nothing, nothing.astype(np.intp))


def _extend(beams: _Beams, said: Step, rules: Rules, found: list[_Found]) -> tuple[_Beams, NDArray[np.intp]]:
    """Every beam one word on. What ended goes to `found`; the K best others go on, each from its parent (B, K)."""
    batch, beam_size, candidates = said.words.shape
    totals = _allowed_scores(beams, said, rules).reshape(batch, -1)
    ranked = np.argsort(-totals, axis=1, kind="stable")[:, : 2 * beam_size]
    scores = np.take_along_axis(totals, ranked, axis=1)
    words = np.take_along_axis(said.words.reshape(batch, -1), ranked, axis=1)
    ended = (words == rules.end_id) & (scores > -np.inf)
    for row, rank in np.argwhere(ended[:, :beam_size]).tolist():
        parent = ranked[row, rank] // candidates
        path = [*beams.places[row, parent].tolist(), int(ranked[row, rank])]
        found[row].add(_path(float(scores[row, rank]), path, rules, ended=True))
    for row in np.flatnonzero(~(scores[:, 0] > -np.inf)).tolist():  # nothing may follow: what was said is all
        for score, path in zip(beams.scores[row].tolist(), beams.places[row].tolist(), strict=True):
            if path and score > -np.inf:
                found[row].add(_path(score, path, rules, ended=False))
    going = np.argsort(ended, axis=1, kind="stable")[:, :beam_size]  # ranked they are already
    scores = np.take_along_axis(np.where(ended, -np.inf, scores), going, axis=1)
    words, places = np.take_along_axis(words, going, axis=1), np.take_along_axis(ranked, going, axis=1)
    parents = places // candidates
    rows = np.arange(batch)[:, None]
    return _Beams(
        scores,
        np.concatenate([beams.words[rows, parents], words[:, :, None]], axis=2),
        np.concatenate([beams.places[rows, parents], places[:, :, None]], axis=2),
    ), parents


def _allowed_scores(beams: _Beams, said: Step, rules: Rules) -> NDArray[np.float64]:
    """The score of each beam with each of its continuations (B, K, C); minus infinity where the rules forbid it."""
    length = beams.words.shape[2]
    totals = beams.scores[:, :, None] + said.log_probs
    totals[_among(said.words, rules.forbidden)] = -np.inf
    ends = said.words == rules.end_id
    if length == 0:
        totals[ends] = -np.inf
    else:
        totals[ends & _among(beams.words[:, :, -1], rules.bad_endings)[:, :, None]] = -np.inf
    if length == rules.max_length:
        totals[~ends] = -np.inf
    size = rules.no_repeat - 1
    if 0 < size < length:
        repeats = beams.words[:, :, : length - size] == beams.words[:, :, length - size, None]
        for i in range(1, size):
            repeats &= beams.words[:, :, i : length - size + i] == beams.words[:, :, length - size + i, None]
        for row, beam, begin in np.argwhere(repeats).tolist():
            totals[row, beam, said.words[row, beam] == beams.words[row, beam, begin + size]] = -np.inf
    return totals


def _among(words: NDArray[np.int64], some: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether each word is one of `some`."""
    return _table(some).take(words, mode="clip")


@lru_cache(maxsize=16)
def _table(some: tuple[int, ...]) -> NDArray[np.bool_]:
    """By word, and at its end for every word beyond."""
    table = np.zeros(max(some, default=0) + 2, dtype=bool)
    table[list(some)] = True
    return table


def _open_rows(
    beams: _Beams, images: NDArray[np.intp], found: list[_Found], rules: Rules, has_left: Callable[[int], bool]
) -> NDArray[np.bool_]:
    """Whose best open caption could still enter the `n_best`: at best its rest is certain, and long."""
    best = beams.scores[:, 0]
    reachable = best / (rules.max_length + 1) ** rules.length_penalty
    to_beat = np.array([np.inf if has_left(image) else found[image].to_beat for image in images.tolist()])
    return (best > -np.inf) & (reachable > to_beat)


def _rows_to_keep(open_rows: NDArray[np.bool_], batch_sizes: Sequence[int]) -> NDArray[np.intp]:
    """The open rows, filled up with closed ones to a batch size that the engine knows."""
    count = int(open_rows.sum())
    size = min((size for size in batch_sizes if size >= count), default=count) if count else 0
    return np.sort(np.argsort(~open_rows, kind="stable")[:size])


def _path(log_prob: float, places: list[int], rules: Rules, *, ended: bool) -> _Path:
    return _Path(log_prob / len(places) ** rules.length_penalty, log_prob, places, ended)


def _best(found: _Found, image: int, said_before: list[_Said]) -> list[Hypothesis]:
    rows = [int(np.searchsorted(said.images, image)) for said in said_before]
    return [_hypothesis(path, rows, said_before) for path in found.best()]


def _hypothesis(path: _Path, rows: list[int], said_before: list[_Said]) -> Hypothesis:
    """Followed through the steps; where it ended, its last word is the end."""
    words, log_probs, attention = [], [], []
    for place, row, said in zip(path.places[: len(path.places) - path.ended], rows, said_before, strict=False):
        beam, choice = divmod(place, said.words.shape[2])
        words.append(int(said.words[row, beam, choice]))
        log_probs.append(float(said.log_probs[row, beam, choice]))
        attention.append(said.attention[row, beam])
    return Hypothesis(tuple(words), path.log_prob, path.score, path.ended, tuple(log_probs), np.stack(attention))
