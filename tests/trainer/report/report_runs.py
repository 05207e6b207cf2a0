"""Run folders for the tests of the report: a network that learned nothing says something all the same."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from shared.image import Preprocessing
from shared.model import CaptionModel, ModelConfig
from shared.vocabulary import Vocabulary
from trainer.checkpoint import save_checkpoint
from trainer.coco import read_split
from trainer.config import load_config
from trainer.run_state import BEST, LOG

LINES: list[dict[str, Any]] = [
    {"epoch": 1, "loss": 3.25, "val": {"BLEU-4": 10.25, "CIDEr-D": 50.5}, "seconds": 61.0},
    {"epoch": 2, "loss": 2.125, "val": {"BLEU-4": 21.5, "CIDEr-D": 81.25}, "seconds": 62.0},
]


def made_model(vocabulary: Vocabulary, pixels: Preprocessing) -> CaptionModel:
    torch.manual_seed(0)
    return CaptionModel(ModelConfig(len(vocabulary), "test_resnet", 16, 24, 16), pixels).eval()


def made_run(folder: Path, data: Path, lines: Sequence[Any] = LINES, **config: Any) -> Path:
    """What training leaves in `folder`, its best epoch the last of `lines`; `config` is on top of the preset."""
    folder.mkdir(parents=True)
    settings = load_config("tiny", {"backbone": "test_resnet", "image_size": 64, "max_length": 6, **config})
    captions = [text for photo in read_split(data / settings.val).photos for text in photo.captions]
    vocabulary = Vocabulary.from_captions(captions, min_count=1)
    pixels = Preprocessing(settings.image_size, settings.resize, settings.mean, settings.std)
    model = made_model(vocabulary, pixels)
    record = {
        "config": settings.to_dict(),
        "architecture": dataclasses.asdict(model.config),
        "vocabulary": list(vocabulary.words),
        "preprocessing": pixels.to_dict(),
        "splits": {"train": {"photos": 8000, "captions": 40000}, settings.val: {"photos": 60, "captions": 300}},
        "revision": "0123456789abcdef",
        "versions": {"torch": torch.__version__},
        "epoch": lines[-1] if lines else {},
        "seconds": 123.0,
    }
    save_checkpoint(folder / BEST, {"model": model.state_dict()}, record)
    (folder / LOG).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
