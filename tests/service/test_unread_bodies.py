"""Refusals that come before the body, over raw sockets: the answer arrives, and the rest is not read."""

import contextlib
import socket
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest

from tests.service import pictures
from tests.service.conftest import Program, running
from tests.service.test_connections import ended
from tests.service.test_http import answer, connected, request_head

TYPE = b"Content-Type: image/jpeg\r\n"
CHUNKED = b"POST /caption HTTP/1.1\r\nHost: x\r\n" + TYPE + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK = b"100000\r\n" + bytes(0x100000) + b"\r\n"
KEY = b"X-API-Key: the-key\r\n"


@pytest.fixture(scope="module")
def program(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("the-key\n")
    with running(model=tiny_bundle, api_keys_file=keys, max_bytes=5_000_000) as program:
        yield program


def sent_before_the_end(client: socket.socket, piece: bytes, times: int) -> int:
    """How many pieces went out until the server closed."""
    sent = 0
    with contextlib.suppress(OSError):
        while sent < times:
            client.sendall(piece)
            sent += 1
            time.sleep(0.01)
    return sent


@pytest.mark.parametrize("kind", ["declared", "found while reading", "without a key"])
def test_too_long_a_body_is_answered_and_the_connection_closed_before_the_rest(program: Program, kind: str) -> None:
    start = {
        "declared": request_head(10**9).replace(TYPE, TYPE + KEY),
        "found while reading": CHUNKED.replace(TYPE, TYPE + KEY),
        "without a key": CHUNKED,
    }[kind]
    piece = bytes(0x100000) if kind == "declared" else CHUNK
    with connected(program) as client:
        client.sendall(start + piece)
        assert sent_before_the_end(client, piece, 900) < 100
        response = HTTPResponse(client)
        response.begin()
        assert response.status == (401 if kind == "without a key" else 413)
        assert response.headers["connection"] == "close"


def test_a_client_that_is_still_sending_reads_its_refusal_and_then_the_end(program: Program) -> None:
    with connected(program) as client:
        client.sendall(request_head(10**9).replace(TYPE, TYPE + KEY))
        began = time.monotonic()
        assert answer(client)[0] == 413
        assert time.monotonic() - began < 0.5
        client.sendall(bytes(100_000))
        client.settimeout(5)
        assert client.recv(1) == b"", "a reset would have made the answer be lost"


def test_after_a_short_body_that_nobody_wanted_the_connection_goes_on(program: Program) -> None:
    photo = pictures.jpeg() + bytes(200_000)
    with connected(program) as client:
        for _ in range(3):
            client.sendall(request_head(len(photo)))
            assert answer(client)[0] == 401
            client.sendall(photo)
            client.sendall(request_head(len(photo)).replace(TYPE, TYPE + KEY) + photo)
            assert answer(client)[0] == 200


@pytest.mark.parametrize(("key", "first"), [(b"", b" 401 "), (KEY, b" 100 ")])
def test_nobody_is_told_to_continue_with_a_body_that_is_refused(program: Program, key: bytes, first: bytes) -> None:
    photo = pictures.jpeg()
    expecting = request_head(len(photo)).replace(TYPE, TYPE + key + b"Expect: 100-continue\r\n")
    with connected(program) as client:
        client.sendall(expecting)
        assert first in client.recv(65_536).partition(b"\r\n")[0]


def test_a_full_queue_refuses_before_it_asks_for_the_body(tiny_bundle: Path) -> None:
    """A queue for no byte at all is full."""
    with running(model=tiny_bundle, max_queue_bytes=1) as full, connected(full) as client:
        client.sendall(request_head(15_000_000).replace(TYPE, TYPE + b"Expect: 100-continue\r\n"))
        response = HTTPResponse(client)
        response.begin()
        assert response.status == 503
        assert response.headers["retry-after"]
        assert b"queue_full" in response.read()
        assert ended(client, 5)
