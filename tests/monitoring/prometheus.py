"""Debian's Prometheus with a copy of the project's configuration, its windows short enough for a test."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

MONITORING = Path(__file__).parents[2] / "service" / "monitoring"
RULES = MONITORING / "rules.yml"
SCRAPE_S = 0.5
WINDOW = "5s"


def tool(name: str) -> str:
    """Its path; a gate without it fails."""
    if found := shutil.which(name):
        return found
    if os.environ.get("CI"):
        pytest.fail(f"the tests of the monitoring need {name}: apt-get install prometheus")
    pytest.skip(f"{name} is not installed")


def promtool(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [tool("promtool"), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)


@dataclass(frozen=True)
class Sample:
    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Prometheus:
    url: str

    def query(self, expression: str) -> list[Sample]:
        answer = httpx2.get(f"{self.url}/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        found = answer["data"]["result"]
        return [Sample(sample["metric"], float(sample["value"][1])) for sample in found]

    def firing(self) -> set[str]:
        alerts = httpx2.get(f"{self.url}/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def waits(self, true: Callable[[], object], seconds: float = 30) -> bool:
        """Whether it comes true in time; what Prometheus knows is always a scrape late."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if true():
                return True
            time.sleep(SCRAPE_S / 2)
        return False


@contextmanager
def scraping(folder: Path, targets: Mapping[str, int]) -> Iterator[Prometheus]:
    """`targets`: the port on this machine of each job."""
    configuration = _configured(folder, targets)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    log = (folder / "prometheus.log").open("w")
    process = subprocess.Popen(
        [
            tool("prometheus"),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
        ],
        stderr=log,
    )
    prometheus = Prometheus(f"http://{address}")
    try:
        ready = prometheus.waits(lambda: _is_ready(prometheus.url))
        assert ready, (folder / "prometheus.log").read_text()
        yield prometheus
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def _configured(folder: Path, targets: Mapping[str, int]) -> Path:
    rules = re.sub(r"\[\d+[mhd]\]", f"[{WINDOW}]", RULES.read_text())
    (folder / RULES.name).write_text(re.sub(r"for: \d+[mh]", "for: 1s", rules))
    configuration: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    interval = f"{SCRAPE_S * 1000:.0f}ms"
    configuration["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
    jobs = {job["job_name"]: job for job in configuration["scrape_configs"]}
    assert set(targets) <= set(jobs)
    configuration["scrape_configs"] = [
        {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for name, port in targets.items()
    ]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(configuration))
    return path


def _is_ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/-/ready").status_code == 200
    except httpx2.TransportError:
        return False
