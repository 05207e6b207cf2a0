"""What Prometheus sees."""

import random
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as parse_text
from starlette.testclient import TestClient
from starlette.types import Message

from service.app import create_app
from service.settings import Settings
from tests.service import pictures
from tests.service.conftest import PROJECT, metric_value, serving
from tests.service.engines import TroubledEngine, caption_behind_one

NOT_THERE = 'caption_requests_total{code="404",method="GET",route="none"}'
STAGES = ("read", "decode", "queue", "encode", "beam_search", "reply")
JPEG = {"content-type": "image/jpeg"}
Metric = Callable[[str], float]


def test_every_series_is_there_before_the_first_picture(tiny_bundle: Path) -> None:
    with serving(model=tiny_bundle, max_queue_size=7) as client:
        text = client.get("/metrics").text
    for code in (200, 400, 408, 413, 415, 422, 499, 500, 503, 504):
        series = f'caption_requests_total{{code="{code}",method="POST",route="/caption"}}'
        assert metric_value(text, series) == 0
    for stage in STAGES:
        assert metric_value(text, f'caption_stage_duration_seconds_count{{stage="{stage}"}}') == 0
    for reason in ("queue_full", "draining", "deadline_exceeded", "too_large", "undecodable_image"):
        assert metric_value(text, f'caption_rejected_total{{reason="{reason}"}}') == 0
    for stage in ("upload", "decode", "queue", "engine"):
        assert metric_value(text, f'caption_cancelled_total{{stage="{stage}"}}') == 0
    for outcome in ("success", "failure"):
        assert metric_value(text, f'caption_model_reloads_total{{outcome="{outcome}"}}') == 0
    assert metric_value(text, "caption_queue_depth") == 0
    assert metric_value(text, "caption_queue_capacity") == 7
    assert metric_value(text, "caption_batch_size_count") == 0
    assert "_created" not in text


def test_every_metric_that_the_readme_lists_is_there_at_the_start(tiny_bundle: Path) -> None:
    table = (PROJECT / "service" / "README.md").read_text().partition("## Metrics")[2].partition("## ")[0]
    listed = re.findall(r"^\| (.*?) \|", table, flags=re.MULTILINE)
    names = [name for cell in listed for name in re.findall(r"`((?:caption|process|python)_(?!gpu)\w+)", cell)]
    assert len(names) > 20
    with serving(model=tiny_bundle) as client:
        text = client.get("/metrics").text
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, flags=re.MULTILINE))
    assert [name for name in names if not any(known.startswith(name) for known in kinds)] == []
    ours = {name.removesuffix("_info") for name in kinds if name.startswith("caption_")}
    assert {name for name in ours if not any(name in listed for listed in names)} == set(), "the README lists all"


@pytest.mark.anyio
async def test_ten_thousand_random_urls_and_methods_add_no_series(tiny_bundle: Path) -> None:
    app = create_app(Settings(model=tiny_bundle))
    dice = random.Random(1)

    def some(characters: str, length: int) -> str:
        return "".join(dice.choices(characters, k=length))

    async def answer_random() -> None:
        native = ["/caption", "/captions", "/livez", "/model", "/model/reload", "/docs", "/openapi.json"]
        others = ["/v2", "/v2/models/x/infer", "/v2/models/caption/versions/x", "/model/metadata", "/swagger.json"]
        real = dice.choice([*native, *others])
        path = dice.choice(["/", real, real + "/"]) + some("abc/%.\u00e9\0", dice.randrange(12))
        path, method = dice.choice([(path, "GET"), (path, some("ABCDE", 5)), (real, some("PQ", 6)), (path, "DELETE")])
        messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
        scope = {"type": "http", "method": method, "path": path, "query_string": some("ab=&", 9).encode()}

        async def receive() -> Message:
            return messages.pop()

        async def send(message: Message) -> None:
            pass

        await app({**scope, "headers": [], "http_version": "1.1"}, receive, send)

    def series() -> set[str]:
        exposition = generate_latest(app.state.metrics.registry).decode()
        return {line.rpartition(" ")[0] for line in exposition.splitlines() if not line.startswith("#")}

    async with app.router.lifespan_context(app):
        before = series()
        for _ in range(10_000):
            await answer_random()
        assert series() == before
    assert metric_value(generate_latest(app.state.metrics.registry).decode(), NOT_THERE) > 1000


def test_a_caption_moves_request_stage_and_batch_series(client: TestClient, metric: Metric) -> None:
    watched = [
        'caption_requests_total{code="200",method="POST",route="/caption"}',
        'caption_request_duration_seconds_count{route="/caption"}',
        "caption_batch_size_sum",
        "caption_image_pixels_count",
        "caption_length_words_count",
        "caption_negative_log_probability_count",
        "caption_request_size_bytes_count",
        *(f'caption_stage_duration_seconds_count{{stage="{stage}"}}' for stage in STAGES),
    ]
    before = [metric(series) for series in watched]
    assert client.post("/caption", content=pictures.jpeg(), headers=JPEG).status_code == 200
    assert [metric(series) for series in watched] == [value + 1 for value in before]


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        (b"text", 415, "unsupported_image"),
        (pictures.truncated_jpeg(), 422, "undecodable_image"),
        (b"", 400, "no_image"),
    ],
)
def test_a_refusal_is_counted_by_code_and_by_reason(
    client: TestClient, metric: Metric, body: bytes, code: int, reason: str
) -> None:
    watched = [
        f'caption_requests_total{{code="{code}",method="POST",route="/caption"}}',
        f'caption_rejected_total{{reason="{reason}"}}',
    ]
    before = [metric(series) for series in watched]
    assert client.post("/caption", content=body, headers=JPEG).status_code == code
    assert [metric(series) for series in watched] == [value + 1 for value in before]


