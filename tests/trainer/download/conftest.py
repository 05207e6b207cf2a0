from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trainer.download.fetch_scene import Scene, serving_one_file


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("no_proxy", "*")
    with serving_one_file(tmp_path) as scene:
        yield scene
