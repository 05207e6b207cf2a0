import socket
import subprocess
import sys

import pytest

from tests.trainer.download.fetch_scene import CONTENT, MD5, Scene
from tests.trainer.download.file_server import Fault, serving
from trainer.download.disk import DiskError
from trainer.download.fetch import DownloadError


def test_wrong_bytes_are_not_asked_of_the_same_server_twice(scene: Scene) -> None:
    with serving(scene.server.root) as poisoned:
        poisoned.always["file.zip"] = Fault(wrong_byte=1)
        scene.fetch(poisoned.url, scene.server.url)
        assert len(poisoned.requests) == 1
    assert scene.arrived()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(status=404), "it answers 404 Not Found"),
        (Fault(status=403), "it answers 403"),
        (Fault(extra_length=10), "its file has 300010 bytes; 300000 would be right"),
        (Fault(content_type="text/html; charset=utf-8"), "it answers with a web page"),
        (Fault(redirect="file:///etc/passwd"), "file:///etc/passwd"),
        (Fault(redirect="ftp://127.0.0.1/file.zip"), "neither http nor https"),
    ],
)
def test_a_server_that_has_something_else_is_asked_once_and_then_the_next(
    scene: Scene, fault: Fault, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(scene.server.root) as first:
        first.always["file.zip"] = fault
        scene.fetch(first.url, scene.server.url)
        assert len(first.requests) == 1
    assert scene.arrived()
    assert reason in caplog.text


def test_what_is_there_survives_a_server_that_has_something_else(scene: Scene) -> None:
    scene.part.parent.mkdir()
    scene.part.write_bytes(CONTENT[:200_000])
    with serving(scene.server.root) as portal:
        portal.always["file.zip"] = Fault(no_ranges=True, extra_length=-100)
        scene.fetch(portal.url, scene.server.url)
    assert scene.arrived()
    assert scene.server.ranges() == ["bytes=200000-"]


def test_another_range_than_asked_for_is_refused(scene: Scene) -> None:
    scene.server.faults["file.zip"] = [Fault(cut_after=100_000)]
    scene.server.always["file.zip"] = Fault(wrong_range=True)
    with pytest.raises(DownloadError, match="range 'bytes 100001-299999/300000' when asked for what follows 100000"):
        scene.fetch()


def test_a_redirect_to_another_server_keeps_the_range(scene: Scene) -> None:
    with serving(scene.server.root) as front:
        front.always["file.zip"] = Fault(redirect=f"{scene.server.url}/file.zip")
        scene.server.faults["file.zip"] = [Fault(cut_after=100_000)]
        scene.fetch(front.url)
    assert scene.arrived()
    assert scene.server.ranges() == [None, "bytes=100000-"]


def test_redirects_in_a_circle_end(scene: Scene) -> None:
    scene.server.always["file.zip"] = Fault(redirect="/file.zip")
    with pytest.raises(DownloadError, match="infinite loop"):
        scene.fetch()
    assert len(scene.server.requests) < 20


def test_nobody_listening_falls_to_the_next_address(scene: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    scene.fetch(nobody, scene.server.url)
    assert scene.arrived()


def test_a_server_that_never_answers_is_given_up(scene: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mirror = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DownloadError, match=f"{mirror}/file.zip: timed out, 3 times in a row"):
            scene.fetch(mirror)


def test_when_nobody_has_it_every_reason_is_told(scene: Scene) -> None:
    scene.server.always["file.zip"] = Fault(status=404)
    reasons = r"cannot be downloaded: .*404 Not Found; http://localhost:port/file.zip: nonnumeric port: 'port'$"
    with pytest.raises(DownloadError, match=reasons):
        scene.fetch(scene.server.url, "http://localhost:port")


def test_a_full_disk_is_one_sentence(scene: Scene) -> None:
    scene.part.parent.mkdir()
    scene.part.symlink_to("/dev/full")
    with pytest.raises(DiskError, match="file.zip.part cannot be written: No space left on device; make room"):
        scene.fetch()
    assert len(scene.server.requests) == 1


LIMITED = """
import resource, sys
from collections.abc import Iterator
from pathlib import Path
from trainer.download.fetch import fetch
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    fetch([sys.argv[1]], Path(sys.argv[2]), size=300_000, md5=sys.argv[3])
except ValueError as error:
    sys.exit(str(error))
"""


def test_what_came_before_the_disk_was_full_is_resumed(scene: Scene) -> None:
    arguments = [f"{scene.server.url}/file.zip", str(scene.target), MD5]
    done = subprocess.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "file.zip.part cannot be written: File too large; make room" in done.stderr
    assert "Traceback" not in done.stderr
    assert scene.part.read_bytes() == CONTENT[:100_000]
    scene.fetch()
    assert scene.arrived()
    assert scene.server.ranges() == [None, "bytes=100000-"]
