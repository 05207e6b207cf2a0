"""A model that is no longer used leaves memory at once: no failed request may keep it until garbage is collected."""

import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from shared.bundle import publish
from shared.captioner import Captioner
from tests.service import pictures
from tests.service.conftest import serving
from tests.service.test_model_source import renamed
from tests.service.test_routes import send


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def captioned(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> int:
    return send(client, pictures.jpeg()).status_code


def broken(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> int:
    return send(client, pictures.truncated_jpeg()).status_code


def failing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> int:
    def fail(*arguments: object) -> None:
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(Captioner, "caption", fail)
        patch.setattr(logging.getLogger("service.batcher"), "disabled", True)  # pytest keeps what is logged
        return send(client, pictures.jpeg()).status_code


@pytest.mark.parametrize(("request_one", "status"), [(captioned, 200), (broken, 422), (failing, 500)])
def test_a_model_is_freed_as_it_is_replaced_whatever_became_of_the_requests(
    request_one: Callable[[TestClient, pytest.MonkeyPatch], int],
    status: int,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume = tmp_path / "volume"
    publish(renamed(tiny_bundle, tmp_path / "one", "v1"), volume)
    with serving(model=volume, reload_poll_s=1000) as client:
        retired = weakref.ref(client.app.state.pipeline.models.current)  # type: ignore[attr-defined]
        assert request_one(client, monkeypatch) == status
        publish(renamed(tiny_bundle, tmp_path / "two", "v2"), volume)
        assert client.post("/model/reload").json()["outcome"] == "success"
        assert send(client, pictures.jpeg(2)).json()["model"]["version"] == "v2"
        assert retired() is None
