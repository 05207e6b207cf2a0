"""What only a real connection shows: slow bodies, clients that leave, and many at once."""

import contextlib
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import httpx2

from tests.service import pictures
from tests.service.conftest import Program, metric_value, running

JPEG = {"content-type": "image/jpeg"}


def request_head(length: int) -> bytes:
    return (
        f"POST /caption HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def connected(program: Program) -> socket.socket:
    return socket.create_connection(("127.0.0.1", program.port), timeout=30)


def answer(client: socket.socket) -> tuple[int, bytes]:
    response = HTTPResponse(client)
    response.begin()
    return response.status, response.read()


def metric(program: Program, series: str) -> float:
    return metric_value(httpx2.get(f"{program.url}/metrics").text, series)


def eventually(check: Callable[[], bool], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while not check() and time.monotonic() < until:
        time.sleep(0.05)
    return check()


def test_answers_do_not_wait_for_the_clients_acknowledgement(program: Program) -> None:
    connection = HTTPConnection("127.0.0.1", program.port)
    durations = []
    for _ in range(30):
        began = time.perf_counter()
        connection.request("GET", "/livez")
        connection.getresponse().read()
        durations.append(time.perf_counter() - began)
    connection.close()
    assert sorted(durations)[15] < 0.02, "40 ms an answer is Nagle's algorithm"


def test_a_body_that_comes_too_slowly_is_a_408(tiny_bundle: Path) -> None:
    with running(model=tiny_bundle, body_timeout_s=0.3) as program, connected(program) as client:
        client.sendall(request_head(1000) + b"\xff\xd8\xff")
        began = time.monotonic()
        status, body = answer(client)
        assert time.monotonic() - began < 2
        assert status == 408
        assert b'"slow_body"' in body
        assert client.recv(1) == b"", "the connection must be closed"


def test_a_length_that_says_too_much_is_refused_before_the_body(program: Program) -> None:
    with connected(program) as client:
        client.sendall(request_head(10**12))
        assert answer(client)[0] == 413


def test_a_body_without_end_is_cut_off(program: Program) -> None:
    head = b"POST /caption HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    with connected(program) as client:
        client.sendall(head)
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 200:
                client.sendall(chunk)
                sent += 1
    assert 15 < sent < 100


def test_a_client_that_leaves_during_its_upload_is_counted(program: Program) -> None:
    series = 'caption_cancelled_total{stage="upload"}'
    before = metric(program, series)
    with connected(program) as client:
        client.sendall(request_head(1000) + b"\xff\xd8\xff")
        time.sleep(0.2)
    assert eventually(lambda: metric(program, series) == before + 1)


def test_pictures_of_clients_that_left_are_dropped(tiny_bundle: Path) -> None:
    photo = pictures.jpeg()
    with running(model=tiny_bundle, max_batch_size=1, decode_threads=1) as program:
        clients = [connected(program) for _ in range(60)]
        for client in clients:
            client.sendall(request_head(len(photo)) + photo)
        for client in clients:
            client.close()
        left = 'caption_requests_total{code="499",method="POST",route="/caption"}'
        done = 'caption_requests_total{code="200",method="POST",route="/caption"}'
        assert eventually(lambda: metric(program, left) + metric(program, done) == 60)
        stages = ("upload", "decode", "queue", "engine")
        cancelled = sum(metric(program, f'caption_cancelled_total{{stage="{stage}"}}') for stage in stages)
        assert metric(program, left) == cancelled
        assert cancelled > 5
        assert metric(program, "caption_batch_size_sum") <= 60 - metric(
            program, 'caption_cancelled_total{stage="queue"}'
        )
        assert metric(program, "caption_queue_depth") == 0
        assert httpx2.post(f"{program.url}/caption", content=photo, headers=JPEG).status_code == 200


def test_200_requests_from_24_threads_with_33_corrupt_get_their_own_answers(program: Program) -> None:
    corrupt = {i * 6 for i in range(33)}
    photos = {i: pictures.truncated_jpeg(i) if i in corrupt else pictures.jpeg(i % 40) for i in range(200)}
    with httpx2.Client(base_url=program.url, headers=JPEG, timeout=60) as client:
        alone = {i: client.post("/caption", content=pictures.jpeg(i)).json()["caption"] for i in range(40)}

        def ask(i: int) -> httpx2.Response:
            return client.post("/caption", content=photos[i])

        with ThreadPoolExecutor(24) as threads:
            answers = list(threads.map(ask, range(200)))
    for i, got in enumerate(answers):
        if i in corrupt:
            assert (got.status_code, got.json()["error"]["code"]) == (422, "undecodable_image")
        else:
            assert (got.status_code, got.json().get("caption")) == (200, alone[i % 40])
    assert metric(program, "caption_batch_size_count") < metric(program, "caption_batch_size_sum"), (
        "nothing was batched"
    )


def test_more_than_the_queue_holds_is_refused_while_the_rest_is_answered(tiny_bundle: Path) -> None:
    with running(model=tiny_bundle, max_batch_size=1, max_queue_size=2) as program:
        with httpx2.Client(base_url=program.url, headers=JPEG, timeout=60) as client, ThreadPoolExecutor(32) as threads:
            answers = list(threads.map(lambda i: client.post("/caption", content=pictures.jpeg(i)), range(96)))
        codes = [got.status_code for got in answers]
        assert set(codes) == {200, 503}
        refused = answers[codes.index(503)]
        assert refused.json()["error"]["code"] == "queue_full"
        assert int(refused.headers["retry-after"]) >= 1
        assert metric(program, 'caption_rejected_total{reason="queue_full"}') == codes.count(503)
