"""One training run: a data set in; `last` and `best` checkpoints and a JSON line per epoch out."""

import copy
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import logging
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from shared.image import Preprocessing
from shared.model import CaptionModel, ModelConfig
from shared.torch_engine import TorchEngine
from shared.vocabulary import Vocabulary
from trainer.checkpoint import save_checkpoint
from trainer.coco import DataError, Photo, read_split
from trainer.config import TrainConfig, decode_options
from trainer.data_loader import get_loader, set_epoch
from trainer.evaluate import references_of, score
from trainer.features import FeatureCache, cache_features
from trainer.loop import caption_freely, train_one_epoch, warmup_then_cosine
from trainer.pretrained import load_encoder_weights

LAST, BEST, LOG, FEATURES = "last.safetensors", "best.safetensors", "log.jsonl", "features"

logger = logging.getLogger(__name__)

Inputs = FeatureCache | Preprocessing
"""Where the inputs of a photo come from: its cached features, or the file as this preprocessing reads it."""


def train(config: TrainConfig, data: Path, model_path: Path) -> dict[str, Any]:
    """Train on the splits below `data`, write checkpoints to `model_path`; returns the record of the best epoch.

    Raises DataError or WeightsError before anything is trained.
    """
    torch.manual_seed(config.seed)
    model_path.mkdir(parents=True, exist_ok=True)
    splits = {name: usable_photos(data / name, strict=config.strict_data) for name in (*config.train, config.val)}
    photos, val = [photo for name in config.train for photo in splits[name]], splits[config.val]
    vocabulary = Vocabulary.from_captions((c for photo in photos for c in photo.captions), min_count=config.min_count)
    preprocessing = Preprocessing(config.image_size, config.resize, config.mean, config.std)
    model = build_model(config, len(vocabulary), preprocessing)
    photos, inputs = prepare(photos, model, preprocessing, config, model_path / FEATURES, mirror=config.mirror)
    val, val_inputs = prepare(val, model, preprocessing, config, model_path / FEATURES, mirror=False)
    logger.info("%d photos to learn from, %d to validate, %d words", len(photos), len(val), len(vocabulary))
    loader = get_loader(
        photos,
        inputs,
        vocabulary,
        images_per_batch=config.images_per_batch,
        captions_per_image=config.captions_per_image,
        max_words=config.max_words,
        mirror=config.mirror,
        seed=config.seed,
        workers=0 if config.cache_features else config.workers,
    )

    def judge(engine: TorchEngine) -> dict[str, Any]:
        said = caption_freely(engine, val, val_inputs, vocabulary, decode_options(config))
        return {"val": score(references_of(val), said), "unique_captions": len(set(said.values()))}

    record = run_record(config, model.config, vocabulary, preprocessing, splits)
    return fit(model, loader, judge, config, model_path, record)


