"""One training run: a data set in; `last` and `best` checkpoints and a JSON line per epoch out."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.utils import deterministic

from shared.bundle import MANIFEST, WEIGHTS, Bundle
from shared.image import Preprocessing
from shared.model import CaptionModel, ModelConfig
from shared.vocabulary import Vocabulary
from trainer.checkpoint import Checkpoint, load_checkpoint, remove_unfinished
from trainer.coco import Photo, read_split, subset_of, tell_problems
from trainer.config import ConfigError, TrainConfig, preprocessing_of
from trainer.distributed import process_group
from trainer.evaluate.leakage import TRAINED_ON, record_trained_on
from trainer.pretrained import load_encoder_weights
from trainer.prometheus import exposed
from trainer.run import Run
from trainer.run_record import run_record
from trainer.run_state import BEST, difference, load_last
from trainer.stopping import stop_request


def train(
    config: TrainConfig,
    data: Path,
    model_path: Path,
    *,
    resume: bool = True,
    metrics_port: int | None = None,
    metrics_textfile: Path | None = None,
) -> dict[str, Any]:
    """Train on the splits below `data`, write checkpoints to `model_path`; returns the record of the best epoch.

    A run that `model_path` holds goes on where it was, unless not to `resume`. Raises DataError, WeightsError or
    ConfigError before anything is trained, and StoppedError after a SIGTERM.
    """
    with process_group() as group, stop_request() as stopping:
        if not group.is_first:
            logging.getLogger("trainer").setLevel(logging.ERROR)
        torch.use_deterministic_algorithms(group.device == "cpu")
        deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing here reads what it has not written
        torch.manual_seed(config.seed)
        splits = {name: usable_photos(data / name, strict=config.strict_data) for name in (*config.train, config.val)}
        photos = [photo for name in config.train for photo in splits[name]]
        start = load_start(Path(config.start_from)) if config.start_from else None
        vocabulary = (
            Vocabulary(start.record["vocabulary"])
            if start
            else Vocabulary.from_captions((c for p in photos for c in p.captions), min_count=config.min_count)
        )
        preprocessing = preprocessing_of(config)
        model = build_model(config, len(vocabulary), preprocessing, start).to(group.device)
        record = run_record(config, model.config, vocabulary, preprocessing, splits, start)
        last = load_last(model_path, record) if resume else None
        if group.is_first:
            model_path.mkdir(parents=True, exist_ok=True)
            remove_unfinished(model_path)
            if last is None:
                record_trained_on(model_path / TRAINED_ON, photos, before=Path(config.start_from) if start else None)
        val = subset_of(splits[config.val], config.val_subset)
        first = group.is_first
        with exposed(port=metrics_port if first else None, textfile=metrics_textfile if first else None) as metrics:
            run = Run(config, model_path, group, stopping, vocabulary, preprocessing, record, metrics)
            return run.go(model, photos, val, last)


def load_start(folder: Path) -> Checkpoint:
    """The best weights and the record of a run, or those of a published bundle."""
    if not (folder / MANIFEST).exists():
        return load_checkpoint(folder / BEST)
    bundle = Bundle.load(folder)
    weights = {f"model.{name}": t.float() for name, t in load_file(folder / WEIGHTS).items()}
    kept = {"architecture": bundle.architecture, "vocabulary": list(bundle.vocabulary.words)}
    return Checkpoint(weights, {**bundle.training, **kept})


def usable_photos(folder: Path, *, strict: bool) -> list[Photo]:
    """A split's photos, after saying what is wrong with the others; with `strict` anything wrong raises DataError."""
    split = read_split(folder)
    tell_problems(split.problems, strict=strict)
    return list(split.photos)


def build_model(
    config: TrainConfig, vocabulary_size: int, preprocessing: Preprocessing, start: Checkpoint | None = None
) -> CaptionModel:
    """The network as the config describes it, frozen but for its decoder, with the weights of `start`.

    Without that the encoder has ImageNet weights. Raises ConfigError for a `start` of another architecture.
    """
    architecture = ModelConfig(
        vocabulary_size=vocabulary_size,
        backbone=config.backbone,
        embed_size=config.embed_size,
        hidden_size=config.hidden_size,
        attention_size=config.attention_size,
        dropout=config.dropout,
        decoder=config.decoder,
    )
    if start and (change := difference(start.record["architecture"], dataclasses.asdict(architecture))):
        raise ConfigError(f"{config.start_from} holds a model of another architecture ({change}); ask for the same one")
    model = CaptionModel(architecture, preprocessing, pretrained=config.encoder_weights == "hub" and not start)
    if start:
        model.load_state_dict(start.part("model"))
    elif config.encoder_weights not in ("hub", "random"):
        load_encoder_weights(model.encoder, config.backbone, config.encoder_weights)
    model.encoder.requires_grad_(False).eval()
    return model
