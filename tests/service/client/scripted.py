"""A small real HTTP server that does what a test tells it: an action for each request, and the last again and again."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias

CAPTION = {
    "caption": "a red square",
    "log_probability": -1.5,
    "candidates": [{"caption": "a red square", "log_probability": -1.5}],
    "model": {"name": "m", "version": "1"},
    "timing": {"decode_ms": 1.0, "queue_ms": 0.0, "encode_ms": 1.0, "beam_search_ms": 1.0, "total_ms": 3.0},
}

Action: TypeAlias = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Asked:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)


@dataclass
class Script:
    url: str
    asked: list[Asked]
    most_at_once: int = 0


def answers(status: int = 200, body: object = CAPTION, **headers: str) -> Action:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return act


def refuses(status: int, code: str, **headers: str) -> Action:
    return answers(status, {"error": {"code": code, "message": f"because of {code}"}}, **headers)


def cuts(handler: BaseHTTPRequestHandler) -> None:
    """Closes the connection without a word."""
    handler.close_connection = True


def cuts_short(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"capt')
    handler.close_connection = True


def after(seconds: float, action: Action) -> Action:
    def act(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        action(handler)

    return act


def trickles(handler: BaseHTTPRequestHandler) -> None:
    """A byte every 50 ms, for ten seconds if somebody stays."""
    handler.send_response(200)
    handler.send_header("Content-Length", "200")
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" ")
        time.sleep(0.05)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients of tests leave early."""


@contextmanager
def scripted(actions: Sequence[Action]) -> Iterator[Script]:
    lock = threading.Lock()
    busy = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def act(self) -> None:
            nonlocal busy
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                action = actions[min(len(script.asked), len(actions) - 1)]
                script.asked.append(Asked(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                busy += 1
                script.most_at_once = max(script.most_at_once, busy)
            try:
                action(self)
            finally:
                with lock:
                    busy -= 1

        do_GET = do_POST = act  # noqa: N815

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        script = Script(f"http://127.0.0.1:{server.server_address[1]}", [])
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()
