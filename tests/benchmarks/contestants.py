"""The servers that are compared: how each is started, asked and understood."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.bounds import OURS
from tests.benchmarks.load import Connection
from tests.benchmarks.processes import Program, free_port

START_S = 180.0

BOUNDARY = b"a-boundary-that-no-jpeg-holds"
PORT = "{port}"


@dataclass(frozen=True)
class Contestant:
    """A server. `{port}` in its command or environment is replaced by a free one."""

    name: str
    command: tuple[str, ...]
    path: str
    caption_in: Callable[[bytes], str]
    field: str | None = None
    """The field of a form that takes the picture; None where the bare bytes are taken."""
    environment: Mapping[str, str] | None = None
    same_engine: bool = True
    """Its captions are ours, word for word; elsewhere they are only counted."""

    def request(self, picture: bytes) -> bytes:
        """The whole HTTP request."""
        body, kind = picture, b"image/jpeg"
        if self.field:
            body = b'--%s\r\ncontent-disposition: form-data; name="%s"; filename="a.jpg"\r\n' % (
                BOUNDARY,
                self.field.encode(),
            )
            body += b"content-type: image/jpeg\r\n\r\n%s\r\n--%s--\r\n" % (picture, BOUNDARY)
            kind = b"multipart/form-data; boundary=" + BOUNDARY
        head = b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"
        return head % (self.path.encode(), kind, len(body)) + body


@dataclass(frozen=True)
class Running:
    contestant: Contestant
    program: Program
    port: int
    start_s: float
    """From its start to its first caption."""


class StartError(RuntimeError):
    pass


def start(contestant: Contestant, picture: bytes, logs: Path) -> Running:
    """Returns when a first picture has its caption."""
    port, began = free_port(), time.perf_counter()
    program = Program(
        [word.replace(PORT, str(port)) for word in contestant.command],
        log=logs / f"{contestant.name}.log",
        environment=_environment(contestant, port),
    )
    connection, request = Connection(port), contestant.request(picture)
    while time.perf_counter() < began + START_S and not program.has_ended:
        try:
            answer = connection.ask(request)
        except OSError:
            time.sleep(0.01)
            continue
        if answer.status == 200:
            connection.close()
            return Running(contestant, program, port, time.perf_counter() - began)
        time.sleep(0.01)
    program.stop()
    raise StartError(f"{contestant.name} gave no caption; its words: {program.log.read_text()[-2000:]}")


def _environment(contestant: Contestant, port: int) -> dict[str, str]:
    """Settings of the shell that started the benchmark reach no server."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CAPTION_", "MALLOC_"))}
    own = {name: value.replace(PORT, str(port)) for name, value in (contestant.environment or {}).items()}
    return {**inherited, **own}


def _member(body: bytes) -> str:
    return json.loads(body)["caption"]


def _first(body: bytes) -> str:
    return json.loads(body)[0]


def contestants(service_python: str) -> dict[str, Contestant]:
    """The service runs in an environment of its own: what peers install would change it."""
    peers = "tests.benchmarks.peers."
    # Without these torch spends much of its time in page faults.
    malloc = {"MALLOC_MMAP_THRESHOLD_": "2000000000", "MALLOC_TRIM_THRESHOLD_": "4000000000"}

    def module(name: str) -> tuple[str, ...]:
        return sys.executable, "-m", peers + name, PORT

    every = [
        Contestant(
            OURS,
            (service_python, "-m", "service"),
            "/caption",
            _member,
            # Halted while others are measured, it would take itself for stuck.
            environment={"CAPTION_PORT": PORT, "CAPTION_HOST": "127.0.0.1", "CAPTION_STUCK_AFTER_S": "3600"},
        ),
        Contestant("litserve", module("with_litserve"), "/predict", _member, field="image"),
        Contestant(
            "mosec",
            (sys.executable, "-m", peers + "with_mosec", "--port", PORT, "--timeout", "30000"),
            "/inference",
            _member,
        ),
        Contestant(
            "bentoml",
            (sys.executable, "-m", "bentoml", "serve", peers + "with_bentoml:Captions", "--port", PORT),
            "/caption",
            _first,
            field="pictures",
        ),
        Contestant(
            "fastapi-eager",
            module("eager_fastapi"),
            "/caption",
            _member,
            field="file",
            environment=malloc,
            same_engine=False,
        ),
        Contestant(
            "litserve-eager",
            module("eager_litserve"),
            "/predict",
            _member,
            field="image",
            environment=malloc,
            same_engine=False,
        ),
    ]
    return {contestant.name: contestant for contestant in every}
