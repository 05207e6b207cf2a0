"""The disk a data set is written to: its room, one writer at a time, and a full disk told in one sentence."""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

logger = logging.getLogger(__name__)


class DiskError(ValueError):
    """A disk that has no room or cannot be written; says where and how much is missing."""


def require_room(folder: Path, needed: int) -> None:
    """Raise DiskError unless `needed` bytes are free where `folder` is."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskError(f"{folder} needs {_bytes(needed)} free, but its disk has {_bytes(free)}")


def _bytes(count: int) -> str:
    return f"{count:,} bytes ({count / 1e9:.1f} GB)"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn any OSError of the block into a DiskError that names `path`."""
    try:
        yield
    except OSError as error:
        advice = "; make room and run the same command again, what is whole is kept" if error.errno in FULL else ""
        raise DiskError(f"{path} cannot be written: {error.strerror or error}{advice}") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; while another process holds it, wait."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("another process holds %s; waiting for it to end", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def existing(root: Path, pattern: str) -> list["os.DirEntry[str]"]:
    """The files below `root` that match a pattern such as `train2017/*.jpg`; quick with a hundred thousand of them."""
    folder, name = str(PurePosixPath(pattern).parent), PurePosixPath(pattern).name
    try:
        with os.scandir(root / folder) as entries:
            return [entry for entry in entries if fnmatchcase(entry.name, name)]
    except FileNotFoundError:
        return []
