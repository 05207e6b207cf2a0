"""The log of a run, one JSON object per epoch, read with patience: keys come and go with versions and stages."""

import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]

logger = logging.getLogger(__name__)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Its lines, oldest first; what is no JSON object (a line that a crash cut off) is told and left out."""
    if not path.exists():
        logger.warning("%s does not exist; there are no curves to draw", path)
        return []
    lines = []
    for number, text in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        if (line := _parse(text)) is not None:
            lines.append(line)
        elif text.strip():
            logger.warning("%s, line %d, is no JSON object and is left out: %.60r", path, number, text)
    return lines


def _parse(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def figures(line: Line) -> dict[str, float]:
    """Every number of a line by its name; those of an inner object are called `val/CIDEr-D`."""
    found: dict[str, float] = {}
    for key, value in line.items():
        if isinstance(value, Mapping):
            found |= {f"{key}/{name}": number for name, number in figures(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[key] = float(value)
    return found


def positions(lines: Sequence[Line]) -> list[int]:
    """Where each line stands on the axis: at its epoch; at its place in the log where epochs are missing or restart."""
    epochs = [line.get("epoch") for line in lines]
    whole = [epoch for epoch in epochs if type(epoch) is int]
    is_rising = len(whole) == len(lines) and all(a < b for a, b in itertools.pairwise(whole))
    return whole if is_rising else list(range(1, len(lines) + 1))


def stage_changes(lines: Sequence[Line]) -> dict[int, str]:
    """Index of the first line of every stage but the first -> the stage, or "restart" where epochs begin anew."""
    changes = {}
    for i, (before, line) in enumerate(itertools.pairwise(lines), start=1):
        if line.get("stage") != before.get("stage"):
            changes[i] = stage_name(line)
        elif figures(line).get("epoch", i) <= figures(before).get("epoch", -1):
            changes[i] = "restart"
    return changes


def stage_name(line: Line) -> str:
    return str(line.get("stage", "unnamed stage")).replace("_", "-")
