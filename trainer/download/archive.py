"""Zips, unpacked as if a stranger had made them: nothing leaves the target folder or swells without bound.

Each file is written under a temporary name and renamed, so that an unpacking that was killed is simply done again.
"""

import contextlib
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from trainer.download.disk import DiskError, writing

BLOCK = 1 << 20
LARGEST_RATIO = 50
"""How many times the size of its zip the unpacked members may have together; COCO's captions come to 6."""

BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError, struct.error)
"""What Python's zipfile raises over a broken zip."""


class ArchiveError(ValueError):
    """A zip that is broken or must not be unpacked; says which member and why."""


def extract(path: Path, root: Path, pattern: str) -> int:
    """Unpack the members that match (such as `train2017/*.jpg`) below `root`; returns how many there are.

    Those that are there already, byte for byte, are left alone.
    """
    with _opened(path) as archive:
        members = _matching(archive, path, pattern)
        with writing(root):
            (root / pattern).parent.mkdir(parents=True, exist_ok=True)
        total = sum(member.file_size for member in members)
        with tqdm(total=total, unit="B", unit_scale=True, mininterval=1, desc=f"unpacking {path.name}") as bar:
            for member in members:
                target = root / member.filename
                if not _is_there(target, member):
                    _write(archive, member, target)
                bar.update(member.file_size)
    return len(members)


def read_member(path: Path, name: str) -> bytes:
    """One member whole."""
    with _opened(path) as archive:
        return archive.read(_matching(archive, path, name)[0])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (ArchiveError, DiskError):
        raise
    except BROKEN as error:
        raise ArchiveError(f"{path} is not a whole zip: {error}") from error


def _matching(archive: zipfile.ZipFile, path: Path, pattern: str) -> list[zipfile.ZipInfo]:
    """The files that match, after every member has been looked at with suspicion."""
    for member in archive.infolist():
        if objection := _objection(member):
            raise ArchiveError(f"{path} holds {member.orig_filename!r}, which {objection}; nothing was unpacked")
    wanted = PurePosixPath(pattern)
    members = [member for member in archive.infolist() if not member.is_dir() and _matches(member.filename, wanted)]
    if not members:
        raise ArchiveError(f"{path} holds no {pattern}")
    if len({member.filename for member in members}) < len(members):
        raise ArchiveError(f"{path} holds two files of the same name; nothing was unpacked")
    size, limit = sum(member.file_size for member in members), LARGEST_RATIO * path.stat().st_size
    if size > limit:
        raise ArchiveError(f"{path} would unpack to {size} bytes; more than {limit} is taken for a bomb")
    return members


def _matches(name: str, wanted: PurePosixPath) -> bool:
    found = PurePosixPath(name)
    return found.parent == wanted.parent and fnmatchcase(found.name, wanted.name)


def _objection(member: zipfile.ZipInfo) -> str | None:
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or "\\" in name or "\0" in name:
        return "is not a relative path"
    if ".." in PurePosixPath(name).parts:
        return "leaves the folder"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is encrypted or packed in a way unknown here"
    return None


def _is_there(target: Path, member: zipfile.ZipInfo) -> bool:
    if not target.is_file() or target.stat().st_size != member.file_size:
        return False
    checksum = 0
    with target.open("rb") as file:
        while block := file.read(BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum == member.CRC


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """The member's checksum is checked as its last byte is read, before the file gets its name."""
    unfinished = target.with_name(f".{target.name}.part")
    try:
        with archive.open(member) as source, writing(target), unfinished.open("wb") as file:
            while block := source.read(BLOCK):
                file.write(block)
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
