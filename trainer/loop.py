"""The loop of an epoch, and its judgement: what there is to learn, word by word, then captions said freely."""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from shared.beam_search import Rules, beam_search
from shared.image import Preprocessing
from shared.torch_engine import TorchEngine
from shared.vocabulary import Vocabulary
from trainer.coco import Photo, read_photo
from trainer.data_loader import Batch
from trainer.features import FeatureCache
from trainer.learner import Learner
from trainer.optimisation import Optimisation

VALIDATION_BATCH = 25


@dataclass
class Progress:
    """How far an epoch has come, and its sums; a checkpoint carries it."""

    batches: int = 0
    loss: float = 0.0
    words: float = 0.0
    images: float = 0.0
    reward: float = 0.0
    """Summed over the batches."""
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"loss {self.loss / self.words:.3f}, {self.images / self.seconds:.0f} images/s"


Lesson = Callable[[Batch], tuple[Batch, float]]
"""What there is to learn of a batch, and a reward to log."""


def train_one_epoch(
    optimisation: Optimisation,
    batches: Iterable[Batch],
    lesson: Lesson,
    progress: Progress,
    *,
    total: int,
    accumulate: int,
    seeds: Callable[[int], int],
    title: str,
    after_step: Callable[[], None],
) -> None:
    """One pass over `batches`, of `total`, from where `progress` stands.

    All chance of a step comes from `seeds(batch)`, so that a resumed epoch goes on as if nothing had happened.
    """
    group = optimisation.group
    began = time.perf_counter() - progress.seconds
    hidden = None if group.is_first else True  # None: where nobody watches a terminal
    with tqdm(desc=title, unit="batch", initial=progress.batches, total=total, disable=hidden) as bar:
        for step in _grouped(batches, accumulate):
            torch.manual_seed(seeds(progress.batches))
            moved = [batch.to(group.device) for batch in step]
            lessons, rewards = zip(*map(lesson, moved), strict=True)
            own_counts = sum(each.words for each in lessons), sum(each.photos for each in lessons), sum(rewards)
            words, images, reward = group.sum(*own_counts)
            [loss] = group.sum(optimisation.learn(lessons, words))
            progress.batches += len(step)
            progress.loss, progress.words = progress.loss + loss * words, progress.words + words
            progress.images, progress.reward = progress.images + images, progress.reward + reward / group.size
            progress.seconds = time.perf_counter() - began
            bar.update(len(step))
            bar.set_postfix_str(str(progress))
            after_step()


def _grouped(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    iterator = iter(batches)
    while group := list(itertools.islice(iterator, size)):
        yield group


def caption_freely(
    learner: Learner,
    photos: Sequence[Photo],
    inputs: FeatureCache | Preprocessing,
    vocabulary: Vocabulary,
    *,
    beam_size: int,
    rules: Rules,
    device: str = "cpu",
) -> dict[int, str]:
    """What the model says of each photo, word by word from its own words."""
    engine = TorchEngine(learner.model, device=device)
    said: dict[int, str] = {}
    for begin in range(0, len(photos), VALIDATION_BATCH):
        batch = photos[begin : begin + VALIDATION_BATCH]
        if isinstance(inputs, FeatureCache):
            read = np.stack([inputs.features(photo, False) for photo in batch])
        else:
            read = np.stack([read_photo(photo.path, inputs) for photo in batch])
        with torch.inference_mode():
            features = tuple(engine.look(learner.features(torch.from_numpy(read).to(device))))
        found = beam_search(engine.step, engine.start(features, beam_size), features, rules=rules)
        said |= {photo.image_id: vocabulary.decode(best[0].words) for photo, best in zip(batch, found, strict=True)}
    return said


def warmup_then_cosine(step: int, *, warmup: int, total: int) -> float:
    """The factor on the learning rate: up in a line, down in half a cosine to nothing."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def warmup_then_constant(step: int, *, warmup: int) -> float:
    """The factor on the learning rate: up in a line, then 1."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0
