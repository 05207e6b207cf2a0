"""`caption-service caption`: what is printed where, and how it ends."""

import csv
import io
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service.client import CaptionClient
from shared.bundle import Bundle
from tests.service import pictures
from tests.service.cli.conftest import Command, process
from tests.service.conftest import PROJECT, Program


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(pictures.jpeg())
    return path


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Five, the third of them broken."""
    found = [tmp_path / f"{number}.jpg" for number in range(5)]
    for number, path in enumerate(found):
        path.write_bytes(pictures.truncated_jpeg() if number == 2 else pictures.jpeg(number))
    return found


@pytest.fixture(params=["here", "at a service"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The flags that say so."""
    if request.param == "here":
        return []
    guarded: Program = request.getfixturevalue("guarded")
    monkeypatch.setenv("CAPTION_API_KEY", "the-key")
    monkeypatch.delenv("CAPTION_MODEL")
    return ["--url", guarded.url]


def test_one_picture_prints_its_caption_alone(
    command: Command, where: list[str], photo: Path, guarded: Program
) -> None:
    with CaptionClient(guarded.url, api_key="the-key") as client:
        expected = client.caption(photo).caption
    done = command("caption", photo, *where)
    assert (done.code, done.out, done.err) == (0, f"{expected}\n", "")


def test_many_are_printed_in_the_order_of_the_command_and_failures_told(
    command: Command, where: list[str], photos: list[Path], tmp_path: Path
) -> None:
    absent = tmp_path / "absent.jpg"
    done = command("caption", *photos, absent, photos[0], *where)
    assert done.code == 3
    lines = [line.partition(": ") for line in done.out.splitlines()]
    assert [name for name, _, _ in lines] == [str(photos[number]) for number in (0, 1, 3, 4, 0)]
    assert all(caption for _, _, caption in lines)
    assert lines[0] == lines[-1]
    broken, missing = sorted(done.err.splitlines())
    assert broken.startswith(f"{photos[2]}: the ")
    assert missing == f"{absent}: No such file or directory"


def test_json_and_csv_have_a_row_for_each_candidate_and_each_failure(
    command: Command, where: list[str], photos: list[Path], tiny_bundle: Path
) -> None:
    told = command("caption", *photos, "--json", "--n", "2", *where)
    rows = [json.loads(line) for line in told.out.splitlines()]
    assert [row["file"] for row in rows] == [str(photos[number]) for number in (0, 0, 1, 1, 2, 3, 3, 4, 4)]
    assert rows[4]["error_code"] == "undecodable_image"
    assert rows[0]["log_probability"] >= rows[1]["log_probability"]
    assert rows[0]["model"] == Bundle.load(tiny_bundle).version
    tabled = command("caption", *photos, "--csv", "--n", "2", *where)
    found = [{k: v for k, v in row.items() if v} for row in csv.DictReader(io.StringIO(tabled.out))]
    assert found == [{k: str(v) for k, v in row.items()} for row in rows]


def test_explain_draws_what_the_model_looked_at(
    command: Command, where: list[str], photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "seen.png"
    assert command("caption", photo, "--explain", out, *where).code == 0
    with Image.open(out) as image:
        assert image.format == "PNG"
        assert image.width > 200


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["photo.jpg", "--n", "9"], "--n is 9; it must be from 1 to"),
        (["photo.jpg", "--beam-size", "6"], "--beam-size is 6; it must be from 1 to 5"),
        (["."], ". is a folder; `caption-service bulk . --out captions.jsonl` takes it"),
        (["photo.jpg", "photo.jpg", "--explain", "a.png"], "--explain draws one picture"),
        (["photo.jpg", "--explain", "absent/a.png"], "there is no folder absent"),
        (["photo.jpg", "--url", "localhost:8000"], "must be like http://localhost:8000"),
        (["photo.jpg", "--threads", "many"], "CAPTION_THREADS is 'many'"),
        (["photo.jpg", "--json", "--csv"], "not allowed with argument"),
        ([], "required: PICTURE"),
    ],
)
def test_wrong_arguments_are_told_in_words(
    command: Command, photo: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(photo.parent)
    if "--url" in words:
        monkeypatch.delenv("CAPTION_MODEL")
    done = command("caption", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_model_that_is_none_is_told(command: Command, photo: Path, tmp_path: Path) -> None:
    done = command("caption", photo, "--model", tmp_path / "absent")
    assert done.code == 1
    assert done.err == f"caption-service: CAPTION_MODEL is {tmp_path / 'absent'}, which is not a folder\n"


def test_where_no_service_answers_one_sentence_says_so(
    command: Command, photos: list[Path], monkeypatch: pytest.MonkeyPatch, guarded: Program
) -> None:
    monkeypatch.delenv("CAPTION_MODEL")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = command("caption", *photos, "--url", f"http://127.0.0.1:{port}")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "`caption-service serve` starts one" in done.err
    done = command("caption", *photos, "--url", guarded.url, "--api-key", "wrong")
    assert (done.code, done.out, done.err) == (1, "", "caption-service: this key is not known here\n")


def test_a_picture_may_be_piped_in(photo: Path, tiny_bundle: Path) -> None:
    settings: dict[str, Any] = {"model": tiny_bundle, "precision": "fp32"}
    piped = process("caption", "-", stdin=photo.read_bytes(), **settings)
    assert (piped.returncode, piped.stderr) == (0, b"")
    assert piped.stdout == process("caption", photo, **settings).stdout
    assert piped.stdout.strip()


def test_captioning_loads_neither_web_framework_nor_torch(photo: Path) -> None:
    script = (
        "import sys; from service.cli import main; code = main(sys.argv[1:]); "
        "print(code, *sorted({'fastapi', 'starlette', 'httpx2', 'torch', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "caption", photo], capture_output=True, cwd=PROJECT, timeout=120
    )
    assert done.stderr == b"0\n"
