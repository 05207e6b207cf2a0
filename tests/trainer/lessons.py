"""A small learner and made lessons, for tests of what a step does."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from shared.image import Preprocessing
from shared.model import CaptionModel, ModelConfig
from shared.vocabulary import END_ID, START_ID
from trainer.data_loader import Batch, Caption, Draw, batch_of
from trainer.distributed import Group
from trainer.learner import Learner
from trainer.optimisation import Optimisation

WORDS, CELLS, CHANNELS = 30, 4, 96
PIXELS = Preprocessing(64, "squash", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
ALONE = Group(0, 1, "cpu")


def made_learner(*, dropout: float = 0.0, tuned_stages: int = 0, double: bool = False, seed: int = 0) -> Learner:
    torch.manual_seed(seed)
    config = ModelConfig(WORDS, "test_resnet", 24, 32, 16, dropout=dropout)
    return Learner(CaptionModel(config, PIXELS), tuned_stages=tuned_stages, double=double)


def made_optimisation(learner: Learner, group: Group = ALONE, **changes: Any) -> Optimisation:
    settings: dict[str, Any] = {
        "rate": lambda step: 1.0,
        "learning_rate": 1e-3,
        "encoder_learning_rate": 1e-3,
        "weight_decay": 0.0,
        "clip_norm": 1e9,
        "ema_decay": 0.9,
    }
    return Optimisation(learner, copy.deepcopy(learner), group, **{**settings, **changes})


def made_lesson(images: int, *, captions_per_image: int = 3, seed: int = 0, pixels: bool = False) -> Batch:
    """Random captions of random features, or of random pictures."""
    rng = np.random.default_rng(seed)
    captions = [
        Caption(image, [START_ID, *rng.integers(4, WORDS, size=rng.integers(2, 9)).tolist(), END_ID], 1.0)
        for image in range(images)
        for _ in range(captions_per_image)
    ]
    if pixels:
        inputs = torch.from_numpy(rng.integers(0, 256, (images, 64, 64, 3), dtype=np.uint8))
    else:
        inputs = torch.from_numpy(rng.normal(size=(images, CELLS, CHANNELS)).astype(np.float32))
    return batch_of(inputs, [Draw(i, False, i) for i in range(images)], captions)


def part_of(batch: Batch, images: Sequence[int]) -> Batch:
    """Some of the images, with their captions."""
    rows = zip(batch.images.tolist(), batch.captions.tolist(), batch.lengths.tolist(), strict=True)
    captions = [Caption(images.index(i), words[:length], 1.0) for i, words, length in rows if i in images]
    return batch_of(batch.inputs[list(images)], [batch.draws[i] for i in images], captions)


def log_prob(learner: Learner, batch: Batch) -> torch.Tensor:
    """Summed over the words of each caption (N)."""
    learner.model.eval()
    with torch.inference_mode():
        logits = learner(batch.inputs, batch.captions, batch.lengths, batch.images)
    totals, place = torch.zeros(len(batch.captions)), 0
    for step in range(int(batch.lengths[0]) - 1):
        going = int((batch.lengths > step + 1).sum())
        words = batch.captions[:going, step + 1]
        totals[:going] += logits[place : place + going].log_softmax(1).gather(1, words[:, None])[:, 0]
        place += going
    return totals
