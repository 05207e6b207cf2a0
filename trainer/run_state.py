"""A run as it stands, so that a killed one goes on as if nothing had happened: what `last` holds."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from trainer.config import ConfigError
from trainer.loop import Progress
from trainer.optimisation import Optimisation

LAST, BEST, LOG = "last.safetensors", "best.safetensors", "log.jsonl"


@dataclasses.dataclass
class Position:
    """Where a run stands: in which stage, how many of its epochs are behind it, how far into the next one."""

    stage: int = 0
    epochs: int = 0
    progress: Progress = dataclasses.field(default_factory=Progress)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Position":
        return cls(values["stage"], values["epochs"], Progress(**values["progress"]))


def save_last(
    folder: Path,
    position: Position,
    optimisation: Optimisation,
    record: Mapping[str, Any],
    lines: list[dict[str, Any]],
) -> None:
    """All that the next step depends on. Chance needs no state: a step draws it from the seed and its position."""
    parts = {
        "learner": optimisation.learner.model.state_dict(),
        "model": optimisation.average.model.state_dict(),
        "optimizer": optimisation.state(),
    }
    state = {
        "position": position.to_dict(),
        "steps": optimisation.steps,
        "lines": lines,
        "scaler": optimisation.scaler.state_dict(),
    }
    save_checkpoint(folder / LAST, parts, {**record, "state": state})


def restore_optimisation(checkpoint: Checkpoint, optimisation: Optimisation) -> None:
    state = checkpoint.record["state"]
    optimisation.restore(checkpoint.part("optimizer"), state["steps"])
    optimisation.scaler.load_state_dict(state["scaler"])


def load_last(folder: Path, record: Mapping[str, Any]) -> Checkpoint | None:
    """The run that `folder` holds, or None; raises ConfigError if it is one of another config or other data."""
    path = folder / LAST
    if not path.exists():
        return None
    checkpoint = load_checkpoint(path)
    for key in ("config", "splits", "vocabulary"):
        differing = difference(checkpoint.record.get(key), record[key])
        if differing:
            raise ConfigError(
                f"{folder} holds a run with another {key} ({differing}); choose another folder, or --resume never"
            )
    return checkpoint


def difference(old: Any, new: Any) -> str:
    """The first key of two mappings whose values differ, with both; empty where there is none."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return "" if old == new else "it has changed"
    keys = [key for key in {**old, **new} if _plain(old.get(key)) != _plain(new.get(key))]
    return f"{keys[0]}: {old.get(keys[0])!r}, now {new.get(keys[0])!r}" if keys else ""


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
