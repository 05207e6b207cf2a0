"""Two replicas behind the proxy: one is killed, both are restarted, and nobody in front of it notices."""

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.benchmarks.contestants import Contestant
from tests.benchmarks.load import Answer, Connection
from tests.benchmarks.processes import free_port
from tests.proxy.conftest import CONFIGURATION, proxied
from tests.service.conftest import Program, running
from tests.service.pictures import encoded
from trainer.drawing import draw_scene

pytestmark = pytest.mark.slow
CLIENTS = 8
SERVICE = Contestant("service", (), "/caption", lambda body: json.loads(body)["caption"])


class Load:
    """Clients that ask one thing after another until they are told to stop."""

    def __init__(self, port: int) -> None:
        # All differ, so that no caption stands for two requests.
        photos = [encoded(draw_scene(random.Random(seed), 300)[0], quality=95) for seed in range(64)]
        self.requests = [SERVICE.request(photo) for photo in photos]
        self.outcomes: Counter[str] = Counter()
        self._port, self._stopped = port, threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]

    def _client(self, number: int) -> None:
        connection = Connection(self._port)
        while not self._stopped.is_set():
            try:
                answer = connection.ask(self.requests[number])
                outcome = "captioned" if answer.status == 200 and json.loads(answer.body)["caption"] else str(answer)
            except (OSError, ValueError) as error:
                outcome = repr(error)
            self.outcomes[outcome] += 1
            number = (number + CLIENTS) % len(self.requests)
        connection.close()

    @contextmanager
    def going(self) -> Iterator["Load"]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            for thread in self._threads:
                thread.join()

    def wait_for(self, more: int) -> None:
        wanted, ends = self.outcomes["captioned"] + more, time.monotonic() + 30
        while self.outcomes["captioned"] < wanted:
            assert time.monotonic() < ends, self.outcomes
            time.sleep(0.005)


def ask(port: int, path: str, method: str = "GET") -> Answer:
    connection = Connection(port)
    answer = connection.ask(f"{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n".encode())
    connection.close()
    return answer


def captioned_by(program: Program) -> float:
    series = 'caption_requests_total{code="200",method="POST",route="/caption"} '
    body = ask(program.port, "/metrics").body.decode()
    return next(float(line.removeprefix(series)) for line in body.splitlines() if line.startswith(series))


def wait_until_used(program: Program) -> None:
    ends = time.monotonic() + 30
    while captioned_by(program) < 20:
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_the_configuration_is_sound(haproxy: Path) -> None:
    done = subprocess.run([haproxy, "-c", "-f", CONFIGURATION], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr


def test_a_replica_killed_under_load_costs_no_request(haproxy: Path, tiny_bundle: Path) -> None:
    with (
        running(model=tiny_bundle, threads=1) as first,
        running(model=tiny_bundle, threads=1) as second,
        proxied(haproxy, [first.port, second.port]) as port,
        Load(port).going() as load,
    ):
        load.wait_for(200)
        assert min(captioned_by(first), captioned_by(second)) > 20, "both do their part"
        os.kill(first.process.pid, signal.SIGKILL)
        load.wait_for(200)
        first.process.wait()
    assert set(load.outcomes) == {"captioned"}, load.outcomes


def test_what_is_about_one_replica_is_not_there(haproxy: Path, tiny_bundle: Path) -> None:
    with running(model=tiny_bundle) as program, proxied(haproxy, [program.port, free_port()]) as port:
        assert ask(port, "/model").status == 200
        assert ask(port, "/metrics").status == 404
        assert ask(port, "/model/reload", "POST").status == 404


def test_a_rolling_restart_costs_no_request(haproxy: Path, tiny_bundle: Path) -> None:
    ports = [free_port(), free_port()]
    with ExitStack() as programs:
        replicas = [programs.enter_context(running(model=tiny_bundle, threads=1, port=port)) for port in ports]
        with proxied(haproxy, ports) as port, Load(port).going() as load:
            load.wait_for(100)
            for replica in replicas:
                replica.process.terminate()
                assert replica.ended() == 0
                load.wait_for(50)
                new = running(model=tiny_bundle, threads=1, port=replica.port)
                wait_until_used(programs.enter_context(new))
    assert set(load.outcomes) == {"captioned"}, load.outcomes
