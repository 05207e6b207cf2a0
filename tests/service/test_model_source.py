"""Which bundle answers, at start and after a new one is published."""

import asyncio
import json
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.model_source import LoadedModel, ModelSource
from service.settings import Settings
from shared.bundle import CURRENT, MANIFEST, Bundle, BundleError, publish
from shared.captioner import Captioner, Captioners, load_captioners
from shared.engine_loading import load_engine
from tests.service import pictures
from tests.service.conftest import metric_value, serving
from tests.service.engines import TroubledEngine

load = partial(load_captioners, engine=Settings().engine)


@pytest.fixture(autouse=True)
def _embedded(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.model_source.EMBEDDED", tiny_bundle)


def renamed(bundle: Path, folder: Path, version: str) -> Bundle:
    """The same model under another version."""
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "version": version}))
    return Bundle.load(folder)


def test_without_a_setting_the_embedded_default_answers_and_says_so() -> None:
    source = ModelSource(None, load)
    source.load()
    assert source.current.source == "embedded"
    assert "CAPTION_MODEL" in (source.current.note or "")
    assert not source.is_volume


def test_a_bundle_is_served_as_it_is(tiny_bundle: Path) -> None:
    source = ModelSource(tiny_bundle, load)
    source.load()
    assert (source.current.source, source.current.note, source.is_volume) == ("bundle", None, False)


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="absent"):
        ModelSource(tmp_path / "absent", load).load()


def test_a_pointer_to_nothing_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / CURRENT).write_text("gone\n")
    with pytest.raises(BundleError, match="gone"):
        ModelSource(tmp_path, load).load()


def test_an_empty_volume_serves_the_default_until_something_is_published(tiny_bundle: Path, tmp_path: Path) -> None:
    outcomes: list[str] = []
    source = ModelSource(tmp_path / "volume", load, on_reload=outcomes.append)
    (tmp_path / "volume").mkdir()
    source.load()
    assert source.current.path == tiny_bundle
    source.refresh()
    assert outcomes == []
    publish(renamed(tiny_bundle, tmp_path / "new", "v2"), tmp_path / "volume")
    source.refresh()
    source.refresh()
    assert outcomes == ["success"]
    assert source.current.source == "volume"
    assert source.current.captioner.bundle.version == "v2"


def test_a_broken_publication_changes_nothing_and_is_tried_once(tiny_bundle: Path, tmp_path: Path) -> None:
    outcomes: list[str] = []
    volume = tmp_path / "volume"
    publish(renamed(tiny_bundle, tmp_path / "one", "v1"), volume)
    source = ModelSource(volume, load, on_reload=outcomes.append)
    source.load()
    publish(renamed(tiny_bundle, tmp_path / "two", "v2"), volume)
    (volume / "v2" / "golden.png").write_bytes(b"broken")
    source.refresh()
    source.refresh()
    assert outcomes == ["failure"]
    assert source.current.captioner.bundle.version == "v1"
    publish(renamed(tiny_bundle, tmp_path / "three", "v3"), volume)
    source.refresh()
    assert outcomes == ["failure", "success"]
    assert source.current.captioner.bundle.version == "v3"


def test_a_running_app_takes_what_is_published_without_losing_a_request(tiny_bundle: Path, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    with serving(model=volume, reload_poll_s=0.05) as client:
        assert client.get("/model").json()["source"] == "embedded"
        publish(renamed(tiny_bundle, tmp_path / "new", "v2"), volume)
        versions = _caption_until(client, "v2")
        text = client.get("/metrics").text
        assert client.get("/model").json()["source"] == "volume"
    assert versions[-1] == "v2"
    assert len(set(versions)) <= 2
    assert metric_value(text, 'caption_model_reloads_total{outcome="success"}') == 1
    assert text.count("caption_model_info{") == 1
    assert 'version="v2"' in text


def _caption_until(client: TestClient, version: str) -> list[str]:
    versions: list[str] = []
    until = time.monotonic() + 60
    while version not in versions and time.monotonic() < until:
        response = client.post("/caption", content=pictures.jpeg(), headers={"content-type": "image/jpeg"})
        assert response.status_code == 200
        versions.append(response.json()["model"]["version"])
    return versions


def test_pictures_of_two_models_in_one_batch_go_to_their_own(tiny_bundle: Path, engine: TroubledEngine) -> None:
    with serving(model=tiny_bundle) as client:
        pipeline = client.app.state.pipeline  # type: ignore[attr-defined]
        old = pipeline.models.current
        other = TroubledEngine(load_engine(Settings().engine, old.captioner.bundle))
        other.gate.set()
        captioner = Captioner(old.captioner.bundle, other)
        new = replace(old, captioners=Captioners((captioner,), captioner))

        async def caption_with(model: LoadedModel, number: int = 0) -> str:
            options = old.captioner.bundle.decode
            photo = pictures.jpeg() + bytes([number])  # the same bytes would be captioned once
            return (await pipeline.caption(lambda: photo, len(photo), options, model)).caption.caption

        async def mixed() -> list[str]:
            first = asyncio.create_task(caption_with(old))
            assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
            rest = [
                asyncio.create_task(caption_with(model, i)) for i, model in enumerate((old, new, old, new), start=1)
            ]
            while pipeline.batcher.depth < 4:
                await asyncio.sleep(0.001)
            engine.gate.set()
            return await asyncio.gather(first, *rest)

        assert client.portal is not None
        captions = client.portal.call(mixed)
    assert len(set(captions)) == 1
    assert (engine.entered.acquire(timeout=0), engine.entered.acquire(timeout=0)) == (True, False)
    assert (other.entered.acquire(timeout=0), other.entered.acquire(timeout=0)) == (True, False)
