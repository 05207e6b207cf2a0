"""A real HTTP server of a folder, with ranges and ETags as S3 has them, and with the faults that networks have."""

import contextlib
import hashlib
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What is wrong with one answer."""

    status: int | None = None
    """Only this status and an error page."""
    redirect: str | None = None
    cut_after: int | None = None
    """Close the connection after so many bytes of the body."""
    hang_after: int | None = None
    """Say nothing more after so many bytes of the body, until the server ends."""
    wrong_byte: int | None = None
    """Change this byte of the body."""
    no_ranges: bool = False
    wrong_range: bool = False
    """Answer with another range than was asked for."""
    extra_length: int = 0
    """What Content-Length says too much."""
    no_length: bool = False
    """No Content-Length: the body is over when the connection is."""
    content_type: str = "application/zip"
    etag: str | None = None


@dataclass(frozen=True)
class Request:
    path: str
    range: str | None
    if_range: str | None


class FileServer(ThreadingHTTPServer):
    """`faults[path]` are met one request after another; then come right answers, or `always[path]`."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.faults: defaultdict[str, list[Fault]] = defaultdict(list)
        self.always: dict[str, Fault] = {}
        self.requests: list[Request] = []
        self.ended = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error here."""

    def ranges(self) -> list[str | None]:
        return [request.range for request in self.requests]


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        path = self.path[1:]
        self.server.requests.append(Request(path, self.headers.get("Range"), self.headers.get("If-Range")))
        waiting = self.server.faults[path]
        fault = waiting.pop(0) if waiting else self.server.always.get(path, Fault())
        file = Path(f"{self.server.root}/{path}")
        if fault.redirect is not None:
            self.send_response(302)
            self.send_header("Location", fault.redirect)
            self.end_headers()
        elif fault.status is not None or not file.is_file():
            self.send_error(fault.status or 404)
        else:
            self._send_file(file.read_bytes(), fault)

    def _send_file(self, content: bytes, fault: Fault) -> None:
        etag = fault.etag or f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        begin = 0 if fault.no_ranges else self._asked_for(etag)
        if begin >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        if begin:
            first = begin + fault.wrong_range
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if not fault.no_length:
            self.send_header("Content-Length", str(len(content) - begin + fault.extra_length))
        self.send_header("Content-Type", fault.content_type)
        self.send_header("ETag", etag)
        self.end_headers()
        self._send_body(bytearray(content[begin:]), fault)

    def _asked_for(self, etag: str) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(asked[1]) if asked and self.headers.get("If-Range", etag) == etag else 0

    def _send_body(self, body: bytearray, fault: Fault) -> None:
        if fault.wrong_byte is not None:
            body[fault.wrong_byte] ^= 1
        stops = [stop for stop in (fault.cut_after, fault.hang_after) if stop is not None]
        self.wfile.write(body[: min(stops, default=len(body))])
        if fault.hang_after is not None:
            self.server.ended.wait()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Tests have enough to say."""


@contextlib.contextmanager
def serving(root: Path) -> Iterator[FileServer]:
    with FileServer(root) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()
