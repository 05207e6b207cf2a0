"""`python -m service.bulk`: every picture of a folder or a list has one row, whatever happens."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.bulk.progress import with_progress
from shared.bundle import Bundle
from tests.service import pictures
from tests.service.bulk.conftest import Bulk, draw, rows_of
from tests.service.conftest import PROJECT
from tests.service.engines import TroubledEngine


def test_every_picture_of_a_folder_has_its_caption(
    bulk: Bulk, folder: Path, tmp_path: Path, caption_of: Callable[[Path], str], tiny_bundle: Path
) -> None:
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.jpeg").write_bytes(pictures.jpeg())
    assert bulk(folder, "--out", tmp_path / "a.jsonl") == 0
    rows = rows_of(tmp_path / "a.jsonl")
    assert set(rows) == {str(p.relative_to(folder)) for p in folder.rglob("[0-9]*.jpeg")}
    for name, row in rows.items():
        assert row["caption"] == caption_of(folder / name)
        assert row["log_probability"] < 0
        assert row["model"] == Bundle.load(tiny_bundle).version


def test_a_list_names_pictures_line_by_line(bulk: Bulk, folder: Path, tmp_path: Path) -> None:
    names = [str(folder / "00.jpeg"), str(folder / "more" / "01.jpeg")]
    (tmp_path / "list").write_bytes("\r\n".join([*names, "", names[0]]).encode())
    assert bulk(tmp_path / "list", "--out", tmp_path / "a.jsonl") == 0
    assert sorted(rows_of(tmp_path / "a.jsonl")) == sorted(names)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_later_run_captions_only_what_has_no_row(bulk: Bulk, folder: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"a.{ending}"
    assert bulk(folder, "--out", out) == 0
    first = table(out)
    for path in folder.rglob("*.jpeg"):
        path.write_bytes(b"")  # whatever reads one of them again gets an error
    draw(folder / "new", 3)
    assert bulk(folder, "--out", out) == 0
    after = table(out)
    assert after[: len(first)] == first
    assert sorted(row[0] for row in after[len(first) :]) == ["new/00.jpeg", "new/02.jpeg", "new/more/01.jpeg"]


def table(path: Path) -> list[tuple[Any, ...]]:
    if path.suffix == ".parquet":
        return [tuple(row.values()) for row in pq.read_table(path).to_pylist()]
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [tuple(row.values()) for row in csv.DictReader(file)]
    return [tuple(row.values()) for row in rows_of(path).values()]


def without_log_probability(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return row[:2] + row[3:]


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
@pytest.mark.parametrize("cut", [1, 20, 10_000])
def test_a_torn_last_line_is_cut_off_and_its_picture_captioned_again(
    bulk: Bulk, folder: Path, tmp_path: Path, ending: str, cut: int
) -> None:
    out = tmp_path / f"a.{ending}"
    assert bulk(folder, "--out", out) == 0
    whole, rows = out.read_bytes(), sorted(table(out))
    torn = whole[:-cut] or whole[:3]
    out.write_bytes(torn)
    assert bulk(folder, "--out", out) == 0
    again = sorted(table(out))
    assert [without_log_probability(row) for row in again] == [without_log_probability(row) for row in rows]
    assert [float(row[2]) for row in again] == pytest.approx([float(row[2]) for row in rows]), "in another batch"
    assert out.read_bytes().startswith(torn[: torn.rfind(b"\n") + 1])


def test_csv_and_parquet_say_what_jsonl_says(bulk: Bulk, folder: Path, tmp_path: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"none")
    for ending in ("jsonl", "csv", "parquet"):
        assert bulk(folder, "--out", tmp_path / f"a.{ending}") == 3
    rows = rows_of(tmp_path / "a.jsonl")
    with (tmp_path / "a.csv").open(newline="") as file:
        from_csv = {row["file"]: row for row in csv.DictReader(file)}
    from_parquet = {row["file"]: row for row in pq.read_table(tmp_path / "a.parquet").to_pylist()}
    assert set(from_csv) == set(from_parquet) == set(rows)
    for name, row in rows.items():
        assert {key: value for key, value in from_parquet[name].items() if value is not None} == pytest.approx(row)
        assert {key: value for key, value in from_csv[name].items() if value and key != "log_probability"} == {
            key: value for key, value in row.items() if key != "log_probability"
        }
    assert not list(tmp_path.glob("*.rows.jsonl"))


def test_a_picture_that_cannot_be_captioned_is_a_row_that_says_why(
    bulk: Bulk, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTION_MAX_BYTES", "30000")
    monkeypatch.setenv("CAPTION_MAX_PIXELS", "30000")
    bad = {
        "empty": (b"", "empty_image"),
        "text": (b"no picture at all", "unsupported_image"),
        "cut": (pictures.truncated_jpeg(), "undecodable_image"),
        "many-bytes": (bytes(30_001), "too_large"),
        "many-pixels": (pictures.encoded(pictures.scene(0, (200, 160))), "too_large"),
    }
    for name, (data, _) in bad.items():
        (folder / f"{name}.jpg").write_bytes(data)
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "gone.jpg").symlink_to("nowhere")
    assert bulk(folder, "--out", tmp_path / "a.jsonl") == 3
    rows = rows_of(tmp_path / "a.jsonl")
    expected = {f"{name}.jpg": code for name, (_, code) in bad.items()}
    expected |= {"pipe.jpg": "unreadable_file", "gone.jpg": "unreadable_file"}
    assert {name: row["error_code"] for name, row in rows.items() if "error_code" in row} == expected
    assert rows["gone.jpg"]["error_message"] == "No such file or directory"
    assert "limit of 30000" in rows["many-bytes.jpg"]["error_message"]
    assert sum("caption" in row for row in rows.values()) == 20
    assert bulk(folder, "--out", tmp_path / "a.jsonl") == 3, "the errors of an earlier run count, too"


def test_names_that_no_line_can_hold_are_written_out(bulk: Bulk, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in (b"two\nlines.jpg", b"latin-\xe9.jpg", 'caf\u00e9, "so".jpg'.encode()):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(pictures.jpeg())
    names = [r"two\x0alines.jpg", r"latin-\xe9.jpg", 'caf\u00e9, "so".jpg']
    for ending in ("jsonl", "csv", "parquet"):
        for _ in range(2):
            assert bulk(folder, "--out", tmp_path / f"a.{ending}") == 0
        assert sorted(str(row[0]) for row in table(tmp_path / f"a.{ending}")) == sorted(names)


def test_a_run_that_is_killed_is_gone_on_with(folder: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    draw(folder / "many", 400)
    out = tmp_path / "a.jsonl"
    command = [sys.executable, "-m", "service.bulk", str(folder), "--out", str(out)]
    environment = {**os.environ, "CAPTION_MODEL": str(tiny_bundle)}
    killed = subprocess.Popen(command, cwd=PROJECT, env=environment)
    while killed.poll() is None and not (out.exists() and out.stat().st_size):
        time.sleep(0.001)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    before = out.read_bytes()
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    assert len(rows_of(out)) == 420
    assert out.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert f"{before.count(b'{')} had a row already" in done.stderr or not before.endswith(b"\n")
    assert "%" not in done.stderr, "a bar for nobody"


def test_two_runs_do_not_write_one_file(
    bulk: Bulk, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fcntl

    out = tmp_path / "a.jsonl"
    with out.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert bulk(folder, "--out", out) == 1
    assert capsys.readouterr().err == f"another run writes {out}\n"


@pytest.mark.parametrize(
    ("source", "out", "held", "said"),
    [
        ("nothing", "a.jsonl", b"", "is neither a folder nor a readable list: No such file or directory"),
        ("pictures", "a.txt", b"", "its ending must be one of jsonl, csv, parquet"),
        ("pictures", "a.jsonl", b"some words\n", "line 1: b'some words\\n' is not a row of captions"),
        ("pictures", "a.jsonl", b'{"file": "a", "other": 1}\n', "is not a row of captions"),
        ("pictures", "a.jsonl", b'{"file": ["a"]}\n', "is not a row of captions"),
        ("pictures", "a.csv", b"name,words\n", "does not begin with the line file,caption,"),
        ("pictures", "a.csv", b"file,caption,log_probability,model,error_code,error_message\na,b\n", "is not a row"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(
    bulk: Bulk,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: str,
    out: str,
    held: bytes,
    said: str,
) -> None:
    if held:
        (tmp_path / out).write_bytes(held)
    assert bulk(folder.parent / source, "--out", tmp_path / out) == 1
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1
    if held:
        assert (tmp_path / out).read_bytes() == held


def test_a_model_or_a_setting_that_is_wrong_is_told_in_a_sentence(
    bulk: Bulk, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAPTION_MODEL", "/nowhere")
    assert bulk(folder, "--out", tmp_path / "a.jsonl") == 1
    assert capsys.readouterr().err == "CAPTION_MODEL is /nowhere, which is not a folder\n"
    monkeypatch.setenv("CAPTION_MODLE", "x")
    assert bulk(folder, "--out", tmp_path / "a.jsonl") == 2


def test_a_picture_that_breaks_the_engine_is_an_error_alone(
    bulk: Bulk, folder: Path, tmp_path: Path, engine: TroubledEngine
) -> None:
    engine.gate.set()
    (folder / "guilty.png").write_bytes(pictures.encoded(Image.new("RGB", (64, 64), (1, 254, 3)), "PNG"))

    def trouble(images: NDArray[np.uint8]) -> None:
        if any((image == (1, 254, 3)).all() for image in images):
            raise RuntimeError("this colour")

    engine.trouble = trouble
    assert bulk(folder, "--out", tmp_path / "a.jsonl") == 3
    rows = rows_of(tmp_path / "a.jsonl")
    assert rows.pop("guilty.png")["error_message"] == "this colour"
    assert len(rows) == 20
    assert all("caption" in row for row in rows.values())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    done: list[Sequence[int]] = [[1, 2], [3]]
    assert list(with_progress(done, 3, len)) == done
    assert "100%" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
