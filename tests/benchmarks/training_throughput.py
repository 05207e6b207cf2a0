"""Captions learned per second by four loops around one model, measured in turns: what caching and batching are worth.

`python -m tests.benchmarks.training_throughput FOLDER` makes a data set of COCO's size in FOLDER (0.5 GB).

- `cached`: this trainer's loop on cached features, one caption per encoded image.
- `encoder in the loop`: the same with the encoder run on every image, one caption per encoded image too.
- `trainer`: this trainer's loop as it comes, five captions of each cached image.
- `plain`: the loop of many tutorials, on the same cached features: each step looks for captions of one random length
  among all, draws a batch of them and builds its loader anew. Adam, fp32.
"""

import itertools
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, SubsetRandomSampler

from shared.vocabulary import Vocabulary
from tests.benchmarks.coco_size import make_data, make_encoder_weights, make_features
from trainer.coco import Photo, read_split
from trainer.config import TrainConfig, load_config, preprocessing_of
from trainer.data_loader import CocoCaptions, get_loader, set_epoch
from trainer.distributed import Group
from trainer.learner import Learner
from trainer.optimisation import Optimisation
from trainer.train import build_model

ROUNDS, BATCH, STEPS = 5, 100, 10
"""Turns of each loop; captions in a batch; batches in a turn (one where the encoder runs in the loop)."""
SIZES, FEW = (224, 448), 2000
"""Sides of the images, those of the presets for COCO; photos with features where the encoder is compared with them."""
SETTINGS = {"precision": "bf16"}
Step = Callable[[], None]


class OneCaption(Dataset[tuple[Tensor, Tensor]]):
    """A caption and the features of its photo."""

    def __init__(self, captions: CocoCaptions) -> None:
        self.captions = captions
        self.places = [(i, j) for i, said in enumerate(captions.encoded) for j in range(len(said))]
        self.lengths = [len(caption) for said in captions.encoded for caption in said]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        photo, caption = self.places[index]
        features = self.captions._inputs(self.captions.photos[photo], False)
        return torch.from_numpy(features.copy()).float(), torch.tensor(self.captions.encoded[photo][caption])


def plain_loop(captions: OneCaption, learner: Learner) -> Step:
    criterion, adam = nn.CrossEntropyLoss(), torch.optim.Adam(learner.model.decoder.parameters(), lr=1e-3)

    def step() -> None:
        length = random.choice(captions.lengths)
        alike = [i for i in range(len(captions)) if captions.lengths[i] == length]
        chosen = random.choices(alike, k=BATCH)
        [(features, words)] = DataLoader(captions, batch_size=BATCH, sampler=SubsetRandomSampler(chosen))
        learner.model.decoder.train()
        logits = learner(features, words, torch.full((BATCH,), length), torch.arange(BATCH))
        loss = criterion(logits, words[:, 1:].T.flatten())
        adam.zero_grad()
        loss.backward()
        adam.step()

    return step


def trainer_loop(
    config: TrainConfig, photos: Sequence[Photo], source: Any, words: Vocabulary, learner: Learner
) -> Step:
    each = config.captions_per_image
    loader = get_loader(photos, source, words, images_per_batch=BATCH // each, captions_per_image=each, mirror=True)
    average = Learner(build_model(config, len(words), preprocessing_of(config)))
    optimisation = Optimisation(
        learner,
        average,
        Group(0, 1, "cpu"),
        rate=lambda step: 1.0,
        learning_rate=config.learning_rate,
        encoder_learning_rate=0.0,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
        ema_decay=config.ema_decay,
        label_smoothing=config.label_smoothing,
        precision=config.precision,
    )
    batches = _endless(loader)

    def step() -> None:
        batch = next(batches)
        optimisation.learn([batch], batch.words)

    return step


def _endless(loader: "DataLoader[Any]") -> Iterator[Any]:
    for epoch in itertools.count(1):
        set_epoch(loader, epoch)
        yield from loader


def make_loops(folder: Path) -> dict[str, Step]:
    data, run = folder / "data", folder / "run"
    make_data(data)
    weights = str(make_encoder_weights("resnet50", folder / "resnet50.safetensors"))
    photos = read_split(data / "train2017").photos
    words = Vocabulary.from_captions((text for photo in photos for text in photo.captions), min_count=5)
    loops: dict[str, Step] = {}
    for size in SIZES:
        config = load_config(
            None, {**SETTINGS, "encoder_weights": weights, "image_size": size, "captions_per_image": 1}
        )
        learner = Learner(build_model(config, len(words), preprocessing_of(config)))
        cache = make_features(config, photos[:FEW], run)
        loops[f"cached, {size}"] = trainer_loop(config, photos[:FEW], cache, words, learner)
        loops[f"encoder in the loop, {size}"] = trainer_loop(
            config, photos[:FEW], preprocessing_of(config), words, learner
        )
    config = load_config(None, {**SETTINGS, "encoder_weights": weights})
    learner = Learner(build_model(config, len(words), preprocessing_of(config)))
    cache = make_features(config, photos, run)
    captions = OneCaption(CocoCaptions(photos, cache, words, captions_per_image=5, max_words=config.max_words))
    loops["trainer"] = trainer_loop(config, photos, cache, words, learner)
    loops["plain"] = plain_loop(captions, learner)
    return loops


def main(folder: Path) -> None:
    loops = make_loops(folder)
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(ROUNDS + 1):
        for name, step in loops.items():
            steps = 1 if name.startswith("encoder") else STEPS
            began = time.perf_counter()
            for _ in range(steps):
                step()
            if turn:  # the first warms up
                rates[name].append(steps * BATCH / (time.perf_counter() - began))
    for name, each in rates.items():
        print(f"{name:24} {statistics.median(each):8.1f} captions/s  ({min(each):.1f} to {max(each):.1f})")
    pairs = [(f"cached, {size}", f"encoder in the loop, {size}") for size in SIZES]
    for fast, slow in (*pairs, ("trainer", "plain")):
        ratios = [a / b for a, b in zip(rates[fast], rates[slow], strict=True)]
        print(f"{fast} / {slow}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    torch.manual_seed(0)
    random.seed(0)
    main(Path(sys.argv[1]))
