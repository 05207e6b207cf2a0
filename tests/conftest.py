"""What many tests need: drawn pictures, and a real model that learned to caption them."""

import io
import os
import random
from pathlib import Path

import pytest

from trainer.__main__ import main
from trainer.drawing import draw_scene, write_drawn_dataset

DEFAULT_MODEL = Path(__file__).parent.parent / "service" / "default_model"


@pytest.fixture(scope="session")
def drawn_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in COCO layout, drawn on the spot."""
    folder = tmp_path_factory.mktemp("drawn")
    write_drawn_dataset(folder, {"train": 800, "val": 60}, size=64)
    return folder


@pytest.fixture(scope="session")
def tiny_run(drawn_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a small model trained on the drawn pictures."""
    folder = tmp_path_factory.mktemp("run")
    assert main(["train", "--preset", "tiny", "--data", str(drawn_data), "--model", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def tiny_volume(tiny_run: Path, drawn_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model volume whose `current` names that model."""
    folder = tmp_path_factory.mktemp("volume")
    arguments = ["publish", "--model", str(tiny_run), "--data", str(drawn_data), "--volume", str(folder)]
    assert main(arguments) == 0
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tiny_volume: Path) -> Path:
    return tiny_volume / (tiny_volume / "current").read_text().strip()


@pytest.fixture(scope="session")
def default_bundle() -> Path:
    """The model that the service ships with."""
    return DEFAULT_MODEL


@pytest.fixture(scope="session")
def drawn_photo() -> bytes:
    """JPEG bytes of a drawn scene."""
    buffer = io.BytesIO()
    draw_scene(random.Random(5), 200)[0].save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Photos and captions from outside, where CAPTION_TEST_DATA names a folder of them."""
    folder = os.environ.get("CAPTION_TEST_DATA")
    if not folder:
        pytest.skip("CAPTION_TEST_DATA is not set")
    return Path(folder)
