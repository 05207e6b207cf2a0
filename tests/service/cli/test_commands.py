"""`caption-service serve, bulk, check, completion`, and what holds for all of them."""

import itertools
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from service.settings import Settings
from tests.service import pictures
from tests.service.cli.conftest import Command, process
from tests.service.conftest import PROJECT, environment

COMPLETE = 'COMP_WORDS=(caption-service che); COMP_CWORD=1; _shtab_caption_service; echo "${COMPREPLY[@]}"'
COMPLETE_FLAG = (
    "COMPREPLY=(); COMP_WORDS=(caption-service caption --ur); COMP_CWORD=2; _shtab_caption_service; "
    'echo "${COMPREPLY[@]}"'
)


def test_check_tells_the_model_and_the_machine(command: Command, tiny_bundle: Path) -> None:
    done = command("check", tiny_bundle, "--workers", "2")
    assert (done.code, done.err) == (0, "")
    told = dict(re.split(r":\s+", line, maxsplit=1) for line in done.out.splitlines())
    manifest = json.loads((tiny_bundle / "bundle.json").read_text())
    assert tiny_bundle.name in told["model"]
    assert told["files"].startswith(f"{len(manifest['files'])} files, ")
    assert manifest["golden"]["caption"] in told["golden caption"]
    assert told["engine"] == "openvino, fp32, cpu"
    assert told["workers"].startswith("2 on ")


@pytest.mark.parametrize("file", ["weights.safetensors", "golden.png"])
def test_check_refuses_a_bundle_with_a_changed_byte(
    command: Command, tiny_bundle: Path, tmp_path: Path, file: str
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    content = bytearray((bundle / file).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / file).write_bytes(content)
    done = command("check", bundle)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert file in done.err


def test_bulk_is_the_bulk_program(tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(pictures.jpeg())
    (tmp_path / "photos" / "b.jpg").write_bytes(pictures.truncated_jpeg())
    out = tmp_path / "out.jsonl"
    done = process("bulk", tmp_path / "photos", "--out", out, "--model", tiny_bundle)
    assert done.returncode == 3
    assert b"2 pictures in" in done.stderr
    assert {json.loads(line)["file"] for line in out.read_text().splitlines()} == {"a.jpg", "b.jpg"}
    refused = process("bulk", tmp_path, "--out", out, "--ray", "auto", "--copies", tmp_path)
    assert refused.returncode == 2
    assert b"--copies goes without --ray" in refused.stderr


def test_serve_takes_settings_as_flags(tiny_bundle: Path) -> None:
    words = ["serve", "--port", "0", "--max-batch-size", "3", "--model", str(tiny_bundle)]
    service = subprocess.Popen(
        [sys.executable, "-m", "service.cli", *words],
        cwd=PROJECT,
        env=environment(max_batch_size=7),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert service.stdout is not None
    with service.stdout:
        said = list(itertools.takewhile(lambda line: "listening on" not in line, service.stdout))
        service.terminate()
        assert service.wait(30) == 0
    assert "max_batch_size=3 " in "".join(said)


def test_serve_has_a_flag_for_every_setting_and_refuses_what_cannot_be(command: Command) -> None:
    help_text = command("serve", "--help").out
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in help_text
        assert f"CAPTION_{name.upper()}" in help_text
    done = process("serve", "--port", "http")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"CAPTION_PORT is 'http'" in done.stderr
    assert command("serve", "--engine", "abacus").code == 2


def test_bash_completes_commands_and_flags(command: Command, tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(command("completion", "bash").out)
    done = subprocess.run(
        ["bash", "-c", f"source {script}; {COMPLETE}; {COMPLETE_FLAG}"], capture_output=True, text=True, timeout=30
    )
    assert done.stdout.split() == ["check", "--url"], done.stderr


@pytest.mark.parametrize(
    ("package", "words"), [("shtab", ["completion", "bash"]), ("httpx2", ["caption", "a", "--url", "x"])]
)
def test_a_missing_extra_is_one_sentence_with_the_remedy(package: str, words: list[str]) -> None:
    script = f"import sys; sys.modules[{package!r}] = None; from service.cli import main; sys.exit(main({words!r}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "pip install '.[cli]'" in done.stderr


def test_the_help_tells_the_exit_codes(command: Command) -> None:
    done = command("--help")
    assert done.code == 0
    for code in (0, 1, 2, 3, 130):
        assert re.search(rf"^  {code} ", done.out, flags=re.MULTILINE)


def test_the_scripts_that_are_installed_exist() -> None:
    scripts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(scripts) == {"caption-service", "caption-trainer"}
    for target in scripts.values():
        module, _, function = target.partition(":")
        assert callable(getattr(__import__(module, fromlist=[function]), function))
