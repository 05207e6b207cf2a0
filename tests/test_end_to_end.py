"""The whole path on one machine: pictures drawn, a model trained and published, the service asked over real HTTP."""

import io
import json
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from shared.bundle import Bundle
from tests.service.conftest import running
from trainer.drawing import draw_scene
from trainer.evaluate import score


def test_pictures_drawn_after_training_get_their_captions_over_http(tiny_volume: Path) -> None:
    scenes = [draw_scene(random.Random(f"unseen {i}"), 120) for i in range(40)]
    with running(model=tiny_volume) as program, ThreadPoolExecutor(8) as clients:

        def ask(i: int) -> str:
            file = io.BytesIO()
            scenes[i][0].save(file, "PNG")
            reply = httpx2.post(f"{program.url}/caption", files={"file": ("scene.png", file.getvalue())}, timeout=60)
            assert reply.status_code == 200, reply.text
            return str(reply.json()["caption"])

        captions = dict(enumerate(clients.map(ask, range(len(scenes)))))
        model = httpx2.get(f"{program.url}/model").json()
    assert score({i: scene[1] for i, scene in enumerate(scenes)}, captions)["CIDEr-D"] > 200
    assert model["source"] == "volume"
    assert model["version"] == Bundle.load(tiny_volume / (tiny_volume / "current").read_text().strip()).version


def test_a_volume_that_is_filled_later_is_taken_up_while_serving(tiny_volume: Path, tmp_path: Path) -> None:
    volume = tmp_path / "models"
    volume.mkdir()
    with running(model=volume, reload_poll_s=0.2) as program, httpx2.Client(base_url=program.url) as client:
        before = client.get("/model").json()
        assert before["source"] == "embedded"
        assert "non-commercial" in before["licence"]
        name = (tiny_volume / "current").read_text().strip()
        shutil.copytree(tiny_volume / name, volume / name)
        (volume / ".pointer").write_text(name)
        (volume / ".pointer").rename(volume / "current")
        patience = time.monotonic() + 60
        while (now := client.get("/model").json())["source"] != "volume" and time.monotonic() < patience:
            client.get("/readyz").raise_for_status()
            time.sleep(0.1)
        assert now["version"] == json.loads((volume / name / "bundle.json").read_text())["version"]
