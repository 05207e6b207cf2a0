"""Pictures that are refused before FastAPI has resolved their request."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.service import pictures
from tests.service.conftest import metric_value, serving

ONE_PICTURE = ("/caption", "/caption/explain", "/model/predict")
JPEG = {"content-type": "image/jpeg"}
SITE = "https://a.example"


@pytest.fixture(scope="module")
def full(tiny_bundle: Path) -> Iterator[TestClient]:
    """A service whose queue has no room for the pixels of one picture."""
    with serving(model=tiny_bundle, max_queue_bytes=1, cors_origins=[SITE]) as client:
        yield client


@pytest.mark.parametrize("path", ONE_PICTURE)
def test_a_full_service_refuses_before_it_looks_at_a_request(full: TestClient, client: TestClient, path: str) -> None:
    def ask(service: TestClient) -> int:
        return service.post(f"{path}?beam_size=many", content=b"no picture", headers=JPEG).status_code

    assert ask(full) == 503
    assert ask(client) == 400


@pytest.mark.parametrize("path", ONE_PICTURE)
def test_an_early_refusal_is_counted_and_headed_as_any_other(full: TestClient, path: str) -> None:
    series = f'caption_requests_total{{code="503",method="POST",route="{path}"}}'
    before = metric_value(full.get("/metrics").text, series)
    headers = JPEG | {"x-request-id": "mine", "origin": SITE}
    refused = full.post(path, content=pictures.jpeg(), headers=headers)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["x-request-id"] == "mine"
    assert refused.headers["x-content-type-options"] == "nosniff"
    assert refused.headers["access-control-allow-origin"] == SITE
    assert "server-timing" in refused.headers
    assert metric_value(full.get("/metrics").text, series) == before + 1


def test_each_api_tells_of_it_in_its_own_words(full: TestClient) -> None:
    native, ibm = (full.post(path, content=pictures.jpeg(), headers=JPEG).json() for path in ONE_PICTURE[::2])
    assert native["error"]["code"] == "queue_full"
    assert set(ibm) == {"message"}


def test_what_takes_no_picture_is_answered_by_a_full_service(full: TestClient) -> None:
    assert full.get("/model").status_code == 200
    assert full.get("/caption").status_code == 405
    assert full.post("/caption/").status_code == 404
