"""The app and the program `python -m service`, both around the real tiny bundle."""

import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from shared.bundle import Bundle
from shared.captioner import Captioner, Captioners
from shared.engine_loading import load_engine
from tests.service.engines import TroubledEngine

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def serving(**settings: Any) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(**settings)), follow_redirects=False) as client:
        yield client


@pytest.fixture(scope="session")
def client(tiny_bundle: Path) -> Iterator[TestClient]:
    with serving(model=tiny_bundle, precision="fp32") as client:
        yield client


@pytest.fixture
def engine(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> TroubledEngine:
    """What an app that starts in this test runs on."""
    bundle = Bundle.load(tiny_bundle)
    engine = TroubledEngine(load_engine(Settings().engine, bundle))
    captioner = Captioner(bundle, engine)
    monkeypatch.setattr("service.loading.load_captioners", lambda path, **options: Captioners((captioner,), captioner))
    return engine


@dataclass
class Program:
    """`python -m service` as a process of its own."""

    process: subprocess.Popen[str]
    port: int
    lines: "queue.Queue[str]"
    reader: threading.Thread
    admin_port: int | None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ended(self) -> int:
        return self.process.wait(30)

    def printed(self) -> str:
        """What it has printed since it listens; call when it has ended."""
        self.reader.join(10)
        return "".join(self.lines.get() for _ in range(self.lines.qsize()))


def environment(**settings: object) -> dict[str, str]:
    """The test's own, but for what `make test` tells malloc for the sake of training."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return {**kept, "CAPTION_HOST": "127.0.0.1", **{f"CAPTION_{k.upper()}": str(v) for k, v in settings.items()}}


@contextmanager
def running(module: str = "service", inside: Sequence[str] = (), /, **settings: object) -> Iterator[Program]:
    """`inside` is what to write before the command."""
    process = subprocess.Popen(
        [*inside, sys.executable, "-m", module],
        cwd=PROJECT,
        env=environment(**{"port": 0, **settings}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    reader = threading.Thread(target=_copy, args=(process.stdout, lines), daemon=True)
    reader.start()
    try:
        port, admin_port = _ports(lines)
        yield Program(process, port, lines, reader, admin_port)
    finally:
        process.kill()
        process.wait()
        reader.join(10)
        process.stdout.close()


def _copy(output: IO[str], lines: "queue.Queue[str]") -> None:
    for line in output:
        lines.put(line)


def _ports(lines: "queue.Queue[str]") -> tuple[int, int | None]:
    seen = ""
    while not (found := re.search(r"listening on http://\S+:(\d+)", seen)):
        try:
            seen += lines.get(timeout=60)
        except queue.Empty:
            pytest.fail(f"the program did not start:\n{seen}")
    admin = re.search(r"health and metrics on http://\S+:(\d+)", seen)
    return int(found[1]), int(admin[1]) if admin else None


@pytest.fixture(scope="session")
def program(tiny_bundle: Path) -> Iterator[Program]:
    with running(model=tiny_bundle, max_batch_size=4, precision="fp32") as program:
        yield program


@pytest.fixture
def metric(client: TestClient) -> Callable[[str], float]:
    """The value of one series, named as /metrics prints it."""

    def value(series: str) -> float:
        return metric_value(client.get("/metrics").text, series)

    return value


def metric_value(exposition: str, series: str) -> float:
    line = next((line for line in exposition.splitlines() if line.startswith(series + " ")), None)
    assert line is not None, f"{series} is not there"
    return float(line.rpartition(" ")[2])
