"""What a run became, on one page: its scores, its curves, and what it says of its photos, looked at word by word."""

import os
from datetime import UTC, datetime
from pathlib import Path

from shared.image import Preprocessing
from shared.model import CaptionModel, ModelConfig
from shared.vocabulary import Vocabulary
from trainer.checkpoint import Checkpoint, load_checkpoint
from trainer.coco import read_split
from trainer.config import ConfigError, TrainConfig, decode_options
from trainer.report.event_files import require_tensorboard, write_event_files
from trainer.report.gallery import Gallery, make_gallery
from trainer.report.page import Run, report_page
from trainer.report.run_log import read_log
from trainer.run_state import BEST, LOG


def write_report(
    model_path: Path,
    data: Path,
    out: Path,
    *,
    photos: int = 12,
    split: str | None = None,
    tensorboard: Path | None = None,
) -> Path:
    """Write the page of the run in `model_path` to `out`; with `tensorboard` also its curves as event files there.

    `photos` best, as many worst and half as many other photos of `split` (the run's validation split by default) are
    shown. With none the data is not looked at.
    """
    _check(model_path, out, photos)
    if tensorboard:
        require_tensorboard()
    checkpoint = load_checkpoint(model_path / BEST)
    lines = read_log(model_path / LOG)
    gallery = _gallery(checkpoint, model_path / BEST, data, split, photos) if photos else None
    run = Run(
        record=checkpoint.record,
        lines=lines,
        finished=_last_change(model_path),
        parameters=sum(tensor.numel() for tensor in checkpoint.part("model").values()),
    )
    _write(report_page(run, gallery), out)
    if tensorboard:
        write_event_files(lines, tensorboard)
    return out


def _check(model_path: Path, out: Path, photos: int) -> None:
    if photos < 0:
        raise ConfigError(f"--photos is {photos}; it must be 0 or more")
    if not (model_path / BEST).is_file():
        raise ValueError(f"{model_path} holds no {BEST}; name the folder of a run that has finished an epoch")
    if out.is_dir():
        raise ValueError(f"{out} is a folder; name a file for the page, such as {out / 'report.html'}")
    out.parent.mkdir(parents=True, exist_ok=True)


def _gallery(checkpoint: Checkpoint, path: Path, data: Path, split: str | None, count: int) -> Gallery:
    record = checkpoint.record
    config = TrainConfig.from_mapping(record["config"])
    name = split or config.val
    photos = read_split(data / name).photos
    preprocessing = Preprocessing.from_dict(record["preprocessing"])
    return make_gallery(
        _load_model(checkpoint, path, preprocessing),
        photos,
        Vocabulary(record["vocabulary"]),
        preprocessing,
        decode_options(config),
        split=name,
        count=count,
    )


def _load_model(checkpoint: Checkpoint, path: Path, preprocessing: Preprocessing) -> CaptionModel:
    try:
        model = CaptionModel(ModelConfig(**checkpoint.record["architecture"]), preprocessing)
        model.load_state_dict(checkpoint.part("model"))
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is of another version of the network and cannot be run: {reason}") from error
    return model.eval()


def _last_change(model_path: Path) -> datetime:
    newest = max((model_path / name).stat().st_mtime for name in (BEST, LOG) if (model_path / name).exists())
    return datetime.fromtimestamp(newest, UTC)


def _write(page: bytes, out: Path) -> None:
    """Whole or not at all."""
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    unfinished.write_bytes(page)
    unfinished.replace(out)
