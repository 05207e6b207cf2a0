"""The reward of self-critical training (Rennie et al. 2017): CIDEr-D of sampled captions, and what a sample gains.

CIDEr-D (Vedantam et al. 2015) as COCO's evaluation computes it, but over word ids: an n-gram is one integer, and a
batch is scored by sorting and looking up whole arrays. The end token is a word like any other: where it is left out,
captions learn to break off in "on a", which costs nothing and may match (SacreEOS, arXiv 2305.12254).
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ORDERS = 4
SIGMA = 6.0
"""Of the penalty on a length that is not the reference's."""
WORD_BITS = 16
LARGEST_ID = 2**WORD_BITS - 2
"""A word is packed as its id plus one, four words to an integer; zero stands for no word."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Grams = NDArray[np.uint64]


class Captions(NamedTuple):
    """Word ids of C captions, one caption after the other."""

    words: NDArray[np.uint16]  # (W)
    lengths: Ints  # (C)


class Vectors(NamedTuple):
    """The tf-idf vectors of C captions: an entry for each of their V n-grams, sorted by caption and n-gram."""

    captions: Ints  # (V)
    grams: Ints  # (V) the n-gram's rank among those of the batch
    orders: Ints  # (V) how many words the n-gram has, less one
    weights: Floats  # (V)
    norms: Floats  # (C, ORDERS)
    lengths: Ints  # (C)


class CiderReward:
    """CIDEr-D against the references of the training photos, with document frequencies from all of them."""

    def __init__(self, references: Sequence[Sequence[Sequence[int]]]) -> None:
        """`references[i]`: the captions of photo i as word ids, without `<start>`, with `<end>`."""
        self._counts: Ints = np.array([len(captions) for captions in references], dtype=np.int64)
        if not self._counts.all():
            raise ValueError(f"photo {self._counts.argmin()} has no reference; every photo needs at least one")
        self._references = _flat(list(itertools.chain.from_iterable(references)))
        photos = np.repeat(np.arange(len(references)), self._counts)
        self._shared, self._frequencies = _document_frequencies(self._references, photos)

    def __call__(self, photos: Sequence[int], hypotheses: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """The score of each hypothesis against the references of its photo, from 0 to 10; larger is better.

        Hypotheses are word ids without `<start>`, and with `<end>` where the sample ended.
        """
        chosen, place = np.unique(self._checked(photos, len(hypotheses)), return_inverse=True)
        vectors = self._vectors(_joined(_flat(hypotheses), self._references_of(chosen)))
        counts = self._counts[chosen]
        said = np.repeat(np.arange(len(hypotheses)), counts[place])
        right = len(hypotheses) + _ranges(_starts(counts)[place], counts[place])
        summed = np.bincount(said, _similarities(vectors, said, right), minlength=len(hypotheses))
        return (10 * summed / counts[place]).astype(np.float32)

    def _checked(self, photos: Sequence[int], hypotheses: int) -> Ints:
        asked = np.array(photos, dtype=np.int64)
        if len(asked) != hypotheses:
            raise ValueError(f"{hypotheses} hypotheses come with {len(asked)} photos; each needs its photo's index")
        if len(wrong := asked[(asked < 0) | (asked >= len(self._counts))]):
            raise ValueError(f"there is no photo {wrong[0]}; indices go from 0 to {len(self._counts) - 1}")
        return asked

    def _references_of(self, photos: Ints) -> Captions:
        """Those of the first photo, then those of the second, and so on."""
        words, lengths = self._references
        captions = _ranges(_starts(self._counts)[photos], self._counts[photos])
        return Captions(words[_ranges(_starts(lengths)[captions], lengths[captions])], lengths[captions])

    def _vectors(self, captions: Captions) -> Vectors:
        packed, owners = (np.concatenate(parts) for parts in zip(*_grams(captions), strict=True))
        grams, ranks = np.unique(packed, return_inverse=True)
        cells, occurrences = np.unique(owners * len(grams) + ranks, return_counts=True)
        owners, ranks = np.divmod(cells, max(1, len(grams)))
        weights = occurrences * self._idf(grams)[ranks]
        orders = _orders(grams)[ranks]
        squares = np.bincount(owners * ORDERS + orders, weights**2, minlength=len(captions.lengths) * ORDERS)
        norms = np.sqrt(squares).reshape(-1, ORDERS)
        return Vectors(owners, ranks, orders, weights, norms, captions.lengths)

    def _idf(self, grams: Grams) -> Floats:
        places, known = _find(grams, self._shared)
        frequencies = np.ones(len(grams))
        frequencies[known] = self._frequencies[places]
        return np.log(len(self._counts)) - np.log(frequencies)


def consensus_weights(references: Sequence[Sequence[Sequence[int]]], *, share: float) -> list[list[float]]:
    """What each caption of each photo weighs, 1 in the mean of a photo: in part, `share`, by the others' consent to it.

    That is its CIDEr-D against the photo's other captions (Phan et al. 2017, arXiv 1712.09532).
    """
    if not share:
        return [[1.0] * len(captions) for captions in references]
    reward, weights = CiderReward(references), []
    for photo, captions in enumerate(references):
        itself = np.array([10 / len(captions) * min(1.0, len(caption) / ORDERS) for caption in captions])
        consent = np.maximum(reward([photo] * len(captions), captions) - itself, 0)
        agreed = consent / consent.mean() if consent.any() else np.ones(len(captions))
        weights.append([float(weight) for weight in 1 - share + share * agreed])
    return weights


def advantages(rewards: NDArray[Any]) -> NDArray[Any]:
    """(images, samples): each reward less the mean of the other samples of its image; an image's add up to zero."""
    samples = rewards.shape[1]
    if samples < 2:
        raise ValueError(f"samples per image is {samples}; it must be at least 2, as each is compared with the others")
    return (rewards - rewards.mean(axis=1, keepdims=True)) * (samples / (samples - 1))


