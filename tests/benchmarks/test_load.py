"""The load generator against a real small HTTP server that answers as it is told."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.benchmarks.contestants import Contestant
from tests.benchmarks.load import Connection, ConnectionLostError, Result, Target, put_load

PICTURES = [b"picture %d" % i * 5000 for i in range(4)]
CAPTIONS = [f"caption {i}" for i in range(4)]


def caption_of(picture: bytes) -> str:
    return CAPTIONS[PICTURES.index(picture)]


@dataclass
class Behaviour:
    answer: Callable[[bytes], tuple[int, bytes]]
    wait_s: float = 0.0
    bodies: list[bytes] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)
    under_way: int = 0
    most_under_way: int = 0


def right(body: bytes) -> tuple[int, bytes]:
    return 200, json.dumps({"caption": caption_of(body)}).encode()


@contextlib.contextmanager
def served(behaviour: Behaviour) -> Iterator[int]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with lock:
                behaviour.bodies.append(body)
                behaviour.connections.add(self.client_address)
                behaviour.under_way += 1
                behaviour.most_under_way = max(behaviour.most_under_way, behaviour.under_way)
            time.sleep(behaviour.wait_s)
            status, content = behaviour.answer(body)
            with lock:
                behaviour.under_way -= 1
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


CONTESTANT = Contestant("small", (), "/caption", lambda body: json.loads(body)["caption"])


def loaded(behaviour: Behaviour, *, clients: int = 2, seconds: float = 0.5, rate: float | None = None) -> Result:
    with served(behaviour) as port:
        requests = [CONTESTANT.request(picture) for picture in PICTURES]
        target = Target(port, requests, CAPTIONS, CONTESTANT.caption_in)
        return put_load(target, clients=clients, seconds=seconds, warm_s=0.1, rate=rate)


def test_every_client_keeps_its_connection_and_asks_again_when_answered() -> None:
    behaviour = Behaviour(right, wait_s=0.02)
    result = loaded(behaviour, clients=3)
    assert len(behaviour.connections) == behaviour.most_under_way == 3
    assert set(behaviour.bodies) == set(PICTURES)
    assert 0 < result.per_second <= 3 / 0.02
    assert min(result.latencies_s) >= 0.02
    assert (result.wrong, result.failed) == (0, 0)


def test_answers_outside_the_window_are_not_counted() -> None:
    behaviour = Behaviour(right, wait_s=0.02)
    result = loaded(behaviour)
    assert 0 < len(result.latencies_s) <= 0.5 / 0.02 * 2
    assert len(result.latencies_s) < len(behaviour.bodies)


def test_a_wrong_caption_is_an_error_and_no_answer() -> None:
    def wrong_once_in_four(body: bytes) -> tuple[int, bytes]:
        return (200, b'{"caption": "something else"}') if body == PICTURES[2] else right(body)

    result = loaded(Behaviour(wrong_once_in_four, wait_s=0.005))
    assert result.failed == 0
    assert result.wrong == pytest.approx(len(result.latencies_s) / 3, abs=1)


@pytest.mark.parametrize("answer", [(503, b"{}"), (200, b"no json"), (200, b'{"other": 1}'), (200, b"[]"), (200, b"1")])
def test_what_brings_no_caption_has_failed(answer: tuple[int, bytes]) -> None:
    result = loaded(Behaviour(lambda body: answer))
    assert result.failed > 0
    assert (result.latencies_s, result.wrong) == ([], 0)


def test_where_nobody_listens_every_request_fails() -> None:
    with served(Behaviour(right)) as port:
        pass
    result = put_load(Target(port, PICTURES, CAPTIONS, lambda body: ""), clients=2, seconds=0.2, warm_s=0.0)
    assert result.failed > 0
    assert result.per_second == 0


def test_an_open_loop_keeps_its_rate_however_slow_the_answers() -> None:
    behaviour = Behaviour(right, wait_s=0.2)
    result = loaded(behaviour, clients=40, seconds=1.5, rate=100.0)
    assert result.per_second == pytest.approx(100, rel=0.3)
    assert behaviour.most_under_way > 10
    assert len(result.arrivals_s) == len(behaviour.bodies)
    assert result.arrivals_s == sorted(result.arrivals_s)
    assert 0 < result.arrivals_s[0] < result.arrivals_s[-1] < 0.1 + 1.5


def test_in_an_open_loop_the_wait_for_a_free_connection_counts() -> None:
    result = loaded(Behaviour(right, wait_s=0.02), clients=1, seconds=0.5, rate=200.0)
    assert max(result.latencies_s) > 0.3


def test_a_connection_that_the_server_closed_is_opened_anew() -> None:
    with served(Behaviour(right)) as port:
        connection = Connection(port)
        assert connection.ask(CONTESTANT.request(PICTURES[0])).status == 200
        assert connection._socket is not None
        connection._socket.shutdown(2)
        with pytest.raises((ConnectionLostError, OSError)):
            connection.ask(CONTESTANT.request(PICTURES[0]))
        assert connection.ask(CONTESTANT.request(PICTURES[1])).body == b'{"caption": "caption 1"}'
        connection.close()
