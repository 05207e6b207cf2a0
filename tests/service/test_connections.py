"""Clients that hold connections without using them, over raw sockets."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.service import pictures
from tests.service.conftest import Program, running
from tests.service.test_http import answer, connected, eventually, request_head

PROBE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def impatient(tiny_bundle: Path) -> Iterator[Program]:
    limits: dict[str, Any] = {
        "header_timeout_s": 0.5,
        "write_timeout_s": 0.5,
        "keep_alive_s": 1,
        "max_connections": 20,
    }
    with running(model=tiny_bundle, **limits) as program:
        yield program


def ended(client: socket.socket, within_s: float = 10) -> bool:
    """Whether the server closes the connection; what it still sends is read."""
    client.settimeout(within_s)
    with contextlib.suppress(ConnectionError):
        try:
            while client.recv(65_536):
                pass
        except TimeoutError:
            return False
    return True


def trickled(client: socket.socket, data: bytes, pause_s: float = 0.05) -> int:
    """How many bytes, one at a time, the server took."""
    for sent, byte in enumerate(data):
        try:
            client.sendall(bytes([byte]))
        except OSError:
            return sent
        time.sleep(pause_s)
    return len(data)


def test_a_head_that_trickles_ends_the_connection(impatient: Program) -> None:
    with connected(impatient) as client:
        assert trickled(client, b"GET /livez HTTP/1.1\r\nX-Filler: " + b"a" * 1000) < 200


def test_a_head_that_trickles_after_an_answer_ends_the_connection(impatient: Program) -> None:
    with connected(impatient) as client:
        client.sendall(PROBE)
        assert answer(client)[0] == 200
        assert trickled(client, PROBE[:-1] + b"X: " + b"a" * 1000) < 200


def test_a_connection_that_says_nothing_is_ended(impatient: Program) -> None:
    with connected(impatient) as silent, connected(impatient) as after_an_answer:
        after_an_answer.sendall(PROBE)
        assert answer(after_an_answer)[0] == 200
        assert ended(silent)
        assert ended(after_an_answer)


def test_a_refused_body_that_trickles_ends_the_connection(impatient: Program) -> None:
    with connected(impatient) as client:
        client.sendall(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        assert answer(client)[0] == 404
        assert trickled(client, b"a" * 1000) < 200


def test_a_busy_connection_is_left_alone(impatient: Program) -> None:
    photo = pictures.jpeg()
    with connected(impatient) as client:
        client.sendall(request_head(len(photo)))
        for start in range(0, len(photo), 1 + len(photo) // 10):
            time.sleep(0.15)
            client.sendall(photo[start : start + 1 + len(photo) // 10])
        assert answer(client)[0] == 200
        client.sendall(PROBE)
        assert answer(client)[0] == 200


def test_a_client_that_does_not_read_is_cut_off_and_holds_no_memory(impatient: Program) -> None:
    process = Path(f"/proc/{impatient.process.pid}/statm")
    before = int(process.read_text().split()[1])
    with connected(impatient) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(0.2)
        request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
        with contextlib.suppress(OSError):
            for _ in range(2000):
                client.sendall(request * 50)
        assert (int(process.read_text().split()[1]) - before) * 4096 < 30_000_000
        assert ended(client)


def test_the_longest_idle_connection_makes_room_for_a_new_one(impatient: Program) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(connected(impatient)) for _ in range(40)]
        newest = stack.enter_context(connected(impatient))
        newest.sendall(PROBE)
        assert answer(newest)[0] == 200
        assert ended(idle[0], 0.3)


def test_where_all_connections_are_busy_a_new_one_is_told_so(impatient: Program) -> None:
    photo = pictures.jpeg()
    with ExitStack() as stack:
        busy = [stack.enter_context(connected(impatient)) for _ in range(20)]
        for client in busy:
            client.sendall(request_head(len(photo)) + photo[:100])
        time.sleep(0.3)
        refused = stack.enter_context(connected(impatient))
        refused.sendall(request_head(len(photo)) + photo)
        response = b""
        while data := refused.recv(65_536):
            response += data
        head, _, body = response.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in head
        assert b"\r\nx-request-id: " in head
        assert b"\r\nserver-timing: " in head
        assert json.loads(body)["error"]["code"] == "too_many_connections"
        assert httpx2.get(f"{impatient.url}/livez").status_code == 200, "busy is not dead"
        for client in busy:
            client.sendall(photo[100:])
        assert [answer(client)[0] for client in busy] == [200] * 20
    assert eventually(lambda: httpx2.get(f"{impatient.url}/livez").status_code == 200)
