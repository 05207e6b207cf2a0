"""What one must know to repeat or to publish a run; checkpoints and bundles carry it."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from shared.image import Preprocessing
from shared.model import ModelConfig
from shared.vocabulary import Vocabulary
from trainer.checkpoint import Checkpoint
from trainer.coco import Photo
from trainer.config import TrainConfig

BEFORE = ("config", "epoch", "seconds", "splits", "revision", "started_from")
"""What a run tells of the one that it starts from."""


def run_record(
    config: TrainConfig,
    architecture: ModelConfig,
    vocabulary: Vocabulary,
    preprocessing: Preprocessing,
    splits: Mapping[str, Sequence[Photo]],
    start: Checkpoint | None = None,
) -> dict[str, Any]:
    """What one must know to repeat or to publish the run, which begins with the weights of `start`."""
    return {
        # Where a folder lies is nobody's business.
        "config": {**config.to_dict(), "start_from": Path(config.start_from).name},
        "architecture": dataclasses.asdict(architecture),
        "vocabulary": list(vocabulary.words),
        "preprocessing": preprocessing.to_dict(),
        "splits": {name: _split_record(photos) for name, photos in splits.items()},
        "started_from": start and {key: start.record.get(key) for key in BEFORE},
        "revision": _revision(),
        "machine": {
            "processors": os.cpu_count(),
            "gpus": torch.cuda.device_count(),
            "python": platform.python_version(),
        },
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
