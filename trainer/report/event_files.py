"""The same curves for TensorBoard, whose package is optional."""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.report.run_log import Line, figures, positions

NOT_INSTALLED = (
    "--tensorboard needs the package `tensorboard`, which is not installed; "
    "install the extra `tensorboard`, or leave the flag out"
)


def require_tensorboard() -> None:
    """Raise ValueError, with what to do, unless event files can be written."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ValueError(NOT_INSTALLED)


def write_event_files(lines: Sequence[Line], folder: Path) -> None:
    """Every figure of the log as a scalar at its epoch; what an earlier report wrote there is superseded."""
    require_tensorboard()
    tensorboard: Any = importlib.import_module("torch.utils.tensorboard")
    writer = tensorboard.SummaryWriter(folder, purge_step=0)
    for epoch, line in zip(positions(lines), lines, strict=True):
        for name, value in figures(line).items():
            if name != "epoch":
                writer.add_scalar(name, value, epoch)
    writer.close()
