"""Captions of images: a bundle, an engine and the beam search together. Service and trainer both speak through it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.beam_search import Arrays, Hypothesis, Rules, beam_search
from shared.bundle import Bundle, BundleError, DecodeOptions
from shared.engine import BATCH_SIZES, Engine
from shared.engine_loading import load_engines
from shared.image import read_pixels
from shared.vocabulary import END_ID, PAD_ID, START_ID, UNK_ID, Vocabulary

BAD_ENDINGS = frozenset(
    """a an the this that his her its their another and or but with without in on at of to by for from into onto over
    under near behind beside between through across against towards toward above below as while is are was were being
    very""".split()
)
"""Words that leave a caption hanging."""
GOLDEN_TOLERANCE = {"fp32": 0.02}
REDUCED_TOLERANCE = 0.1


@dataclass(frozen=True)
class Candidate:
    """One caption of an image; log-probabilities are natural logarithms."""

    caption: str
    log_probability: float
    words: tuple[str, ...]
    word_log_probabilities: tuple[float, ...]
    attention: NDArray[np.float32]
    """(words, rows, columns): where the model looked as it said each word; each sums to 1."""


@dataclass(frozen=True)
class Caption:
    """The candidates of an image, best first, and how long the stages of its batch took."""

    candidates: tuple[Candidate, ...]
    encode_s: float
    beam_search_s: float

    @property
    def caption(self) -> str:
        return self.candidates[0].caption

    @property
    def log_probability(self) -> float:
        return self.candidates[0].log_probability


class Captioner:
    """A loaded model. One thread at a time calls it."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.bundle = bundle
        self._engine = engine
        self.engine_name, self.precision, self.device = engine.name, engine.precision, engine.device

    def caption(
        self,
        images: Sequence[NDArray[np.uint8]],
        options: Sequence[DecodeOptions],
        has_left: Callable[[int], bool] = lambda image: False,
    ) -> list[Caption | None]:
        """One caption per image (S, S, 3), in order; None for an image whose caller has left."""
        began = time.perf_counter()
        batch = padded(np.stack(images))
        features = self._engine.encode(batch)
        if any(len(array) != len(batch) for array in features):
            raise ValueError(f"the engine was given {len(batch)} pictures and answered for another number")
        encoded = time.perf_counter()
        found: list[list[Hypothesis]] = [[] for _ in images]
        for option in set(options):
            members = [i for i, wanted in enumerate(options) if wanted == option]
            for i, hypotheses in zip(members, self._search(features, members, option, has_left), strict=True):
                found[i] = hypotheses
        searched = time.perf_counter()
        return [self._caption(hypotheses, encoded - began, searched - encoded) for hypotheses in found]

    def _search(
        self, features: Arrays, members: list[int], option: DecodeOptions, has_left: Callable[[int], bool]
    ) -> list[list[Hypothesis]]:
        size = batch_size_for(len(members))
        rows = np.array([*members, *range(len(members), size)])
        chosen = features if np.array_equal(rows, np.arange(len(features[0]))) else tuple(a[rows] for a in features)
        found = beam_search(
            self._engine.step,
            self._engine.start(chosen, option.beam_size),
            chosen,
            rules=caption_rules(self.bundle.vocabulary, option),
            n_best=option.n_best,
            has_left=lambda row: row >= len(members) or has_left(members[row]),
            batch_sizes=BATCH_SIZES,
        )
        return found[: len(members)]

    def _caption(self, hypotheses: list[Hypothesis], encode_s: float, beam_search_s: float) -> Caption | None:
        candidates = tuple(self._candidate(hypothesis) for hypothesis in hypotheses)
        return Caption(candidates, encode_s, beam_search_s) if candidates else None

    def _candidate(self, hypothesis: Hypothesis) -> Candidate:
        vocabulary = self.bundle.vocabulary
        side = round(hypothesis.attention.shape[1] ** 0.5)
        return Candidate(
            caption=vocabulary.decode(hypothesis.words),
            log_probability=hypothesis.log_prob,
            words=tuple(vocabulary.words[word] for word in hypothesis.words),
            word_log_probabilities=hypothesis.word_log_probs,
            attention=hypothesis.attention.reshape(len(hypothesis.words), side, -1),
        )


def caption_rules(vocabulary: Vocabulary, options: DecodeOptions) -> Rules:
    """What captions of this vocabulary may not say, with the options' lengths."""
    ids = {word: vocabulary.id_of(word) for word in BAD_ENDINGS}
    return Rules(
        start_id=START_ID,
        end_id=END_ID,
        forbidden=(PAD_ID, START_ID, UNK_ID),
        bad_endings=tuple(i for i in ids.values() if i != UNK_ID),
        max_length=options.max_length,
        length_penalty=options.length_penalty,
    )


def batch_size_for(count: int) -> int:
    """The smallest batch the engines know that holds `count`; `count` itself beyond them."""
    return min((size for size in BATCH_SIZES if size >= count), default=count)


def padded(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The batch filled up with black images to a size that the engines know."""
    missing = batch_size_for(len(images)) - len(images)
    return np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)]) if missing else images


class Captioners(NamedTuple):
    """For each worker one, and one for a batch while no worker works (`shared.engine.Engines`); all say the same."""

    workers: tuple[Captioner, ...]
    alone: Captioner


def load_captioner(path: Path, *, engine: str = "auto", precision: str = "auto", threads: int = 0) -> Captioner:
    """The captioner of a program that has one worker."""
    return load_captioners(path, engine=engine, precision=precision, threads=threads, workers=1).alone


def load_captioners(
    path: Path, *, engine: str = "auto", precision: str = "auto", threads: int = 0, workers: int = 0
) -> Captioners:
    """Captioners for `load_engines`' engines; each has proved itself: the bundle is whole, and its golden caption came.

    Raises BundleError, or EngineError for an engine or precision that is not to be had here.
    """
    bundle = Bundle.load(path)
    engines = load_engines(engine, bundle, precision=precision, threads=threads, workers=workers)
    found = tuple(Captioner(bundle, engine) for engine in engines.workers)
    alone = found[0] if engines.alone is engines.workers[0] else Captioner(bundle, engines.alone)
    for captioner in dict.fromkeys((*found, alone)):
        check_golden(captioner)
    return Captioners(found, alone)


def check_golden(captioner: Captioner) -> None:
    """Raise BundleError unless the golden picture gets its caption, at its log-probability."""
    bundle = captioner.bundle
    image = read_pixels((bundle.path / bundle.golden.image).read_bytes(), bundle.preprocessing)
    answer = captioner.caption([image], [bundle.decode])[0]
    said, expected = (answer.caption if answer else None), bundle.golden
    if answer is None or said != expected.caption:
        raise BundleError(
            f"{bundle.path / expected.image} got the caption {said!r}; the bundle promises {expected.caption!r}"
        )
    tolerance = GOLDEN_TOLERANCE.get(captioner.precision, REDUCED_TOLERANCE)
    if not abs(answer.log_probability - expected.log_probability) <= tolerance:
        raise BundleError(
            f"{bundle.path / expected.image} got the log-probability {answer.log_probability:.4f}; "
            f"the bundle promises {expected.log_probability:.4f} within {tolerance}"
        )
