"""The file of API keys: what may be in it, and what happens when it changes."""

import logging
import os
from pathlib import Path

import pytest

from service.keys import LOOK_AGAIN_S, Keys
from service.settings import SettingsError
from tests.service.clock import Clock


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("# ours\n\nfirst-key\nnightly job:second-key\n")
    return path


def rewritten(path: Path, text: str, clock: Clock) -> None:
    path.write_text(text)
    os.utime(path, ns=(0, int(clock.now)))
    clock.now += LOOK_AGAIN_S


def test_keys_have_owners_and_other_strings_none(file: Path) -> None:
    keys = Keys(file)
    assert keys.owner("second-key") == "nightly job"
    first = keys.owner("first-key")
    assert first
    assert "first-key" not in first
    for wrong in ("", "first", "first-key ", "# ours", "nightly job", "nightly job:second-key", "\u00fc"):
        assert keys.owner(wrong) is None


def test_only_hashes_are_kept(file: Path) -> None:
    assert "second-key" not in repr(vars(Keys(file)))


def test_a_changed_file_counts_without_a_restart(file: Path) -> None:
    clock = Clock()
    keys = Keys(file, clock=clock)
    rewritten(file, "third-key", clock)
    assert keys.owner("third-key")
    assert keys.owner("first-key") is None


@pytest.mark.parametrize("text", ["", "# none yet\n", "a key with spaces\n", "first-key\nname:\n"])
def test_a_file_that_cannot_be_used_later_changes_nothing_and_is_logged_once(
    file: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    keys = Keys(file, clock=clock)
    rewritten(file, text, clock)
    for _ in range(3):
        assert keys.owner("first-key")
        clock.now += LOOK_AGAIN_S
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    rewritten(file, "third-key", clock)
    assert keys.owner("third-key")


def test_a_file_that_vanishes_leaves_the_keys(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    keys = Keys(file, clock=clock)
    file.unlink()
    clock.now += LOOK_AGAIN_S
    assert keys.owner("first-key")
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"# nothing\n", "holds no key"),
        (b"good-key\na b\n", "line 2"),
        (b"job:with:colon\n", "line 1"),
        (b"job:\n", "line 1"),
        ("schl\u00fcssel\n".encode(), "line 1"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_what_is_no_file_of_keys_is_refused_at_the_start(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=words) as refusal:
        Keys(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "good-key" not in str(refusal.value)
