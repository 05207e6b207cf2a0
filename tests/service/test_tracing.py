"""Spans of requests, stages and batches; over HTTP to a real receiver, or kept in memory where that says enough."""

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.tracing import Tracing
from tests.service import pictures
from tests.service.conftest import PROJECT, environment, metric_value, running, serving
from tests.service.engines import TroubledEngine, caption_behind_one
from tests.service.otlp import otlp_receiver

JPEG = {"content-type": "image/jpeg"}
STAGES = ["read", "decode", "queue", "encode", "beam_search", "reply"]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What an app that starts in this test has traced."""
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter), version="1")
    monkeypatch.setattr("service.tracing.exporting", lambda version: tracing)
    return exporter


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def test_a_program_sends_the_trace_of_a_request_in_the_trace_of_its_client(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with otlp_receiver() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.url)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
        with running(model=tiny_bundle, tracing="true") as program:
            with httpx2.Client(base_url=program.url, timeout=60) as client:
                headers = JPEG | {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "known-id"}
                answer = client.post("/caption?beam_size=2", content=pictures.jpeg(), headers=headers)
                exposition = client.get("/metrics", headers=OPENMETRICS).text
            program.process.terminate()
            assert program.ended() == 0
            logs = program.printed()
    [request] = received.named("POST /caption")
    told = {a.key: a.value.string_value or a.value.int_value for a in request.attributes}
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert told["http.route"] == "/caption"
    assert told["http.response.status_code"] == 200
    assert told["http.request.body.size"] == len(pictures.jpeg())
    assert told["http.response.body.size"] == len(answer.content)
    assert told["caption.request_id"] == "known-id"
    stages = [span for span in received.spans if span.parent_span_id == request.span_id and span.name != "batch"]
    stages.sort(key=lambda span: span.start_time_unix_nano)
    assert [span.name for span in stages] == STAGES
    assert {span.trace_id for span in stages} == {request.trace_id}
    for span in stages:
        assert request.start_time_unix_nano - 1_000_000 <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= request.end_time_unix_nano + 1_000_000
    assert abs(request.end_time_unix_nano / 1e9 - time.time()) < 60
    resource = {a.key: a.value.string_value for a in received.resources[0].resource.attributes}
    assert resource["service.name"] == "image-caption-service"
    assert resource["deployment.environment"] == "test"
    assert "beam_size" not in str(received.spans), "queries are nobody's business"
    assert f'# {{trace_id="{TRACE}"}}' in exposition
    assert "request_id=known-id method=POST route=/caption status=200" in logs
    assert f"trace_id={TRACE}" in logs


def test_a_batch_is_linked_to_its_requests_and_they_to_it(
    tiny_bundle: Path, engine: TroubledEngine, spans: InMemorySpanExporter
) -> None:
    with serving(model=tiny_bundle, tracing=True) as client:
        caption_behind_one(client, engine, 3)
    requests = {span.context.span_id: span for span in named(spans, "POST /caption") if span.context}
    alone, together = sorted(named(spans, "batch"), key=lambda span: span.start_time or 0)
    assert [dict(batch.attributes or {})["caption.batch.size"] for batch in (alone, together)] == [1, 3]
    for batch in (alone, together):
        assert batch.context
        assert batch.parent
        assert batch.parent.span_id == batch.links[0].context.span_id
        assert batch.context.trace_id == batch.links[0].context.trace_id
        below = [
            span for span in spans.get_finished_spans() if span.parent and span.parent.span_id == batch.context.span_id
        ]
        assert [span.name for span in below] == ["encode", "beam_search"]
        for link in batch.links:
            stages = [s for s in spans.get_finished_spans() if s.parent and s.parent.span_id == link.context.span_id]
            linked = {s.name: [each.context.span_id for each in s.links] for s in stages if s.name != "batch"}
            shared = ("encode", "beam_search")
            assert linked == {stage: [batch.context.span_id] if stage in shared else [] for stage in STAGES}
    assert {link.context.span_id for batch in (alone, together) for link in batch.links} == set(requests)


def test_all_who_wait_for_one_picture_are_linked_to_its_batch(
    tiny_bundle: Path, engine: TroubledEngine, spans: InMemorySpanExporter
) -> None:
    with serving(model=tiny_bundle, tracing=True) as client, ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(client.post, "/caption", content=pictures.jpeg(), headers=JPEG) for _ in range(2)]
        assert engine.entered.acquire(timeout=20)
        while metric_value(client.get("/metrics").text, "caption_requests_in_flight") < 3:
            time.sleep(0.01)
        time.sleep(0.2)
        engine.gate.set()
        assert {each.result().status_code for each in asked} == {200}
    [batch] = named(spans, "batch")
    assert batch.context
    assert len(batch.links) == 2
    encodes = [span for span in named(spans, "encode") if span.links]
    assert [span.links[0].context.span_id for span in encodes] == [batch.context.span_id] * 2


def test_an_error_of_the_service_is_one_of_its_span_and_a_refusal_is_not(
    tiny_bundle: Path, engine: TroubledEngine, spans: InMemorySpanExporter
) -> None:
    def fail(images: object) -> None:
        raise ValueError("broken")

    engine.trouble = fail
    engine.gate.set()
    with serving(model=tiny_bundle, tracing=True) as client:
        assert client.post("/caption", content=pictures.jpeg(), headers=JPEG).status_code == 500
        assert client.post("/caption", content=b"text", headers=JPEG).status_code == 415
    failed, refused = named(spans, "POST /caption")
    assert not failed.status.is_ok
    assert refused.status.is_unset
    assert named(spans, "batch") == []


@pytest.mark.parametrize("traceparent", ["nonsense", "00-0-0-01", "ff-" + "a" * 32 + "-" + "b" * 16 + "-01", "\u00e9"])
def test_a_broken_traceparent_begins_a_trace_of_its_own(
    tiny_bundle: Path, spans: InMemorySpanExporter, traceparent: str
) -> None:
    with serving(model=tiny_bundle, tracing=True) as client:
        assert client.get("/livez", headers={b"traceparent": traceparent.encode()}).status_code == 200
    [span] = named(spans, "GET /livez")
    assert span.parent is None


def test_what_the_client_does_not_keep_is_not_kept_here(tiny_bundle: Path, spans: InMemorySpanExporter) -> None:
    headers = JPEG | {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    with serving(model=tiny_bundle, tracing=True) as client:
        assert client.post("/caption", content=pictures.jpeg(), headers=headers).status_code == 200
        assert "trace_id" not in client.get("/metrics", headers=OPENMETRICS).text.replace("/metrics", "")
    assert [span for span in spans.get_finished_spans() if span.name != "GET /metrics"] == []


def test_without_a_receiver_the_service_answers_and_ends_in_time(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with running(model=tiny_bundle, tracing="true") as program:
        assert httpx2.post(f"{program.url}/caption", content=pictures.jpeg(), headers=JPEG).status_code == 200
        program.process.terminate()
        began = time.monotonic()
        assert program.ended() == 0
    assert time.monotonic() - began < 10


def test_nothing_of_the_extra_is_imported_unless_tracing_is_on() -> None:
    program = (
        "import sys; from service.app import create_app; from service.settings import Settings; create_app(Settings());"
        "print([name for name in sys.modules if re.match(r'opentelemetry\\.(sdk|exporter|proto)', name)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import re; {program}"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_tracing_without_its_extra_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['opentelemetry.sdk'] = None")
    done = subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=PROJECT,
        env={**environment(tracing="true", port=0), "PYTHONPATH": os.pathsep.join([str(tmp_path), str(PROJECT)])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "CAPTION_TRACING is on, but the extra 'otel' is not installed\n"
    assert not re.search("Traceback", done.stdout)
