"""Debian's HAProxy with the project's configuration, in front of two services of the tiny model."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.benchmarks.processes import free_port
from tests.service.conftest import PROJECT

CONFIGURATION = PROJECT / "service" / "proxy" / "haproxy.cfg"


@pytest.fixture(scope="session")
def haproxy() -> Path:
    found = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        assert not os.environ.get("CI"), "haproxy is not installed"
        pytest.skip("haproxy is not installed")
    return Path(found)


@contextmanager
def proxied(haproxy: Path, replicas: Sequence[int]) -> Iterator[int]:
    """The port of a proxy before these two ports."""
    port = free_port()
    places = {f"REPLICA_{number}": f"127.0.0.1:{replica}" for number, replica in enumerate(replicas, 1)}
    process = subprocess.Popen(
        [haproxy, "-f", CONFIGURATION, "-db"], env={**os.environ, **places, "PROXY_BIND": f"127.0.0.1:{port}"}
    )
    try:
        ends = time.monotonic() + 10
        while not _listens(port):
            assert process.poll() is None, "the proxy has ended"
            assert time.monotonic() < ends
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