def _document_frequencies(captions: Captions, photos: Ints) -> tuple[Grams, Ints]:
    """The n-grams of more than one photo, sorted, and of how many. Those of one weigh what unknown ones do."""
    tables = [_of_several(grams, photos[owners]) for grams, owners in _grams(captions)]
    return np.concatenate([grams for grams, _ in tables]), np.concatenate([counts for _, counts in tables])


def _of_several(grams: Grams, photos: Ints) -> tuple[Grams, Ints]:
    order = np.argsort(grams, kind="stable")  # an n-gram's photos stay in order, so those that repeat are neighbours
    grams, photos = grams[order], photos[order]
    repeats = (grams[1:] == grams[:-1]) & (photos[1:] == photos[:-1])
    grams, counts = np.unique(np.concatenate([grams[:1], grams[1:][~repeats]]), return_counts=True)
    return grams[counts > 1], counts[counts > 1]


def _similarities(vectors: Vectors, left: Ints, right: Ints) -> Floats:
    """(P): of the captions `left` with the references `right`, a mean over the orders."""
    sizes = np.bincount(vectors.captions, minlength=len(vectors.norms))
    pairs = np.repeat(np.arange(len(left)), sizes[left])
    entries = _ranges(_starts(sizes)[left], sizes[left])
    distinct = vectors.grams.max(initial=0) + 1
    cells = vectors.captions * distinct + vectors.grams
    theirs, found = _find(right[pairs] * distinct + vectors.grams[entries], cells)
    ours, pairs = entries[found], pairs[found]
    products = np.minimum(vectors.weights[ours], vectors.weights[theirs]) * vectors.weights[theirs]
    dots = np.bincount(pairs * ORDERS + vectors.orders[ours], products, minlength=len(left) * ORDERS)
    norms = vectors.norms[left] * vectors.norms[right]
    cosines = dots.reshape(-1, ORDERS) / np.where(norms > 0, norms, 1)
    surplus = vectors.lengths[left] - vectors.lengths[right]
    return cosines.mean(axis=1) * np.exp(-(surplus**2) / (2 * SIGMA**2))


def _flat(captions: Sequence[Sequence[int]]) -> Captions:
    lengths = np.array([len(caption) for caption in captions], dtype=np.int64)
    words = np.fromiter(itertools.chain.from_iterable(captions), dtype=np.int64, count=lengths.sum())
    if len(wrong := words[(words < 0) | (words > LARGEST_ID)]):
        raise ValueError(f"word id {wrong[0]} cannot be scored; n-grams are packed for ids from 0 to {LARGEST_ID}")
    return Captions(words.astype(np.uint16), lengths)


def _joined(first: Captions, second: Captions) -> Captions:
    return Captions(np.concatenate([first.words, second.words]), np.concatenate([first.lengths, second.lengths]))


def _grams(captions: Captions) -> Iterator[tuple[Grams, Ints]]:
    """For each order, the n-grams in the order of the captions, and the captions that they are of."""
    words = captions.words.astype(np.uint64) + 1
    owners = np.repeat(np.arange(len(captions.lengths)), captions.lengths)
    packed: Grams = np.zeros(len(words) + 1, np.uint64)
    for order in range(ORDERS):
        packed = (packed[:-1] << np.uint64(WORD_BITS)) | words[order:]
        whole = owners[order:] == owners[: len(packed)]
        yield packed[whole], owners[order:][whole]


def _orders(grams: Grams) -> Ints:
    powers = 1 << WORD_BITS * np.arange(1, ORDERS, dtype=np.uint64)
    return np.searchsorted(powers, grams, side="right")


def _find(wanted: NDArray[Any], keys: NDArray[Any]) -> tuple[Ints, NDArray[np.bool_]]:
    """Where in the sorted `keys` those are that are there, and which of `wanted` these are."""
    places = np.searchsorted(keys, wanted)
    found = places < len(keys)
    found[found] = keys[places[found]] == wanted[found]
    return places[found], found


def _starts(sizes: Ints) -> Ints:
    return np.cumsum(sizes) - sizes


def _ranges(starts: Ints, sizes: Ints) -> Ints:
    """`start`, `start` + 1, ... for each start, as many as its size says, one range after the other."""
    return np.arange(sizes.sum()) + np.repeat(starts - _starts(sizes), sizes)
