"""The same picture more than once, over HTTP: while it is under way, and from the cache."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from shared.image import read_pixels
from tests.service import pictures
from tests.service.conftest import metric_value, running, serving
from tests.service.engines import TroubledEngine
from tests.service.test_http import answer, connected, eventually, metric, request_head

JPEG = {"content-type": "image/jpeg"}


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as threads:
        yield threads


def send(client: TestClient, picture: bytes, query: str = "") -> httpx2.Response:
    return client.post(f"/caption{query}", content=picture, headers=JPEG)


def outcomes(client: TestClient) -> dict[str, float]:
    text = client.get("/metrics").text
    return {
        name: metric_value(text, f'caption_cache_total{{outcome="{name}"}}') for name in ("hit", "miss", "coalesced")
    }


def without_timing(response: httpx2.Response) -> dict[str, Any]:
    body = response.json()
    del body["timing"]
    return body


def arrive(client: TestClient, count: int) -> None:
    """Wait until so many requests are inside, and what they do has come to rest behind the gate."""
    pipeline = client.app.state.pipeline  # type: ignore[attr-defined]
    assert eventually(lambda: pipeline.in_flight == count and not pipeline.waiting)


def test_identical_uploads_at_one_time_are_captioned_once(
    tiny_bundle: Path, engine: TroubledEngine, threads: ThreadPoolExecutor
) -> None:
    with serving(model=tiny_bundle) as client:
        same = [threads.submit(send, client, pictures.jpeg(), "?explain=true") for _ in range(5)]
        arrive(client, 5)
        engine.gate.set()
        answers = [future.result(20) for future in same]
        assert [answer.status_code for answer in answers] == [200] * 5
        assert all(without_timing(answer) == without_timing(answers[0]) for answer in answers)
        assert sorted(answer.json()["timing"].get("cache", "") for answer in answers) == ["", *["coalesced"] * 4]
        assert outcomes(client) == {"hit": 0, "miss": 1, "coalesced": 4}
        text = client.get("/metrics").text
        assert metric_value(text, "caption_batch_size_sum") == 1
        assert metric_value(text, 'caption_stage_duration_seconds_count{stage="decode"}') == 1


@pytest.mark.parametrize("query", ["?beam_size=1", "?max_length=3", "?n=2"])
def test_other_options_are_another_caption(
    tiny_bundle: Path, engine: TroubledEngine, threads: ThreadPoolExecutor, query: str
) -> None:
    with serving(model=tiny_bundle, cache_size=10) as client:
        first = threads.submit(send, client, pictures.jpeg())
        assert engine.entered.acquire(timeout=10)
        other = threads.submit(send, client, pictures.jpeg(), query)
        assert eventually(lambda: client.app.state.pipeline.waiting == 1)  # type: ignore[attr-defined]
        engine.gate.set()
        assert [first.result(20).status_code, other.result(20).status_code] == [200, 200]
        assert outcomes(client) == {"hit": 0, "miss": 2, "coalesced": 0}


def test_a_failure_goes_to_all_that_wait_for_it(
    tiny_bundle: Path, engine: TroubledEngine, threads: ThreadPoolExecutor
) -> None:
    def choke(images: object) -> None:
        raise RuntimeError("no")

    engine.trouble = choke
    with serving(model=tiny_bundle, cache_size=10) as client:
        same: list[Future[httpx2.Response]] = [threads.submit(send, client, pictures.jpeg()) for _ in range(3)]
        arrive(client, 3)
        engine.gate.set()
        assert [future.result(20).status_code for future in same] == [500] * 3
        engine.trouble = lambda images: None
        assert send(client, pictures.jpeg()).json()["timing"].get("cache") is None, "a failure must not be kept"


def test_who_leaves_or_runs_out_of_time_takes_nothing_from_who_waits_for_the_same(tiny_bundle: Path) -> None:
    photo = pictures.forty_megapixels()
    with running(model=tiny_bundle, decode_threads=1) as program, connected(program) as stays:
        with connected(program) as leaves:
            leaves.sendall(request_head(len(photo)) + photo)
            stays.sendall(request_head(len(photo)) + photo)
        assert answer(stays)[0] == 200
        assert eventually(
            lambda: metric(program, 'caption_requests_total{code="499",method="POST",route="/caption"}') == 1
        )
        assert metric(program, "caption_batch_size_sum") == 1


def test_work_for_clients_that_have_all_left_is_dropped(
    tiny_bundle: Path, engine: TroubledEngine, threads: ThreadPoolExecutor
) -> None:
    with serving(model=tiny_bundle, timeout_s=2) as client:
        first = threads.submit(send, client, pictures.jpeg(1))
        assert engine.entered.acquire(timeout=10)
        same = [threads.submit(send, client, pictures.jpeg()) for _ in range(3)]
        assert [future.result(20).status_code for future in (first, *same)] == [504] * 4
        engine.gate.set()
        assert send(client, pictures.jpeg(2)).status_code == 200
        text = client.get("/metrics").text
        assert metric_value(text, "caption_batch_size_sum") == 2
        assert metric_value(text, 'caption_rejected_total{reason="deadline_exceeded"}') == 4
        assert metric_value(text, 'caption_cancelled_total{stage="queue"}') == 0


def test_a_picture_that_comes_again_is_answered_from_the_cache(tiny_bundle: Path) -> None:
    with serving(model=tiny_bundle, cache_size=2) as client:
        first, again = (send(client, pictures.jpeg(), "?explain=true") for _ in range(2))
        assert without_timing(again) == without_timing(first)
        timing = again.json()["timing"]
        assert timing.pop("cache") == "hit"
        assert timing.pop("total_ms") > 0
        assert set(timing.values()) == {0}
        assert "cache" not in first.json()["timing"]
        form = client.post("/caption?explain=true", files={"file": ("a.jpg", pictures.jpeg(), "image/jpeg")})
        assert form.json()["timing"]["cache"] == "hit", "it is the picture's bytes that count"
        for seed in (1, 2):
            send(client, pictures.jpeg(seed))
        assert "cache" not in send(client, pictures.jpeg(), "?explain=true").json()["timing"]
        assert outcomes(client) == {"hit": 2, "miss": 4, "coalesced": 0}


def test_without_the_setting_nothing_is_kept(client: TestClient) -> None:
    for _ in range(2):
        assert "cache" not in send(client, pictures.jpeg()).json()["timing"]


def test_a_new_model_does_not_answer_from_the_old_ones_cache(tiny_bundle: Path) -> None:
    with serving(model=tiny_bundle, cache_size=10) as client:
        send(client, pictures.jpeg())
        models = client.app.state.pipeline.models  # type: ignore[attr-defined]
        models.load()
        assert "cache" not in send(client, pictures.jpeg()).json()["timing"]
        assert send(client, pictures.jpeg()).json()["timing"]["cache"] == "hit"


def test_a_decode_that_takes_too_long_is_a_422_and_counted(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(
        "service.pipeline.read_pixels", lambda *given, **named: gate.wait(20) and read_pixels(*given, **named)
    )
    with serving(model=tiny_bundle, decode_timeout_s=0.01, decode_threads=1) as client:
        response = send(client, pictures.jpeg())
        assert (response.status_code, response.json()["error"]["code"]) == (422, "decode_timeout")
        text = client.get("/metrics").text
        assert metric_value(text, "caption_decode_threads_stuck") == 1
        assert metric_value(text, 'caption_rejected_total{reason="decode_timeout"}') == 1
        gate.set()
        assert eventually(lambda: metric_value(client.get("/metrics").text, "caption_decode_threads_stuck") == 0)


def test_a_pool_without_a_thread_left_turns_the_probes_red(tiny_bundle: Path) -> None:
    with serving(model=tiny_bundle) as client:
        assert client.get("/livez").status_code == 200
        client.app.state.pipeline.decode_pool.stuck = 100  # type: ignore[attr-defined]
        assert "decode threads are stuck" in client.get("/livez").json()["error"]["message"]
