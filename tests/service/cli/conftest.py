"""The command `caption-service` around the tiny model, in this process and as one of its own."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.cli import main
from tests.service.conftest import PROJECT, Program, environment, running


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def command(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("CAPTION_MODEL", str(tiny_bundle))
    monkeypatch.setenv("CAPTION_PRECISION", "fp32")
    for name in ("THREADS", "WORKERS"):  # what flags set is undone with these
        monkeypatch.setenv(f"CAPTION_{name}", "0")

    def run(*words: object) -> Done:
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
        return Done(code, *capsys.readouterr())

    return run


def process(*words: object, stdin: bytes = b"", **settings: object) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *map(str, words)],
        cwd=PROJECT,
        env=environment(**settings),
        input=stdin,
        capture_output=True,
        timeout=120,
    )


@pytest.fixture(scope="session")
def guarded(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    keys = tmp_path_factory.mktemp("cli") / "keys"
    keys.write_text("the-key")
    with running(model=tiny_bundle, precision="fp32", api_keys_file=keys) as program:
        yield program
