"""Photos and captions as batches to train on.

All chance (order, mirroring, which captions) is drawn by the sampler, so a seed and an epoch fix every batch.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from shared.image import Preprocessing
from shared.vocabulary import END_ID, PAD_ID, UNK_ID, Vocabulary
from trainer.coco import Photo, read_photo, swap_sides
from trainer.features import FeatureCache
from trainer.reward import consensus_weights


class Draw(NamedTuple):
    """One item of a batch, as the sampler drew it."""

    photo: int
    mirrored: bool
    seed: int
    counts: bool = True
    """False for one that only fills up the batch of a process, so that each has something to do."""


class Item(NamedTuple):
    """A photo as it goes into a batch."""

    inputs: NDArray[Any]
    captions: list[list[int]]
    weights: list[float]
    """Of the captions."""
    draw: Draw


class Batch(NamedTuple):
    """What a training step takes: B images and their N captions, the longest first."""

    inputs: Tensor  # cached features, (B, P, F) or (B, C, h, w), or uint8 images (B, S, S, 3)
    draws: tuple[Draw, ...]  # (B)
    captions: Tensor  # (N, T)
    lengths: Tensor  # (N), with <start> and <end>
    images: Tensor  # (N), which of the B a caption is of
    weights: Tensor  # (N), what a caption's loss counts

    @property
    def words(self) -> int:
        """How many words there are to learn."""
        counting = torch.tensor([draw.counts for draw in self.draws])[self.images.cpu()]
        return int((self.lengths - 1)[counting].sum())

    @property
    def photos(self) -> int:
        """How many images count."""
        return sum(draw.counts for draw in self.draws)

    def to(self, device: str) -> "Batch":
        """The batch with what is computed with on `device`."""
        parts = ("inputs", "captions", "images", "weights")
        return self._replace(**{name: getattr(self, name).to(device) for name in parts})


class Caption(NamedTuple):
    """One caption to learn: of which image of the batch, its ids with `<start>`, and what its loss counts."""

    image: int
    words: Sequence[int]
    weight: float


class CocoCaptions(Dataset[Item]):
    """Photos (or their cached features) with up to `captions_per_image` encoded captions, addressed by a Draw."""

    def __init__(
        self,
        photos: Sequence[Photo],
        source: FeatureCache | Preprocessing,
        vocabulary: Vocabulary,
        *,
        captions_per_image: int,
        max_words: int,
        consensus: float = 0.0,
    ) -> None:
        """With a `consensus` above 0 captions that agree with the photo's others weigh more."""
        self.photos = photos
        self.source = source
        self.captions_per_image = captions_per_image
        self.encoded = [[_cut(vocabulary.encode(text), max_words) for text in photo.captions] for photo in photos]
        self.weights = consensus_weights([[c[1:] for c in captions] for captions in self.encoded], share=consensus)
        self._other_side = [vocabulary.id_of(swap_sides(word)) for word in vocabulary.words]

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, draw: Draw) -> Item:
        captions, weights = self.encoded[draw.photo], self.weights[draw.photo]
        if len(captions) > self.captions_per_image:
            chosen = np.random.default_rng(draw.seed).choice(len(captions), self.captions_per_image, replace=False)
            captions, weights = [captions[i] for i in chosen], [weights[i] for i in chosen]
        if draw.mirrored:
            captions = [self.mirrored(caption) for caption in captions]
        return Item(self._inputs(self.photos[draw.photo], draw.mirrored), captions, weights, draw)

    def mirrored(self, caption: Sequence[int]) -> list[int]:
        """The caption of the mirrored photo."""
        return [self._other_side[word] if word > UNK_ID else word for word in caption]

    def _inputs(self, photo: Photo, mirrored: bool) -> NDArray[Any]:
        if isinstance(self.source, FeatureCache):
            return self.source.features(photo, mirrored)
        image = read_photo(photo.path, self.source)
        return np.ascontiguousarray(image[:, ::-1]) if mirrored else image