def test_strange_paths_and_methods_add_no_series_of_their_own(client: TestClient) -> None:
    for i in range(20):
        assert client.get(f"/random/{i}").status_code == 404
        client.request(f"VERB{i}", "/caption")
    text = client.get("/metrics").text
    assert "random" not in text
    assert "VERB" not in text
    assert metric_value(text, 'caption_requests_total{code="404",method="GET",route="none"}') >= 20
    assert metric_value(text, 'caption_requests_total{code="405",method="other",route="/caption"}') >= 20


def test_edges_lie_on_the_objectives(client: TestClient) -> None:
    text = client.get("/metrics").text
    for edge in ("0.15", "0.2", "0.3", "1.5"):
        assert f'caption_request_duration_seconds_bucket{{le="{edge}",route="/caption"}}' in text


def test_the_model_and_the_build_are_named(client: TestClient) -> None:
    text = client.get("/metrics").text
    model = client.get("/model").json()
    info = re.search(r"caption_model_info\{(.*)\} 1.0", text)
    assert info
    for label in ("name", "version", "engine", "precision", "device", "source"):
        assert f'{label}="' in info[1]
    assert f'version="{model["version"]}"' in info[1]
    assert re.search(r'caption_build_info\{.*python="3.*version="', text)


def test_the_exposition_is_text_or_openmetrics_as_the_reader_likes(client: TestClient) -> None:
    plain = client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    assert "caption_requests" in {family.name for family in parse_text(plain.text)}
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    openmetrics = client.get("/metrics", headers=accept)
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    families = text_string_to_metric_families(openmetrics.text)  # type: ignore[no-untyped-call]
    names = {family.name for family in families}
    assert {"caption_requests", "caption_stage_duration_seconds", "caption_queue_depth"} <= names


def test_two_apps_in_one_process_count_for_themselves(client: TestClient, tiny_bundle: Path) -> None:
    client.post("/caption", content=pictures.jpeg(), headers=JPEG)
    with serving(model=tiny_bundle) as other:
        assert metric_value(other.get("/metrics").text, "caption_batch_size_count") == 0


def test_words_log_probability_pixels_and_bytes_are_those_of_the_picture(client: TestClient, metric: Metric) -> None:
    sums = (
        "caption_length_words_sum",
        "caption_negative_log_probability_sum",
        "caption_image_pixels_sum",
        "caption_request_size_bytes_sum",
    )
    before = [metric(series) for series in sums]
    photo = pictures.encoded(pictures.scene().resize((40, 30)), "PNG")
    said = client.post("/caption", content=photo, headers={"content-type": "image/png"}).json()
    moved = [metric(series) - value for series, value in zip(sums, before, strict=True)]
    assert moved == pytest.approx([len(said["caption"].split()), -said["log_probability"], 1200, len(photo)])


def test_a_reload_that_fails_and_the_one_that_mends_it_are_told(tiny_bundle: Path, tmp_path: Path) -> None:
    for version in ("good", "bad"):
        shutil.copytree(tiny_bundle, tmp_path / version)
    (tmp_path / "bad" / "decoder.bin").write_bytes(b"")
    (tmp_path / "current").write_text("good")
    with serving(model=tmp_path, reload_poll_s=1000) as client:

        def told(series: str) -> float:
            return metric_value(client.get("/metrics").text, f"caption_model_last_reload_{series}")

        loaded_at = told("success_timestamp_seconds")
        assert time.time() - 60 < loaded_at <= time.time()
        assert told("successful") == 1
        (tmp_path / "current").write_text("bad")
        assert client.post("/model/reload").json()["outcome"] == "failure"
        assert told("successful") == 0
        assert told("success_timestamp_seconds") == loaded_at
        (tmp_path / "current").write_text("good")
        assert client.post("/model/reload").json()["outcome"] == "success"
        assert told("successful") == 1
        assert told("success_timestamp_seconds") > loaded_at


def test_workers_are_told_alive_and_for_how_long_they_worked(tiny_bundle: Path) -> None:
    with serving(model=tiny_bundle, workers=2) as client:
        client.post("/caption", content=pictures.jpeg(), headers=JPEG)
        text = client.get("/metrics").text
    assert [metric_value(text, f'caption_worker_alive{{worker="{i}"}}') for i in range(2)] == [1, 1]
    busy = [metric_value(text, f'caption_worker_busy_seconds_total{{worker="{i}"}}') for i in range(2)]
    assert sorted(seconds > 0 for seconds in busy) == [False, True]


def test_a_batch_that_is_split_is_counted_and_its_captions_once(tiny_bundle: Path, engine: TroubledEngine) -> None:
    def refuse_many(images: NDArray[np.uint8]) -> None:
        if len(images) > 1:
            raise ValueError("too many")

    engine.trouble = refuse_many
    with serving(model=tiny_bundle) as client:
        caption_behind_one(client, engine, 4)
        text = client.get("/metrics").text
    assert metric_value(text, "caption_batch_splits_total") == 3, "4 in halves, and each half in halves"
    assert metric_value(text, "caption_length_words_count") == 5


def test_requests_in_flight_are_those_without_an_answer(tiny_bundle: Path, engine: TroubledEngine) -> None:
    with serving(model=tiny_bundle) as client, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(client.post, "/caption", content=pictures.jpeg(), headers=JPEG)
        assert engine.entered.acquire(timeout=20)
        assert metric_value(client.get("/metrics").text, "caption_requests_in_flight") == 2, "this one and that one"
        engine.gate.set()
        assert asked.result().status_code == 200
        assert metric_value(client.get("/metrics").text, "caption_requests_in_flight") == 1
