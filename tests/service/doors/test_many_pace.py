"""How fast the pictures of one request are taken, what others notice of them, and clients in the middle of a form."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import httpx2
import pytest
from starlette.types import Message

from service.app import create_app
from service.settings import Settings
from tests.service import pictures
from tests.service.conftest import Program, running, serving
from tests.service.doors.test_many import BEGUN, END, FORM, NDJSON, files, lines_of, part
from tests.service.engines import TroubledEngine
from tests.service.test_http import eventually, metric


def test_a_full_queue_is_waited_for(tiny_bundle: Path, engine: TroubledEngine) -> None:
    with serving(model=tiny_bundle, max_queue_size=2, max_batch_size=1) as client, ThreadPoolExecutor(8) as threads:
        head = {"content-type": "image/jpeg"}
        singles = [threads.submit(client.post, "/caption", content=pictures.jpeg(9), headers=head)]
        assert engine.entered.acquire(timeout=20)
        singles += [threads.submit(client.post, "/caption", content=pictures.jpeg(n), headers=head) for n in (7, 8)]
        pipeline = client.app.state.pipeline  # type: ignore[attr-defined]
        assert eventually(lambda: pipeline.is_full)
        many = threads.submit(client.post, "/captions", files=files(*map(pictures.jpeg, range(6))))
        time.sleep(0.2)
        assert not many.done()
        engine.gate.set()
        assert [each.result().status_code for each in singles] == [200] * 3
        assert [each["status"] for each in many.result().json()["results"]] == [200] * 6


def test_a_queue_that_stays_full_is_a_504_of_the_request_or_of_its_pictures(
    tiny_bundle: Path, engine: TroubledEngine
) -> None:
    with serving(model=tiny_bundle, max_batch_size=1, timeout_s=0.5) as client, ThreadPoolExecutor(1) as threads:
        limit = {"x-request-timeout-ms": "100"}
        many = threads.submit(client.post, "/captions", files=files(*map(pictures.jpeg, range(3))), headers=limit)
        results = many.result().json()["results"]
        engine.gate.set()
    assert [each["error"]["code"] for each in results] == ["deadline_exceeded"] * 3


def test_many_pictures_leave_half_of_the_queue_to_others(tiny_bundle: Path, engine: TroubledEngine) -> None:
    with serving(model=tiny_bundle, max_queue_size=8, max_batch_size=16) as client, ThreadPoolExecutor(8) as threads:
        pipeline = client.app.state.pipeline  # type: ignore[attr-defined]
        asked = [
            threads.submit(client.post, "/captions", files=files(*map(pictures.jpeg, range(20 * n, 20 * n + 20))))
            for n in range(3)
        ]
        assert engine.entered.acquire(timeout=20)
        time.sleep(0.5)
        pending = pipeline.batcher.pending
        engine.gate.set()
        assert 0 < pending <= 4
        for each in asked:
            assert [result["status"] for result in each.result().json()["results"]] == [200] * 20


def test_each_worker_has_a_batch_of_a_request_and_one_more_is_decoded(tiny_bundle: Path) -> None:
    with serving(model=tiny_bundle, workers=3, max_batch_size=2) as client:
        assert client.app.state.pace.at_once == 4 * 2  # type: ignore[attr-defined]


class Upload:
    """A form whose parts are sent when the test wants it, over a connection of its own."""

    def __init__(self, program: Program, headers: dict[str, str]) -> None:
        self.connection = HTTPConnection("127.0.0.1", program.port, timeout=30)
        self.connection.putrequest("POST", "/captions")
        for name, value in {**FORM, "transfer-encoding": "chunked", **headers}.items():
            self.connection.putheader(name, value)
        self.connection.endheaders()

    def send(self, data: bytes) -> None:
        self.connection.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def end(self) -> None:
        self.connection.send(b"0\r\n\r\n")


def test_lines_come_while_the_form_is_still_being_sent(program: Program) -> None:
    upload = Upload(program, NDJSON)
    upload.send(part(pictures.jpeg(1)) + BEGUN)
    response = upload.connection.getresponse()
    assert json.loads(response.readline())["index"] == 0
    upload.send(part(b"text").removeprefix(BEGUN) + BEGUN)
    assert json.loads(response.readline())["error"]["code"] == "unsupported_image"
    upload.send(part(pictures.jpeg(2)).removeprefix(BEGUN) + END)
    upload.end()
    assert json.loads(response.readline())["index"] == 2
    assert response.read() == b""
    assert response.getheader("connection") != "close"
    upload.connection.request("GET", "/livez")
    assert upload.connection.getresponse().read()
    upload.connection.close()


def test_a_form_that_breaks_after_the_first_line_is_told_in_the_last(program: Program) -> None:
    upload = Upload(program, NDJSON)
    upload.send(part(pictures.jpeg(1)) + BEGUN)
    response = upload.connection.getresponse()
    assert json.loads(response.readline())["caption"]
    upload.send(b"no header")
    upload.end()
    assert json.loads(response.read())["error"]["code"] == "no_image"
    upload.connection.close()


def test_a_client_that_reads_only_at_the_end_gets_every_line(program: Program) -> None:
    upload = Upload(program, NDJSON)
    for _ in range(1000):
        upload.send(part(b"text", name="n" * 300))
    upload.send(END)
    upload.end()
    lines = upload.connection.getresponse().read().splitlines()
    assert sorted(json.loads(line)["index"] for line in lines) == list(range(1000))
    upload.connection.close()


def test_the_pictures_of_a_client_that_left_are_dropped(program: Program) -> None:
    before = metric(program, "caption_batch_size_sum")
    upload = Upload(program, {})
    photos = [part(pictures.encoded(pictures.scene(seed, (900, 700)))) for seed in range(400)]
    for each in photos:
        upload.send(each)
    upload.connection.close()
    assert eventually(lambda: metric(program, "caption_requests_in_flight") == 1)
    assert metric(program, "caption_batch_size_sum") - before < 400
    assert metric(program, "caption_queue_depth") == 0
    assert metric(program, 'caption_requests_total{code="499",method="POST",route="/captions"}') >= 1


@pytest.mark.anyio
async def test_who_leaves_after_the_last_byte_is_waited_for_by_nobody(
    tiny_bundle: Path, engine: TroubledEngine
) -> None:
    app = create_app(Settings(model=tiny_bundle))
    body = b"".join(part(pictures.jpeg(seed)) for seed in range(3)) + END
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    answers: list[Message] = []

    async def receive() -> Message:
        if messages:
            return messages.pop()
        while app.state.pipeline.batcher.pending < 3:
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        answers.append(message)

    head = [(b"content-type", FORM["content-type"].encode())]
    scope = {"type": "http", "method": "POST", "path": "/captions", "query_string": b"", "http_version": "1.1"}
    async with app.router.lifespan_context(app):
        async with asyncio.timeout(20):
            await app({**scope, "headers": head}, receive, send)
        assert answers[0]["status"] == 499
        assert app.state.pipeline.batcher.pending == 0
        engine.gate.set()


def test_a_picture_that_does_not_arrive_is_a_408(tiny_bundle: Path) -> None:
    with running(model=tiny_bundle, body_timeout_s=0.5) as program:
        upload = Upload(program, {})
        for seed in range(4):  # slower than the limit in all, but not for each
            upload.send(part(pictures.jpeg(seed)))
            time.sleep(0.3)
        assert upload.connection.getresponse().status == 408
        upload.connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
def test_500_photos_and_5_corrupt_ones_in_one_request_cost_other_clients_nothing(program: Program, accept: str) -> None:
    corrupt = {100 * number for number in range(5)}
    form = files(*(pictures.truncated_jpeg(n) if n in corrupt else pictures.jpeg(n) for n in range(505)))
    with httpx2.Client(base_url=program.url, timeout=120) as client, ThreadPoolExecutor(1) as threads:
        many = threads.submit(client.post, "/captions", files=form, headers={"accept": accept})
        singles: list[httpx2.Response] = []
        while not many.done():
            head = {"content-type": "image/jpeg"}
            singles.append(client.post("/caption", content=pictures.jpeg(1000 + len(singles)), headers=head))
        answer = many.result()
    results = answer.json()["results"] if accept.endswith("/json") else lines_of(answer)
    expected = {index: 422 if index in corrupt else 200 for index in range(505)}
    assert {each["index"]: each["status"] for each in results} == expected
    assert {each.status_code for each in singles} == {200}
