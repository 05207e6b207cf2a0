"""Measurements as lines of JSON, appended run by run; tables are made of all of them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""At least `run`, `turn`, `load` and `name`, and the figures."""


def append(path: Path, record: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def read(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def values(records: Iterable[Record], load: str, name: str, figure: str) -> dict[tuple[str, int], float]:
    """A figure by run and turn."""
    return {
        (record["run"], record["turn"]): record[figure]
        for record in records
        if record["load"] == load and record["name"] == name and record.get(figure) is not None
    }


def ratios(ours: dict[tuple[str, int], float], theirs: dict[tuple[str, int], float]) -> list[float]:
    """Of the turns in which both were measured; a turn in which they had nothing counts as infinite."""
    return [value / theirs[turn] if theirs[turn] else float("inf") for turn, value in ours.items() if turn in theirs]
