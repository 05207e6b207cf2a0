"""POST /model/reload: what the volume names is taken at once, or the answer says why not."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from shared.bundle import publish
from tests.service import pictures
from tests.service.conftest import metric_value, serving
from tests.service.test_model_source import renamed
from tests.service.test_routes import error_of, send


@pytest.fixture
def volume(tiny_bundle: Path, tmp_path: Path) -> Path:
    publish(renamed(tiny_bundle, tmp_path / "one", "v1"), tmp_path / "volume")
    return tmp_path / "volume"


def reloads(client: TestClient, outcome: str) -> float:
    return metric_value(client.get("/metrics").text, f'caption_model_reloads_total{{outcome="{outcome}"}}')


def test_a_new_model_is_taken_at_once_and_named_in_every_answer(
    tiny_bundle: Path, volume: Path, tmp_path: Path
) -> None:
    with serving(model=volume, reload_poll_s=1000) as client:
        nothing = client.post("/model/reload").json()
        assert (nothing["outcome"], nothing["model"]["version"], nothing["complaint"]) == ("unchanged", "v1", None)
        assert send(client, pictures.jpeg()).headers["x-model-version"] == "v1"
        publish(renamed(tiny_bundle, tmp_path / "two", "v2"), volume)
        taken = client.post("/model/reload")
        assert taken.status_code == 200
        assert (taken.json()["outcome"], taken.json()["model"]["version"]) == ("success", "v2")
        answer = send(client, pictures.jpeg())
        assert answer.headers["x-model-version"] == answer.json()["model"]["version"] == "v2"
        assert client.get("/model").json()["last_failed_reload"] is None
        assert reloads(client, "success") == 1


def test_a_broken_model_is_complained_of_until_it_is_mended(tiny_bundle: Path, volume: Path, tmp_path: Path) -> None:
    with serving(model=volume, reload_poll_s=1000) as client:
        publish(renamed(tiny_bundle, tmp_path / "two", "v2"), volume)
        golden = volume / "v2" / "golden.png"
        whole = golden.read_bytes()
        golden.write_bytes(b"broken")
        for count in (1, 2):
            failed = client.post("/model/reload").json()
            assert (failed["outcome"], failed["model"]["version"]) == ("failure", "v1")
            assert "golden.png" in failed["complaint"]
            assert client.get("/model").json()["last_failed_reload"]["complaint"] == failed["complaint"]
            assert reloads(client, "failure") == count
        assert send(client, pictures.jpeg()).json()["model"]["version"] == "v1"
        golden.write_bytes(whole)
        assert client.post("/model/reload").json()["outcome"] == "success"
        model = client.get("/model").json()
        assert (model["version"], model["last_failed_reload"]) == ("v2", None)


def test_reloads_at_one_time_load_once(tiny_bundle: Path, volume: Path, tmp_path: Path) -> None:
    with serving(model=volume, reload_poll_s=1000) as client:
        publish(renamed(tiny_bundle, tmp_path / "two", "v2"), volume)
        with ThreadPoolExecutor(6) as threads:
            answers = list(threads.map(lambda _: client.post("/model/reload").json(), range(6)))
        assert sorted(answer["outcome"] for answer in answers) == ["success"] + ["unchanged"] * 5
        assert {answer["model"]["version"] for answer in answers} == {"v2"}
        assert reloads(client, "success") == 1


def test_what_is_no_volume_has_nothing_to_reload(client: TestClient) -> None:
    assert error_of(client.post("/model/reload")) == (409, "not_a_volume")
