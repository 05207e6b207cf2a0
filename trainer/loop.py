"""The loop of an epoch, and its judgement: cross-entropy with teacher forcing, then captions said freely."""

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from tqdm import tqdm

from shared.beam_search import beam_search
from shared.bundle import DecodeOptions
from shared.captioner import caption_rules
from shared.image import Preprocessing
from shared.model import CaptionModel, DecoderRNN
from shared.torch_engine import TorchEngine
from shared.vocabulary import Vocabulary
from trainer.coco import Photo, read_photo
from trainer.features import FeatureCache

VALIDATION_BATCH = 25


def train_one_epoch(
    model: CaptionModel,
    loader: "DataLoader[Any]",
    optimizer: Optimizer,
    schedule: LambdaLR,
    average: DecoderRNN,
    *,
    ema_decay: float,
    bf16: bool,
    label_smoothing: float,
    clip_norm: float,
    title: str,
) -> dict[str, float]:
    """One pass over `loader`; the encoder, frozen, stays in eval mode. Returns the mean loss per word and images/s."""
    device = next(model.decoder.parameters()).device
    criterion = nn.CrossEntropyLoss(label_smoothing=label_smoothing)
    model.eval()
    model.decoder.train()
    began, total, words, images = time.perf_counter(), 0.0, 0, 0
    with tqdm(loader, desc=title, unit="batch") as progress:
        for batch in progress:
            targets = pack_padded_sequence(batch.captions[:, 1:], batch.lengths - 1, batch_first=True).data.to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                features = features_of(model, batch.inputs.to(device))
                logits = model.decoder(features, batch.captions.to(device), batch.lengths, batch.images.to(device))
            loss = criterion(logits.float(), targets)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.decoder.parameters(), clip_norm)
            optimizer.step()
            schedule.step()
            update_average(average, model.decoder, min(ema_decay, 1 - 10 / (10 + schedule.last_epoch)))
            total, words, images = total + loss.item() * len(targets), words + len(targets), images + len(batch.inputs)
            progress.set_postfix_str(f"loss {total / words:.3f}, {images / (time.perf_counter() - began):.0f} images/s")
    return {"loss": total / words, "images_per_second": images / (time.perf_counter() - began)}


@torch.no_grad()
def update_average(average: DecoderRNN, decoder: DecoderRNN, decay: float) -> None:
    """Move the running mean of the weights towards the weights of now."""
    for mean, parameter in zip(average.parameters(), decoder.parameters(), strict=True):
        mean.lerp_(parameter, 1 - decay)


def features_of(model: CaptionModel, inputs: Tensor) -> Tensor:
    """Encoder features (B, P, F) of a batch's inputs: what was cached, or images (B, S, S, 3) through the encoder."""
    if inputs.dim() == 3:
        return inputs.float()
    with torch.no_grad():
        return model.encoder(inputs)


def caption_freely(
    engine: TorchEngine,
    photos: Sequence[Photo],
    inputs: FeatureCache | Preprocessing,
    vocabulary: Vocabulary,
    options: DecodeOptions,
) -> dict[int, str]:
    """What the model says of each photo, word by word from its own words."""
    rules = caption_rules(vocabulary, options)
    said: dict[int, str] = {}
    for begin in range(0, len(photos), VALIDATION_BATCH):
        batch = photos[begin : begin + VALIDATION_BATCH]
        if isinstance(inputs, FeatureCache):
            cached = np.stack([inputs.features(photo, False) for photo in batch])
            features: Any = tuple(engine.look(torch.from_numpy(cached)))
        else:
            features = engine.encode(np.stack([read_photo(photo.path, inputs) for photo in batch]))
        found = beam_search(engine.step, engine.start(features, options.beam_size), features, rules=rules)
        said |= {photo.image_id: vocabulary.decode(best[0].words) for photo, best in zip(batch, found, strict=True)}
    return said


def warmup_then_cosine(step: int, *, warmup: int, total: int) -> float:
    """The factor on the learning rate: up in a line, down in half a cosine to nothing."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))
