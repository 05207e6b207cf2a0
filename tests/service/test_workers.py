"""Several engines behind one queue."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from shared.bundle import Bundle
from shared.captioner import load_captioners
from shared.engine_loading import load_engines
from tests.service import pictures
from tests.service.conftest import serving


def caption(client: TestClient, photo: bytes) -> str:
    response = client.post("/caption", content=photo, headers={"content-type": "image/jpeg"})
    assert response.status_code == 200
    said: str = response.json()["caption"]
    return said


def test_many_workers_say_what_one_says(tiny_bundle: Path) -> None:
    photos = [pictures.jpeg(i) for i in range(12)]
    with serving(model=tiny_bundle, precision="fp32") as client:
        alone = [caption(client, photo) for photo in photos]
    with serving(model=tiny_bundle, precision="fp32", workers=3, max_batch_size=2) as client:
        with ThreadPoolExecutor(12) as threads:
            together = list(threads.map(lambda photo: caption(client, photo), photos))
        assert client.get("/livez").status_code == 200
    assert together == alone


def test_every_worker_has_an_engine_of_its_own(tiny_bundle: Path) -> None:
    (first, second), alone = load_captioners(tiny_bundle, engine="openvino", threads=2, workers=2)
    assert first.bundle is second.bundle is alone.bundle
    assert len({id(captioner._engine) for captioner in (first, second, alone)}) == 3


@pytest.mark.parametrize(
    ("workers", "threads", "loaded"),
    [(1, 4, [4]), (2, 4, [2, 2, 4]), (3, 2, [1, 1, 1, 2]), (0, 2, [1, 1, 2]), (0, 1, [1])],
)
def test_the_workers_share_the_threads_out(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, workers: int, threads: int, loaded: list[int]
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("shared.openvino_engine.OpenVINOEngine", lambda graphs, *, threads: asked.append(threads))
    load_engines("openvino", Bundle.load(tiny_bundle), threads=threads, workers=workers)
    assert asked == loaded