def fit(
    model: CaptionModel,
    loader: "DataLoader[Any]",
    judge: Callable[[TorchEngine], dict[str, Any]],
    config: TrainConfig,
    model_path: Path,
    record: dict[str, Any],
) -> dict[str, Any]:
    """The epochs: train, judge, log, save. Returns the best epoch's line of the log."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    averaged = copy.deepcopy(model).requires_grad_(False)
    engine = TorchEngine(averaged, device=device)
    optimizer = AdamW(model.to(device).decoder.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    total = config.epochs * len(loader)
    schedule = LambdaLR(optimizer, functools.partial(warmup_then_cosine, warmup=config.warmup_steps, total=total))
    best: dict[str, Any] = {}
    began = time.perf_counter()
    for epoch in range(1, config.epochs + 1):
        set_epoch(loader, epoch)
        epoch_began = time.perf_counter()
        line: dict[str, Any] = {"epoch": epoch}
        line |= train_one_epoch(
            model,
            loader,
            optimizer,
            schedule,
            averaged.decoder,
            label_smoothing=config.label_smoothing,
            clip_norm=config.clip_norm,
            ema_decay=config.ema_decay,
            bf16=config.bf16,
            title=f"epoch {epoch}/{config.epochs}",
        )
        line |= judge(engine)
        line["seconds"] = time.perf_counter() - epoch_began
        record = record | {"epoch": line, "seconds": time.perf_counter() - began}
        _log(line, model_path / LOG)
        save_checkpoint(
            model_path / LAST, {"model": averaged.state_dict(), "decoder": model.decoder.state_dict()}, record
        )
        if not best or line["val"]["CIDEr-D"] > best["val"]["CIDEr-D"]:
            best = line
            save_checkpoint(model_path / BEST, {"model": averaged.state_dict()}, record)
    return best


def _log(line: dict[str, Any], path: Path) -> None:
    scores = line["val"]
    message = "epoch %d: loss %.3f, CIDEr-D %.1f, BLEU-4 %.1f"
    logger.info(message, line["epoch"], line["loss"], scores["CIDEr-D"], scores["BLEU-4"])
    with path.open("a") as log:
        log.write(json.dumps(line) + "\n")


def usable_photos(folder: Path, *, strict: bool) -> list[Photo]:
    """A split's photos, after saying what is wrong with the others; with `strict` anything wrong raises DataError."""
    split = read_split(folder)
    _tell(split.problems, strict=strict)
    return list(split.photos)


def prepare(
    photos: Sequence[Photo],
    model: CaptionModel,
    preprocessing: Preprocessing,
    config: TrainConfig,
    cache: Path,
    *,
    mirror: bool,
) -> tuple[list[Photo], Inputs]:
    """Cache the photos' features if the config says so, and leave out those that turn out to be broken."""
    if not config.cache_features:
        return list(photos), preprocessing
    features = cache_features(photos, model.encoder, preprocessing, cache, mirror=mirror)
    _tell([f"{path}: {problem}" for path, problem in features.problems.items()], strict=config.strict_data)
    return [photo for photo in photos if photo.path not in features.problems], features


def _tell(problems: Sequence[str], *, strict: bool) -> None:
    if not problems:
        return
    for problem in problems[:20]:
        logger.warning("%s", problem)
    if strict:
        raise DataError(
            f"{len(problems)} problems in the data, the first: {problems[0]}; without --strict-data they are left out"
        )
    logger.warning("%d problems in the data; training goes on without these photos and captions", len(problems))


def build_model(config: TrainConfig, vocabulary_size: int, preprocessing: Preprocessing) -> CaptionModel:
    """The network as the config describes it, its encoder with ImageNet weights and frozen."""
    architecture = ModelConfig(
        vocabulary_size=vocabulary_size,
        backbone=config.backbone,
        embed_size=config.embed_size,
        hidden_size=config.hidden_size,
        attention_size=config.attention_size,
        dropout=config.dropout,
    )
    model = CaptionModel(architecture, preprocessing, pretrained=config.encoder_weights == "hub")
    if config.encoder_weights not in ("hub", "random"):
        load_encoder_weights(model.encoder, config.backbone, config.encoder_weights)
    model.encoder.requires_grad_(False).eval()
    return model


def run_record(
    config: TrainConfig,
    architecture: ModelConfig,
    vocabulary: Vocabulary,
    preprocessing: Preprocessing,
    splits: Mapping[str, Sequence[Photo]],
) -> dict[str, Any]:
    """What one must know to repeat or to publish the run."""
    return {
        "config": config.to_dict(),
        "architecture": dataclasses.asdict(architecture),
        "vocabulary": list(vocabulary.words),
        "preprocessing": preprocessing.to_dict(),
        "splits": {name: _split_record(photos) for name, photos in splits.items()},
        "revision": _revision(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "timm", "numpy", "pillow")},
    }


def _split_record(photos: Sequence[Photo]) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps([[photo.path.name, photo.captions] for photo in photos]).encode())
    captions = sum(len(photo.captions) for photo in photos)
    return {"photos": len(photos), "captions": captions, "sha256": digest.hexdigest()}


def _revision() -> str | None:
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
