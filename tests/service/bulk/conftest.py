"""Folders of pictures, and `python -m service.bulk` around the tiny model."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.bulk.__main__ import main
from shared.captioner import load_captioner
from shared.image import read_pixels
from tests.service.pictures import encoded
from trainer.drawing import draw_scene

Bulk = Callable[..., int]


def draw(folder: Path, count: int, kind: str = "JPEG") -> None:
    """Half of them in a folder of its own."""
    for number in range(count):
        path = folder / ("more" if number % 2 else "") / f"{number:02d}.{kind.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(draw_scene(random.Random(number), 64)[0], kind))


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({row["file"] for row in rows}) == len(rows), "a picture has two rows"
    return {row["file"]: row for row in rows}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw(tmp_path / "pictures", 20)
    return tmp_path / "pictures"


@pytest.fixture
def bulk(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Bulk:
    monkeypatch.setenv("CAPTION_MODEL", str(tiny_bundle))
    monkeypatch.setenv("CAPTION_PRECISION", "fp32")
    return lambda *words: main([str(word) for word in words])


@pytest.fixture(scope="session")
def caption_of(tiny_bundle: Path) -> Callable[[Path], str]:
    """What the model says of a picture alone."""
    captioner = load_captioner(tiny_bundle, precision="fp32")

    def caption(path: Path) -> str:
        pixels = read_pixels(path.read_bytes(), captioner.bundle.preprocessing)
        found = captioner.caption([pixels], [captioner.bundle.decode])[0]
        assert found is not None
        return found.caption

    return caption
