"""What every answer carries, and the line that the log has of it."""

import json
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from service.logs import JsonLines, TextLines
from tests.service import pictures
from tests.service.conftest import PROJECT, running, serving
from tests.service.engines import TroubledEngine

JPEG = {"content-type": "image/jpeg"}
STAGES = ["read", "decode", "queue", "encode", "beam_search"]
ENDINGS = {"duration_ms", *(f"{stage}_ms" for stage in (*STAGES, "reply"))}


def durations(server_timing: str) -> dict[str, float]:
    assert re.fullmatch(r"(\w+;dur=\d+\.\d+, )*total;dur=\d+\.\d+", server_timing)
    return {name: float(value) for name, value in re.findall(r"(\w+);dur=([\d.]+)", server_timing)}


def test_a_caption_tells_its_stages_and_their_sum_is_no_more_than_the_total(client: TestClient) -> None:
    answer = client.post("/caption", content=pictures.jpeg(), headers=JPEG)
    told, timing = durations(answer.headers["server-timing"]), answer.json()["timing"]
    assert list(told) == [*STAGES, "total"]
    for stage in ("decode", "encode", "beam_search"):
        assert told[stage] == pytest.approx(timing[f"{stage}_ms"], abs=0.002)
    assert sum(told.values()) <= 2 * told["total"]
    assert told["total"] >= timing["total_ms"] - timing["queue_ms"]


@pytest.mark.parametrize(
    ("path", "body", "status", "stages"),
    [
        ("/caption", pictures.truncated_jpeg(), 422, ["read"]),
        ("/caption?n=9", pictures.jpeg(), 400, []),
        ("/nowhere", b"", 404, []),
        ("/livez", b"", 405, []),
    ],
)
def test_an_error_tells_what_has_ended_and_the_total(
    client: TestClient, path: str, body: bytes, status: int, stages: list[str]
) -> None:
    answer = client.post(path, content=body, headers=JPEG)
    assert answer.status_code == status
    assert list(durations(answer.headers["server-timing"])) == [*stages, "total"]
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_an_answer_that_fails_unforeseen_has_both_headers(tiny_bundle: Path, engine: TroubledEngine) -> None:
    with serving(model=tiny_bundle) as client:
        client.app.state.pipeline.models._current = None  # type: ignore[attr-defined]
        answer = client.post("/caption", content=pictures.jpeg(), headers=JPEG)
    assert answer.status_code == 500
    assert list(durations(answer.headers["server-timing"])) == ["total"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "given", ["a", "0af7651916cd43dd8448eb211c80319c", "Root=1-67891233:ab/c+d@e.f_g~h", "x" * 128]
)
def test_a_plain_id_of_the_client_is_kept(client: TestClient, given: str) -> None:
    for path in ("/livez", "/nowhere"):
        assert client.get(path, headers={"x-request-id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", "a\tb", "caf\u00e9", '"quoted"', "<b>", "{}", "a,b"])
def test_any_other_id_is_replaced_by_one_of_ours(client: TestClient, given: str) -> None:
    ids = [client.get("/livez", headers={b"x-request-id": given.encode()}).headers["x-request-id"] for _ in range(2)]
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in ids)
    assert ids[0] != ids[1]


def test_each_request_is_one_line_of_json(tiny_bundle: Path) -> None:
    photo = pictures.jpeg()
    with running(model=tiny_bundle, log_format="json") as program:
        with httpx2.Client(base_url=program.url, headers={"x-request-id": "known-id"}, timeout=60) as client:
            answer = client.post("/caption?beam_size=1", content=photo, headers=JPEG)
            refused = client.post("/caption", content=pictures.truncated_jpeg(), headers=JPEG)
            client.get("/livez")
            client.get("/somewhere/private?token=private", headers={"x-request-id": "pri vate"})
        program.process.terminate()
        assert program.ended() == 0
        lines = [json.loads(line) for line in program.printed().splitlines()]
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)
    captioned, undecodable, missing = (line for line in lines if line["logger"] == "service.requests")
    assert captioned["message"] == "answered"
    assert captioned["request_id"] == undecodable["request_id"] == "known-id"
    assert (captioned["status"], undecodable["status"], missing["status"]) == (200, 422, 404)
    assert (captioned["route"], captioned["method"], missing["route"]) == ("/caption", "POST", "none")
    assert captioned["request_bytes"] == len(photo)
    assert captioned["response_bytes"] == len(answer.content)
    assert undecodable["response_bytes"] == len(refused.content)
    assert {name for name in captioned if name.endswith("_ms")} == ENDINGS
    assert captioned["duration_ms"] >= captioned["encode_ms"] + captioned["beam_search_ms"]
    assert "private" not in str(lines)


def test_text_and_json_tell_the_same() -> None:
    record = logging.LogRecord("service", logging.INFO, "", 0, "GET %s", ("/model",), None)
    record.fields = {"request_id": "a", "status": 200}
    assert TextLines().format(record).endswith("INFO service: GET /model request_id=a status=200")
    told = json.loads(JsonLines().format(record))
    assert (told["level"], told["message"], told["request_id"], told["status"]) == ("info", "GET /model", "a", 200)


def test_an_exception_stays_in_its_line_of_json() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        record = logging.LogRecord("service", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    line = JsonLines().format(record)
    assert "\n" not in line
    assert json.loads(line)["exception"].endswith("ValueError: why")


def test_a_log_that_nobody_reads_holds_nobody_up_and_what_is_lost_is_counted() -> None:
    program = """
import logging, sys
from service.logs import UnhurriedStream, configure_logging
dropped = []
stream = UnhurriedStream(sys.stdout)
stream.on_drop = lambda: dropped.append(1)
configure_logging(stream, level="info", log_format="json")
for number in range(5000):
    logging.info("%d %s", number, "x" * 100)
sys.stderr.write(f"{len(dropped)}\\n")
sys.stderr.flush()
sys.stdin.read()
logging.info("read again")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stdout is not None
    dropped = int(process.stderr.readline())
    os.set_blocking(process.stdout.fileno(), False)
    time.sleep(0.1)
    read = process.stdout.read()
    os.set_blocking(process.stdout.fileno(), True)
    rest, _ = process.communicate("", timeout=20)
    lines = [json.loads(line)["message"] for line in (read + rest).splitlines()]
    assert dropped > 0
    assert len(lines) == 5000 - dropped + 1
    assert lines[-1] == "read again"