def _cut(caption: list[int], max_words: int) -> list[int]:
    return caption if len(caption) <= max_words + 2 else [*caption[: max_words + 1], END_ID]


def collate_captions(items: Sequence[Item]) -> Batch:
    """Stack the inputs; sort the captions by falling length and pad them."""
    inputs = torch.from_numpy(np.stack([item.inputs for item in items]))
    captions = [
        Caption(image, caption, weight * item.draw.counts)
        for image, item in enumerate(items)
        for caption, weight in zip(item.captions, item.weights, strict=True)
    ]
    return batch_of(inputs, [item.draw for item in items], captions)


def batch_of(inputs: Tensor, draws: Sequence[Draw], captions: Sequence[Caption]) -> Batch:
    """Images and the captions to learn of them, in any order."""
    captions = sorted(captions, key=lambda caption: -len(caption.words))
    padded = np.full((len(captions), len(captions[0].words)), PAD_ID, dtype=np.int64)
    for row, caption in enumerate(captions):
        padded[row, : len(caption.words)] = caption.words
    return Batch(
        inputs=inputs,
        draws=tuple(draws),
        captions=torch.from_numpy(padded).to(inputs.device),
        lengths=torch.tensor([len(caption.words) for caption in captions]),
        images=torch.tensor([caption.image for caption in captions]).to(inputs.device),
        weights=torch.tensor([caption.weight for caption in captions]).to(inputs.device),
    )


class EpochSampler(Sampler[list[Draw]]):
    """Every photo once an epoch, in an order, views and seeds that (seed, epoch) fix.

    Of each batch a process takes its share; `first_batch` is where a resumed epoch goes on.
    """

    def __init__(
        self, size: int, *, batch_size: int, seed: int, mirror: bool, rank: int = 0, processes: int = 1
    ) -> None:
        self.size, self.batch_size, self.seed, self.mirror = size, batch_size, seed, mirror
        self.rank, self.processes = rank, processes
        self.epoch, self.first_batch = 0, 0

    def __len__(self) -> int:
        return -(-self.size // self.batch_size) - self.first_batch

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self.size)
        mirrored = rng.random(self.size) < (0.5 if self.mirror else 0.0)
        seeds = rng.integers(2**32, size=self.size)
        draws = [Draw(int(i), bool(m), int(s)) for i, m, s in zip(order, mirrored, seeds, strict=True)]
        for begin in range(self.first_batch * self.batch_size, self.size, self.batch_size):
            batch = draws[begin : begin + self.batch_size]
            yield batch[self.rank :: self.processes] or [batch[0]._replace(counts=False)]


def get_loader(
    photos: Sequence[Photo],
    source: FeatureCache | Preprocessing,
    vocabulary: Vocabulary,
    *,
    images_per_batch: int,
    captions_per_image: int = 5,
    max_words: int = 20,
    consensus: float = 0.0,
    mirror: bool = False,
    seed: int = 0,
    workers: int = 0,
    rank: int = 0,
    processes: int = 1,
) -> "DataLoader[Any]":
    """Batches (`Batch`) of `photos`, from cached features or from the files. Call `set_epoch` before each epoch.

    `images_per_batch` is of all `processes` together; this one, of that `rank`, gets its share.
    """
    dataset = CocoCaptions(
        photos,
        source,
        vocabulary,
        captions_per_image=captions_per_image,
        max_words=max_words,
        consensus=consensus,
    )
    sampler = EpochSampler(
        len(photos), batch_size=images_per_batch, seed=seed, mirror=mirror, rank=rank, processes=processes
    )
    return DataLoader(dataset, batch_sampler=sampler, collate_fn=collate_captions, num_workers=workers)


def set_epoch(loader: "DataLoader[Any]", epoch: int, first_batch: int = 0) -> None:
    """Choose the order, views and captions of the epoch to come, and the batch to begin with."""
    sampler = loader.batch_sampler
    assert isinstance(sampler, EpochSampler), "a loader made by get_loader"
    sampler.epoch, sampler.first_batch = epoch, first_batch
