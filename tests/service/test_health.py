"""The probes and the neighbours while an engine hangs, dies, or chokes on one picture."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from tests.service import pictures
from tests.service.conftest import metric_value, serving
from tests.service.engines import TroubledEngine


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as threads:
        yield threads


def send(client: TestClient, picture: bytes) -> httpx2.Response:
    return client.post("/caption", content=picture, headers={"content-type": "image/png"})


def sent(threads: ThreadPoolExecutor, client: TestClient, picture: bytes) -> Future[httpx2.Response]:
    return threads.submit(send, client, picture)


def wait_until_waiting(client: TestClient, count: int) -> None:
    while metric_value(client.get("/metrics").text, "caption_queue_depth") < count:
        pass


def test_busy_is_alive_and_stuck_is_not(tiny_bundle: Path, engine: TroubledEngine, threads: ThreadPoolExecutor) -> None:
    with serving(model=tiny_bundle, stuck_after_s=0.3) as client:
        waiting = sent(threads, client, pictures.jpeg())
        assert engine.entered.acquire(timeout=10)
        assert client.get("/livez").status_code == 200
        while client.get("/livez").status_code == 200:
            pass
        assert "more than 0.3 s" in client.get("/livez").json()["error"]["message"]
        assert client.get("/readyz").status_code == 503
        engine.gate.set()
        assert waiting.result(20).status_code == 200
        assert client.get("/livez").status_code == 200


def test_a_dead_worker_turns_the_probes_red_and_keeps_nobody_waiting(
    tiny_bundle: Path, engine: TroubledEngine, threads: ThreadPoolExecutor
) -> None:
    def die(images: NDArray[np.uint8]) -> None:
        raise SystemExit

    engine.trouble = die
    with serving(model=tiny_bundle) as client:
        running = sent(threads, client, pictures.jpeg())
        assert engine.entered.acquire(timeout=10)
        queued = sent(threads, client, pictures.jpeg(1))
        wait_until_waiting(client, 1)
        engine.gate.set()
        for answer in (running.result(20), queued.result(20), send(client, pictures.jpeg())):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "worker_dead")
        assert [client.get(path).status_code for path in ("/livez", "/readyz", "/startupz")] == [503, 503, 200]


def test_a_picture_that_the_engine_cannot_stand_fails_alone(
    tiny_bundle: Path, engine: TroubledEngine, threads: ThreadPoolExecutor
) -> None:
    def choke_on_white(images: NDArray[np.uint8]) -> None:
        if any(image.min() == 255 for image in images):
            raise RuntimeError("white")

    engine.trouble = choke_on_white
    poison = pictures.encoded(Image.new("RGB", (50, 50), "white"), "PNG")
    with serving(model=tiny_bundle, max_batch_size=32) as client:
        first = sent(threads, client, pictures.jpeg(99))
        assert engine.entered.acquire(timeout=10)
        others = [sent(threads, client, poison if i == 9 else pictures.jpeg(i)) for i in range(32)]
        wait_until_waiting(client, 32)
        engine.gate.set()
        codes = [answer.result(20).status_code for answer in (first, *others)]
        assert metric_value(client.get("/metrics").text, 'caption_batch_size_bucket{le="24.0"}') == 1
    assert codes.count(200) == 32
    assert codes[10] == 500


def test_the_deadline_is_kept_while_the_engine_hangs(
    tiny_bundle: Path, engine: TroubledEngine, threads: ThreadPoolExecutor
) -> None:
    with serving(model=tiny_bundle, timeout_s=0.2) as client:
        answer = send(client, pictures.jpeg())
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
        assert answer.elapsed.total_seconds() < 0.35
        engine.gate.set()


@pytest.mark.parametrize("asked_ms", [100, 60_000])
def test_a_client_may_ask_for_less_time_but_not_for_more(
    tiny_bundle: Path, engine: TroubledEngine, asked_ms: int
) -> None:
    with serving(model=tiny_bundle, timeout_s=0.4) as client:
        headers = {"content-type": "image/png", "x-request-timeout-ms": str(asked_ms)}
        answer = client.post("/caption", content=pictures.jpeg(), headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
        asked_s = min(asked_ms / 1000, 0.4)
        assert f"{asked_s:g} s" in answer.json()["error"]["message"]
        assert asked_s <= answer.elapsed.total_seconds() < asked_s + 0.25
        engine.gate.set()


def test_a_full_queue_answers_at_once_while_the_engine_hangs(
    tiny_bundle: Path, engine: TroubledEngine, threads: ThreadPoolExecutor
) -> None:
    with serving(model=tiny_bundle, max_queue_size=3, max_bytes=50_000) as client:
        answers = [sent(threads, client, pictures.jpeg(99))]
        assert engine.entered.acquire(timeout=10)
        answers += [sent(threads, client, pictures.jpeg(i)) for i in range(3)]
        wait_until_waiting(client, 3)
        refused = send(client, pictures.jpeg(98))
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "queue_full")
        assert refused.elapsed.total_seconds() < 0.1
        assert send(client, bytes(60_000)).status_code == 503, "a full queue must refuse before it looks at the body"
        engine.gate.set()
        assert [answer.result(20).status_code for answer in answers] == [200] * 4


def test_a_hanging_engine_does_not_outlast_the_drain(
    tiny_bundle: Path, engine: TroubledEngine, threads: ThreadPoolExecutor
) -> None:
    with serving(model=tiny_bundle) as client:
        running = sent(threads, client, pictures.jpeg())
        assert engine.entered.acquire(timeout=10)
        queued = sent(threads, client, pictures.jpeg(1))
        wait_until_waiting(client, 1)
        assert client.portal is not None
        began = time.monotonic()
        client.portal.call(client.app.state.pipeline.drain, 0.2)  # type: ignore[attr-defined]
        assert 0.2 < time.monotonic() - began < 3
        assert [answer.result(20).status_code for answer in (running, queued)] == [503, 503]
        engine.gate.set()
