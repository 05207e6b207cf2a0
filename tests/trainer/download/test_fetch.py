import hashlib
import http.client
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.trainer.download.fetch_scene import CONTENT, MD5, Scene
from tests.trainer.download.file_server import Fault, serving
from trainer.download.fetch import DownloadError, Patience, fetch


def test_a_file_arrives_in_one_request(scene: Scene) -> None:
    scene.fetch()
    assert scene.arrived()
    assert scene.server.ranges() == [None]


def test_a_cut_connection_goes_on_where_it_broke_off(scene: Scene) -> None:
    scene.server.faults["file.zip"] = [Fault(cut_after=100_000), Fault(cut_after=50_000)]
    scene.fetch()
    assert scene.arrived()
    assert scene.server.ranges() == [None, "bytes=100000-", "bytes=150000-"]
    first, *others = [request.if_range for request in scene.server.requests]
    assert first is None
    assert all(other is not None and other.startswith('"') for other in others)


def test_progress_may_go_on_for_more_attempts_than_failures_may(scene: Scene) -> None:
    scene.server.faults["file.zip"] = [Fault(cut_after=20_000)] * 10
    scene.fetch()
    assert scene.arrived()
    assert len(scene.server.requests) == 11


def test_attempts_without_progress_are_few(scene: Scene) -> None:
    scene.server.faults["file.zip"] = [Fault(cut_after=100_000)]
    scene.server.always["file.zip"] = Fault(cut_after=0)
    with pytest.raises(DownloadError, match="after 100000 of 300000 bytes, 3 times in a row"):
        scene.fetch()
    assert len(scene.server.requests) == 4
    assert scene.part.read_bytes() == CONTENT[:100_000]


def test_starting_over_for_ever_is_no_progress(scene: Scene) -> None:
    places = [100_000, 50_000, 90_000, 80_000] * 5
    scene.server.faults["file.zip"] = [Fault(no_ranges=True, cut_after=place) for place in places]
    with pytest.raises(DownloadError, match="3 times in a row"):
        scene.fetch()
    assert len(scene.server.requests) == 4


def test_pauses_grow(scene: Scene) -> None:
    scene.server.always["file.zip"] = Fault(status=503)
    began = time.monotonic()
    with pytest.raises(DownloadError):
        fetch(
            [f"{scene.server.url}/file.zip"],
            scene.target,
            size=len(CONTENT),
            md5=MD5,
            patience=Patience(timeout_s=1, attempts=4, first_wait_s=0.05),
        )
    assert 0.7 <= time.monotonic() - began < 3  # 0.1 + 0.2 + 0.4


def test_a_silent_connection_is_left_and_made_again(scene: Scene) -> None:
    scene.server.faults["file.zip"] = [Fault(hang_after=100_000)]
    scene.fetch()
    assert scene.arrived()
    assert scene.server.ranges() == [None, "bytes=100000-"]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(scene: Scene, status: int) -> None:
    scene.server.faults["file.zip"] = [Fault(status=status)] * 2
    scene.fetch()
    assert scene.arrived()


def test_a_server_without_ranges_starts_over(scene: Scene) -> None:
    scene.server.faults["file.zip"] = [Fault(cut_after=100_000)]
    scene.server.always["file.zip"] = Fault(no_ranges=True)
    scene.fetch()
    assert scene.arrived()
    assert scene.server.ranges() == [None, "bytes=100000-"]


def test_the_partial_file_of_an_earlier_run_is_resumed(scene: Scene) -> None:
    scene.part.parent.mkdir()
    scene.part.write_bytes(CONTENT[:200_000])
    scene.fetch()
    assert scene.arrived()
    assert scene.server.ranges() == ["bytes=200000-"]


@pytest.mark.parametrize("partial", [b"", CONTENT, CONTENT + b"more"])
def test_a_partial_file_of_any_length_becomes_the_file(scene: Scene, partial: bytes) -> None:
    scene.part.parent.mkdir()
    scene.part.write_bytes(partial)
    scene.fetch()
    assert scene.arrived()
    assert scene.server.ranges() == ([] if partial == CONTENT else [None])


