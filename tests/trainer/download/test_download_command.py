"""`python -m trainer download` from its flags to its exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trainer.download.coco_mirror import COUNTS, karpathy_dataset, write_karpathy_zip, write_mirror
from tests.trainer.download.file_server import FileServer, serving
from trainer import download
from trainer.__main__ import main
from trainer.coco import read_split

PROJECT = Path(__file__).parents[3]
YEARS = ("2014", "2017")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A mirror of both years, whose table stands in for COCO's."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("RANK", raising=False)
    folder = tmp_path / "mirror"
    monkeypatch.setattr(download, "COCO", {year: write_mirror(folder, year, size=32) for year in YEARS})
    write_karpathy_zip(folder / "caption_datasets.zip", karpathy_dataset(folder / "pictures" / "2014"))
    with serving(folder) as server:
        yield server


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_2017_is_the_default(server: FileServer, tmp_path: Path) -> None:
    assert main(["download", str(tmp_path / "coco"), "--mirror", server.url]) == 0
    assert names(tmp_path / "coco") == ["annotations", "train2017", "val2017"]
    assert len(read_split(tmp_path / "coco" / "train2017").photos) == COUNTS["train"]


def test_both_years_go_together(server: FileServer, tmp_path: Path) -> None:
    years = ["--year", "2017", "--year", "2014"]
    assert main(["download", str(tmp_path / "coco"), "--mirror", server.url, *years]) == 0
    assert names(tmp_path / "coco") == ["annotations", "train2014", "train2017", "val2014", "val2017"]


def test_the_karpathy_split_brings_the_photos_of_2014_alone(server: FileServer, tmp_path: Path) -> None:
    assert main(["download", str(tmp_path / "coco"), "--mirror", server.url, "--karpathy"]) == 0
    splits = ["karpathy_test", "karpathy_train", "karpathy_val"]
    assert names(tmp_path / "coco") == ["annotations", *splits, "train2014", "val2014"]
    assert all(read_split(tmp_path / "coco" / split).photos for split in splits)
    assert server.requests[-1].path == "caption_datasets.zip"


def test_annotations_come_without_photos(server: FileServer, tmp_path: Path) -> None:
    arguments = ["--mirror", server.url, "--karpathy", "--only-annotations"]
    assert main(["download", str(tmp_path / "coco"), *arguments]) == 0
    assert names(tmp_path / "coco") == ["annotations"]
    assert len(names(tmp_path / "coco" / "annotations")) == 5


def test_zips_of_the_users_own_are_unpacked(server: FileServer, tmp_path: Path) -> None:
    assert main(["download", str(tmp_path / "coco"), "--zips", str(server.root), "--karpathy"]) == 0
    assert server.requests == []
    assert len(read_split(tmp_path / "coco" / "karpathy_test").photos) == 1


def test_zips_are_kept_if_asked_for(server: FileServer, tmp_path: Path) -> None:
    assert main(["download", str(tmp_path / "coco"), "--mirror", server.url, "--keep-zips"]) == 0
    assert names(tmp_path / "coco" / "zips") == ["annotations_trainval2017.zip", "train2017.zip", "val2017.zip"]


def test_of_the_processes_of_torchrun_one_downloads(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert main(["download", str(tmp_path / "coco"), "--mirror", server.url]) == 0
    assert not (tmp_path / "coco").exists()
    monkeypatch.setenv("RANK", "0")
    assert main(["download", str(tmp_path / "coco"), "--mirror", server.url]) == 0
    assert (tmp_path / "coco" / "train2017").is_dir()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["--mirror", "ftp://example.org/coco"],
            2,
            "the mirror is 'ftp://example.org/coco'; it must look like https://",
        ),
        (["--mirror", "example.org"], 2, "the mirror is 'example.org'"),
        (["--mirror", "http://"], 2, "the mirror is 'http://'"),
        (["--zips", "/nowhere"], 1, "/nowhere/annotations_trainval2017.zip does not exist"),
    ],
)
def test_bad_input_is_one_sentence_and_an_exit_code(
    server: FileServer,
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["download", str(tmp_path / "coco"), *arguments]) == code
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


def test_a_mirror_that_has_nothing_is_one_sentence(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["download", str(tmp_path / "coco"), "--mirror", f"{server.url}/elsewhere"]) == 1
    assert f"{server.url}/elsewhere/annotations/annotations_trainval2017.zip: it answers 404" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--year", "2015"], ["--mirror", "http://a", "--zips", "b"]])
def test_flags_that_cannot_be_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["download", "data", *arguments])
    assert caught.value.code == 2
    capsys.readouterr()


def test_with_everything_there_the_real_command_asks_nobody_and_is_quick(tmp_path: Path) -> None:
    """COCO's own table and addresses: only the photos are counterfeit, so a request would end in an error."""
    for archive in download.COCO["2017"]:
        file = tmp_path / archive.pattern.replace("*", "1")
        file.parent.mkdir(exist_ok=True)
        file.touch()
        marker = tmp_path / ".download" / f"{archive.name}.json"
        marker.parent.mkdir(exist_ok=True)
        marker.write_text(json.dumps({"md5": archive.md5, "files": {archive.pattern: 1}}))
    command = [sys.executable, "-m", "trainer", "download", str(tmp_path)]
    nobody = {**os.environ, "https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(command, cwd=PROJECT, env=nobody, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"{tmp_path} is complete" in done.stderr
