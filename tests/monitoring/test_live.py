"""Prometheus beside the running service: it finds all that the dashboards ask for, and alerts come and go."""

import math
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx2
import pytest

from shared.bundle import publish
from tests.kubernetes.manifests import the
from tests.monitoring import dashboards
from tests.monitoring.prometheus import WINDOW, Prometheus, promtool, scraping
from tests.service import pictures
from tests.service.conftest import PROJECT, Program, running
from tests.service.test_model_source import renamed

pytestmark = pytest.mark.slow
CAPTIONS = f'rate(caption_requests_total{{route="/caption",code="200"}}[{WINDOW}]) > 1'


@contextmanager
def light_load(port: int) -> Iterator[None]:
    """Twenty requests a second, one in ten of them with no picture."""
    stopped = threading.Event()

    def send() -> None:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
            for seed in range(10**6):
                body = pictures.jpeg(seed) if seed % 10 else b"no picture"
                try:
                    client.post("/caption", content=body, headers={"Content-Type": "image/jpeg"})
                except httpx2.TransportError:
                    time.sleep(0.2)
                if stopped.wait(0.05):
                    return

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@pytest.fixture(scope="module")
def volume(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    publish(renamed(tiny_bundle, folder / "first", "first"), folder / "volume")
    return folder / "volume"


@pytest.fixture(scope="module")
def service(volume: Path) -> Iterator[Program]:
    with running(model=volume, reload_poll_s=0.5, cache_size=10) as program:
        yield program


@pytest.fixture(scope="module")
def watching(service: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Under load for all the tests."""
    folder = tmp_path_factory.mktemp("prometheus")
    with scraping(folder, {"caption-service": service.port}) as prometheus, light_load(service.port):
        assert prometheus.waits(lambda: prometheus.query(CAPTIONS))
        yield prometheus


def has_data(prometheus: Prometheus, query: str) -> bool:
    return any(not math.isnan(sample.value) for sample in prometheus.query(query))


@pytest.mark.parametrize(("panel", "query"), dashboards.queries("service").items())
def test_a_query_of_the_dashboard_finds_data(watching: Prometheus, panel: str, query: str) -> None:
    assert watching.waits(lambda: has_data(watching, query), 10), query


def test_every_query_of_the_training_dashboard_finds_data_while_a_run_goes_on(drawn_data: Path, tmp_path: Path) -> None:
    with training(drawn_data, tmp_path / "run") as port, scraping(tmp_path, {"caption-trainer": port}) as prometheus:
        assert prometheus.waits(lambda: prometheus.query("caption_trainer_epoch >= 1"), 60)
        for query in dashboards.queries("training").values():
            assert prometheus.waits(partial(has_data, prometheus, query), 10), query
        done = promtool("check", "metrics", stdin=httpx2.get(f"http://127.0.0.1:{port}/metrics").text)
        # The D of CIDEr-D is not a day.
        assert [line for line in done.stderr.splitlines() if "_cider_d metric" not in line] == []


@contextmanager
def training(data: Path, run: Path) -> Iterator[int]:
    """The port of a run's metrics."""
    command = [sys.executable, "-m", "trainer", "train", "--preset", "tiny", "--metrics-port", "0"]
    process = subprocess.Popen(
        [*command, "--data", str(data), "--model", str(run)], cwd=PROJECT, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    try:
        ports = (re.search(r"metrics on http://\S+:(\d+)", line) for line in process.stderr)
        yield next(int(port[1]) for port in ports if port)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_promtool_finds_nothing_amiss_in_the_metrics(service: Program, watching: Prometheus) -> None:
    done = promtool("check", "metrics", stdin=httpx2.get(f"{service.url}/metrics").text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_autoscaler_is_told_of_a_wait(watching: Prometheus) -> None:
    trigger = the("ScaledObject", "autoscaling")["spec"]["triggers"][0]["metadata"]
    (sample,) = watching.query(trigger["query"].replace("[2m]", f"[{WINDOW}]"))
    assert 0 < sample.value < float(trigger["threshold"])
    (sample,) = watching.query(trigger["query"].replace("caption-service", "nobody"))
    assert sample.value == 0


def test_every_series_of_the_service_arrives(service: Program, watching: Prometheus) -> None:
    exposed = {
        line.partition("{")[0].partition(" ")[0]
        for line in httpx2.get(f"{service.url}/metrics").text.splitlines()
        if not line.startswith("#")
    }
    stored = {sample.labels["__name__"] for sample in watching.query('{job="caption-service"}')}
    assert exposed - stored == set()


def test_all_is_well_at_first(watching: Prometheus) -> None:
    assert watching.firing() == set()


def test_a_broken_model_calls_until_a_sound_one_is_there(
    watching: Prometheus, tiny_bundle: Path, volume: Path, tmp_path: Path
) -> None:
    second = renamed(tiny_bundle, tmp_path / "second", "second")
    (second.path / "golden.png").write_bytes(b"broken")
    publish(second, volume)
    assert watching.waits(lambda: "CaptionReloadFailed" in watching.firing())
    publish(renamed(tiny_bundle, tmp_path / "third", "third"), volume)
    assert watching.waits(lambda: "CaptionReloadFailed" not in watching.firing())


def test_an_engine_that_fails_calls_until_it_works_again(tiny_bundle: Path, tmp_path: Path) -> None:
    with (
        running("tests.faults.service", model=tiny_bundle) as program,
        scraping(tmp_path, {"caption-service": program.port}) as prometheus,
        light_load(program.port),
    ):
        assert prometheus.waits(lambda: prometheus.query(CAPTIONS))
        assert prometheus.firing() == set()
        fault = {"place": "encode", "kind": "exception", "times": 200}
        httpx2.post(f"{program.url}/faults", json=fault).raise_for_status()
        assert prometheus.waits(lambda: "CaptionErrorBudgetBurnsFast" in prometheus.firing())
        assert prometheus.waits(lambda: "CaptionErrorBudgetBurnsFast" not in prometheus.firing(), 60)


def test_a_service_that_is_gone_calls_until_it_is_back(tiny_bundle: Path, tmp_path: Path) -> None:
    with running(model=tiny_bundle) as program, scraping(tmp_path, {"caption-service": program.port}) as prometheus:
        assert prometheus.waits(lambda: prometheus.query("up == 1"))
        program.process.kill()
        gone = {"CaptionServiceDown", "CaptionServiceMissing"}
        assert prometheus.waits(lambda: gone <= prometheus.firing())
        with running(model=tiny_bundle, port=program.port):
            assert prometheus.waits(lambda: not gone & prometheus.firing())