def test_a_file_that_changed_meanwhile_is_not_glued_to_the_old_one(scene: Scene) -> None:
    scene.server.faults["file.zip"] = [Fault(cut_after=100_000, wrong_byte=5, etag='"old"')]
    scene.fetch()
    assert scene.arrived()
    assert [request.if_range for request in scene.server.requests] == [None, '"old"']


def test_a_weak_etag_is_not_resumed_by(scene: Scene) -> None:
    scene.server.faults["file.zip"] = [Fault(cut_after=100_000, etag='W/"weak"')]
    scene.fetch()
    assert scene.arrived()
    assert [request.if_range for request in scene.server.requests] == [None, None]


def test_an_etag_is_said_only_to_the_server_that_gave_it(scene: Scene) -> None:
    with serving(scene.server.root) as other:
        other.faults["file.zip"] = [Fault(cut_after=100_000, etag='"theirs"')]
        other.always["file.zip"] = Fault(status=404)
        scene.fetch(other.url, scene.server.url)
    assert scene.arrived()
    assert [(request.range, request.if_range) for request in scene.server.requests] == [("bytes=100000-", None)]


def test_a_file_that_became_shorter_is_started_over(scene: Scene) -> None:
    scene.server.faults["file.zip"] = [Fault(cut_after=100_000), Fault(status=416)]
    scene.fetch()
    assert scene.arrived()
    assert scene.server.ranges() == [None, "bytes=100000-", None]


def test_wrong_bytes_are_fetched_once_more(scene: Scene) -> None:
    scene.server.faults["file.zip"] = [Fault(wrong_byte=1234)]
    scene.fetch()
    assert scene.arrived()
    assert scene.server.ranges() == [None, None]


def test_bytes_that_are_wrong_twice_are_an_error_with_both_hashes(scene: Scene) -> None:
    scene.server.always["file.zip"] = Fault(wrong_byte=1234)
    wrong = bytearray(CONTENT)
    wrong[1234] ^= 1
    with pytest.raises(DownloadError, match=f"{hashlib.md5(wrong).hexdigest()}, and {MD5} would be right"):
        scene.fetch()
    assert len(scene.server.requests) == 2
    assert list(scene.target.parent.iterdir()) == []


@pytest.mark.parametrize("fault", [Fault(), Fault(no_length=True), Fault(cut_after=100_000)])
def test_a_file_that_nobody_knows_beforehand_is_taken_as_it_comes(scene: Scene, fault: Fault) -> None:
    scene.server.faults["file.zip"] = [fault]
    scene.fetch(size=None, md5=None)
    assert scene.arrived()


def test_a_file_without_a_hash_is_not_glued_to_an_earlier_one(scene: Scene) -> None:
    scene.part.parent.mkdir()
    scene.part.write_bytes(b"x" * 1000)
    scene.fetch(size=None, md5=None)
    assert scene.arrived()


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "file.zip").write_bytes(os.urandom(1 << 20) * 48)
    program = f"""
import resource
from pathlib import Path
from trainer.download.fetch import fetch
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fetch(["{{}}/file.zip"], Path({str(tmp_path / "arrived.zip")!r}), size=None, md5=None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    with serving(tmp_path) as server:
        command = [sys.executable, "-c", program.format(server.url)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (tmp_path / "arrived.zip").stat().st_size == 48 << 20
    assert int(done.stdout) < 12_000  # kilobytes


def test_the_server_itself_serves_what_was_asked_for(scene: Scene) -> None:
    """The faults above mean something only if an ordinary client is served well."""
    connection = http.client.HTTPConnection(scene.server.url.removeprefix("http://"))
    connection.request("GET", "/file.zip", headers={"Range": "bytes=299990-"})
    with connection.getresponse() as answer:
        assert (answer.status, answer.read()) == (206, CONTENT[-10:])
    connection.close()
