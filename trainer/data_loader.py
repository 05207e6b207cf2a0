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
from shared.vocabulary import END_ID, PAD_ID, Vocabulary
from trainer.coco import Photo, read_photo, swap_sides
from trainer.features import FeatureCache


class Draw(NamedTuple):
    """One item of a batch, as the sampler drew it."""

    photo: int
    mirrored: bool
    seed: int


class Batch(NamedTuple):
    """What a training step takes: B images and their N captions, the longest first."""

    inputs: Tensor  # features (B, P, F) or uint8 images (B, S, S, 3)
    captions: Tensor  # (N, T)
    lengths: Tensor  # (N), with <start> and <end>
    images: Tensor  # (N), which of the B a caption is of


class CocoCaptions(Dataset[tuple[NDArray[Any], list[list[int]]]]):
    """Photos (or their cached features) with up to `captions_per_image` encoded captions, addressed by a Draw."""

    def __init__(
        self,
        photos: Sequence[Photo],
        source: FeatureCache | Preprocessing,
        vocabulary: Vocabulary,
        *,
        captions_per_image: int,
        max_words: int,
    ) -> None:
        self.photos = photos
        self.source = source
        self.captions_per_image = captions_per_image
        self.encoded = [
            [
                [_cut(vocabulary.encode(text), max_words) for text in view]
                for view in (photo.captions, map(swap_sides, photo.captions))
            ]
            for photo in photos
        ]

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, draw: Draw) -> tuple[NDArray[Any], list[list[int]]]:
        captions = self.encoded[draw.photo][draw.mirrored]
        if len(captions) > self.captions_per_image:
            chosen = np.random.default_rng(draw.seed).choice(len(captions), self.captions_per_image, replace=False)
            captions = [captions[i] for i in chosen]
        return self._inputs(self.photos[draw.photo], draw.mirrored), captions

    def _inputs(self, photo: Photo, mirrored: bool) -> NDArray[Any]:
        if isinstance(self.source, FeatureCache):
            return self.source.features(photo, mirrored)
        image = read_photo(photo.path, self.source)
        return np.ascontiguousarray(image[:, ::-1]) if mirrored else image


def _cut(caption: list[int], max_words: int) -> list[int]:
    return caption if len(caption) <= max_words + 2 else [*caption[: max_words + 1], END_ID]


def collate_captions(items: Sequence[tuple[NDArray[Any], list[list[int]]]]) -> Batch:
    """Stack the inputs; sort the captions by falling length and pad them."""
    captions = [(image, caption) for image, (_, captions) in enumerate(items) for caption in captions]
    captions.sort(key=lambda pair: -len(pair[1]))
    padded = np.full((len(captions), len(captions[0][1])), PAD_ID, dtype=np.int64)
    for row, (_, caption) in enumerate(captions):
        padded[row, : len(caption)] = caption
    return Batch(
        inputs=torch.from_numpy(np.stack([inputs for inputs, _ in items])),
        captions=torch.from_numpy(padded),
        lengths=torch.tensor([len(caption) for _, caption in captions]),
        images=torch.tensor([image for image, _ in captions]),
    )


class EpochSampler(Sampler[list[Draw]]):
    """Every photo once an epoch, in an order, views and seeds that (seed, epoch) fix."""

    def __init__(self, size: int, *, batch_size: int, seed: int, mirror: bool) -> None:
        self.size, self.batch_size, self.seed, self.mirror = size, batch_size, seed, mirror
        self.epoch = 0

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self.size)
        mirrored = rng.random(self.size) < (0.5 if self.mirror else 0.0)
        seeds = rng.integers(2**32, size=self.size)
        draws = [Draw(int(i), bool(m), int(s)) for i, m, s in zip(order, mirrored, seeds, strict=True)]
        for begin in range(0, self.size, self.batch_size):
            yield draws[begin : begin + self.batch_size]


def get_loader(
    photos: Sequence[Photo],
    source: FeatureCache | Preprocessing,
    vocabulary: Vocabulary,
    *,
    images_per_batch: int,
    captions_per_image: int = 5,
    max_words: int = 20,
    mirror: bool = False,
    seed: int = 0,
    workers: int = 0,
) -> "DataLoader[Any]":
    """Batches (`Batch`) of `photos`, from cached features or from the files. Call `set_epoch` before each epoch."""
    dataset = CocoCaptions(photos, source, vocabulary, captions_per_image=captions_per_image, max_words=max_words)
    sampler = EpochSampler(len(photos), batch_size=images_per_batch, seed=seed, mirror=mirror)
    return DataLoader(dataset, batch_sampler=sampler, collate_fn=collate_captions, num_workers=workers)


def set_epoch(loader: "DataLoader[Any]", epoch: int) -> None:
    """Choose the order, views and captions of the epoch to come."""
    sampler = loader.batch_sampler
    assert isinstance(sampler, EpochSampler), "a loader made by get_loader"
    sampler.epoch = epoch
