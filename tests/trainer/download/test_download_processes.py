"""Downloads as processes: killed in the midst, two at once, and one per GPU."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.trainer.download.coco_mirror import COUNTS, write_mirror
from tests.trainer.download.file_server import Fault, FileServer, serving
from trainer.coco import read_split
from trainer.download import Archive

PROJECT = Path(__file__).parents[3]
TRAIN = "zips/train2017.zip"


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Archive, ...]]:
    folder = tmp_path_factory.mktemp("mirror")
    return folder, write_mirror(folder, "2017", size=256)


@pytest.fixture
def server(mirror: tuple[Path, tuple[Archive, ...]], monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "*")
    with serving(mirror[0]) as server:
        yield server


@contextlib.contextmanager
def downloading(root: Path, server: FileServer, archives: tuple[Archive, ...]) -> Iterator["subprocess.Popen[str]"]:
    table = json.dumps([dataclasses.astuple(archive) for archive in archives])
    command = [sys.executable, "-m", "tests.trainer.download.download_process", str(root), server.url, table]
    with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came to this"
        time.sleep(0.01)


def finish(process: "subprocess.Popen[str]") -> str:
    """What it said, after it ended well."""
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return said


def assert_whole(root: Path) -> None:
    for split, count in COUNTS.items():
        read = read_split(root / f"{split}2017")
        assert (len(read.photos), read.problems) == (count, ())
    assert not (root / "zips").exists()


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_a_download_that_was_killed_goes_on_where_it_was(
    server: FileServer, mirror: tuple[Path, tuple[Archive, ...]], tmp_path: Path
) -> None:
    server.faults[TRAIN] = [Fault(hang_after=30_000)]
    part = tmp_path / "zips" / "train2017.zip.part"
    with downloading(tmp_path, server, mirror[1]) as process:
        wait_for(lambda: size(part) > 0)
        process.kill()
        process.wait()
    had = size(part)
    assert part.read_bytes() == (mirror[0] / TRAIN).read_bytes()[:had]
    server.requests.clear()
    with downloading(tmp_path, server, mirror[1]) as process:
        finish(process)
    assert_whole(tmp_path)
    (only,) = server.requests
    assert (only.path, only.range) == (TRAIN, f"bytes={had}-")
    assert only.if_range is not None


def test_an_unpacking_that_was_killed_goes_on_and_asks_nobody(
    server: FileServer, mirror: tuple[Path, tuple[Archive, ...]], tmp_path: Path
) -> None:
    photos = sorted((mirror[0] / "pictures" / "2017" / "train2017").iterdir())
    early, stuck = tmp_path / "train2017" / photos[0].name, tmp_path / "train2017" / f".{photos[5].name}.part"
    stuck.parent.mkdir()
    os.mkfifo(stuck)  # whoever opens it to write waits for a reader, which never comes
    with downloading(tmp_path, server, mirror[1]) as process:
        wait_for((tmp_path / "train2017" / photos[4].name).exists)
        process.kill()
        process.wait()
    assert len(list(stuck.parent.glob("*.jpg"))) == 5
    stuck.unlink()
    inode = early.stat().st_ino
    server.requests.clear()
    with downloading(tmp_path, server, mirror[1]) as process:
        finish(process)
    assert_whole(tmp_path)
    assert early.stat().st_ino == inode
    assert server.requests == []


def test_of_two_at_once_one_downloads_and_the_other_waits(
    server: FileServer, mirror: tuple[Path, tuple[Archive, ...]], tmp_path: Path
) -> None:
    server.faults["zips/val2017.zip"] = [Fault(hang_after=100)]
    with downloading(tmp_path, server, mirror[1]) as first:
        wait_for(lambda: len(server.requests) == 2)
        with downloading(tmp_path, server, mirror[1]) as second:
            assert second.stderr is not None
            assert "another process holds" in second.stderr.readline()
            server.ended.set()
            finish(first)
            finish(second)
    assert_whole(tmp_path)
    paths = [request.path for request in server.requests]
    assert sorted(paths) == sorted([*(archive.path for archive in mirror[1]), "zips/val2017.zip"])


def test_a_lock_dies_with_its_process(
    server: FileServer, mirror: tuple[Path, tuple[Archive, ...]], tmp_path: Path
) -> None:
    server.faults[TRAIN] = [Fault(hang_after=100)]
    with downloading(tmp_path, server, mirror[1]) as first:
        wait_for(lambda: len(server.requests) == 3)
        with downloading(tmp_path, server, mirror[1]) as second:
            assert second.stderr is not None
            assert "another process holds" in second.stderr.readline()
            first.send_signal(signal.SIGKILL)
            finish(second)
    assert_whole(tmp_path)
