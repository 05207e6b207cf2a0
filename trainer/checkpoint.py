"""Checkpoints: what a run leaves to be published or resumed, tensors and JSON in one file, whole or not there."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from shared.bundle import sync

UNFINISHED = ".unfinished."


class CheckpointError(ValueError):
    """A checkpoint that cannot be read; says which file and why."""


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` are named `model.*` (weights that are validated and published) and what training adds to them."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]
    """Plain values: config, vocabulary, epoch, scores, seed, versions."""

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below `prefix`, without it."""
        return {name[len(prefix) + 1 :]: t for name, t in self.tensors.items() if name.startswith(prefix + ".")}


def save_checkpoint(path: Path, parts: Mapping[str, Mapping[str, Tensor]], record: Mapping[str, Any]) -> None:
    """Write to a temporary name, sync, rename: a reader finds the old checkpoint or the new one, never half of one."""
    tensors = {
        f"{prefix}.{name}": t.detach().cpu().contiguous() for prefix, part in parts.items() for name, t in part.items()
    }
    unfinished = path.with_name(f"{UNFINISHED}{path.name}.{os.getpid()}")
    save_file(tensors, unfinished, metadata={"record": json.dumps(record)})
    sync(unfinished)
    unfinished.replace(path)
    sync(path.parent)


def remove_unfinished(folder: Path) -> None:
    """What processes left there that were killed while they saved."""
    for path in folder.glob(f"{UNFINISHED}*"):
        path.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> Checkpoint:
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            return Checkpoint(tensors, json.loads(file.metadata()["record"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of this trainer: {error}") from error
