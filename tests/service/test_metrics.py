"""What Prometheus sees."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as parse_text
from starlette.testclient import TestClient

from tests.service import pictures
from tests.service.conftest import metric_value, serving

STAGES = ("decode", "queue", "encode", "beam_search")
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
    assert "process_resident_memory_bytes" in text
    assert "_created" not in text


def test_a_caption_moves_request_stage_and_batch_series(client: TestClient, metric: Metric) -> None:
    watched = [
        'caption_requests_total{code="200",method="POST",route="/caption"}',
        'caption_request_duration_seconds_count{route="/caption"}',
        "caption_batch_size_sum",
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
