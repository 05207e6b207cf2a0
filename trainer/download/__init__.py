"""COCO's photos and captions, from their zips to COCO captions layout; done once, and cheap to ask for again.

Below the target, `zips/` holds what is being downloaded and `.download/` a lock and a marker for each finished archive.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.download.archive import extract
from trainer.download.disk import existing, locked, require_room, writing
from trainer.download.fetch import PATIENCE, DownloadError, Patience, fetch

MIRRORS = ("https://s3.amazonaws.com/images.cocodataset.org", "http://images.cocodataset.org")
"""The same files twice: with TLS, and under COCO's own name, which has none. What comes is checked by its hash."""
ZIPS, STATE = "zips", ".download"
FILE_OVERHEAD = 1.02
"""What files take on a disk, over what they hold: their last blocks are not full."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Archive:
    """A zip: where it lies below a mirror, how to know it, and which of its members are wanted."""

    path: str
    size: int | None
    md5: str | None
    pattern: str

    @property
    def name(self) -> str:
        return Path(self.path).name


COCO = {
    "2017": (
        Archive(
            "annotations/annotations_trainval2017.zip",
            252907541,
            "f4bbac642086de4f52a3fdda2de5fa2c",
            "annotations/captions_*2017.json",
        ),
        Archive("zips/val2017.zip", 815585330, "442b8da7639aecaf257c1dceb8ba8c80", "val2017/*.jpg"),
        Archive("zips/train2017.zip", 19336861798, "cced6f7f71b7629ddf16f17bbcfab6b2", "train2017/*.jpg"),
    ),
    "2014": (
        Archive(
            "annotations/annotations_trainval2014.zip",
            252872794,
            "0a379cfc70b0e71301e0f377548639bd",
            "annotations/captions_*2014.json",
        ),
        Archive("zips/val2014.zip", 6645013297, "a3d79f5ed8d289b7a7554ce06a5782b3", "val2014/*.jpg"),
        Archive("zips/train2014.zip", 13510573713, "0da8c0bd3d6becc4dcb32757491aca88", "train2014/*.jpg"),
    ),
}
"""The captions first, then the smaller of the photos: what is wrong shows early."""


def download(
    root: Path,
    archives: Sequence[Archive],
    *,
    mirrors: Sequence[str] = MIRRORS,
    zips: Path | None = None,
    keep_zips: bool = False,
    patience: Patience = PATIENCE,
) -> None:
    """Unpack what is missing below `root`, from the folder `zips` if given, else from the first mirror that answers.

    Raises DiskError before anything is fetched if it would not fit; DownloadError, ArchiveError.
    """
    if not _missing(root, archives):
        logger.info("%s is complete", root)
        return
    with locked(root / STATE / "lock"):
        missing = _missing(root, archives)  # fewer, if another process had the lock
        require_room(root, _room_needed(root, missing, zips, keep_zips=keep_zips))
        for archive in missing:
            logger.info("%s is not complete; %s is needed", root / archive.pattern, archive.name)
            path = obtain(archive, root, mirrors=mirrors, zips=zips, patience=patience)
            mark_complete(root, archive, {archive.pattern: extract(path, root, archive.pattern)})
            if zips is None and not keep_zips:
                discard(path)


def obtain(archive: Archive, root: Path, *, mirrors: Sequence[str], zips: Path | None, patience: Patience) -> Path:
    """A zip that is known to be right: the user's own, one that an earlier run left, or a fresh one."""
    if zips is not None:
        return _own_zip(archive, zips)
    path = root / ZIPS / archive.name
    if path.exists():
        problem = _problem(path, archive)
        if problem is None:
            return path
        logger.warning("%s; fetching it again", problem)
        discard(path)
    addresses = [f"{mirror.rstrip('/')}/{archive.path}" for mirror in mirrors]
    fetch(addresses, path, size=archive.size, md5=archive.md5, patience=patience)
    return path


def discard(path: Path) -> None:
    """Delete a zip of ours, and its folder with the last one."""
    path.unlink()
    if not any(path.parent.iterdir()):
        path.parent.rmdir()


def is_complete(root: Path, archive: Archive, patterns: Sequence[str]) -> bool:
    """Whether this archive was unpacked here and no file has gone since; no file is opened for it."""
    try:
        marker = json.loads(_marker(root, archive).read_text())
        files = {pattern: int(marker["files"][pattern]) for pattern in patterns}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    everything = all(len(existing(root, pattern)) >= count for pattern, count in files.items())
    return everything and bool(marker.get("md5") == archive.md5)


def mark_complete(root: Path, archive: Archive, files: Mapping[str, int]) -> None:
    """Remember how many files of each pattern there are, once they are safe on the disk."""
    os.sync()
    marker = _marker(root, archive)
    with writing(marker):
        unfinished = marker.with_name(f"{marker.name}.part")
        unfinished.write_text(json.dumps({"size": archive.size, "md5": archive.md5, "files": dict(files)}) + "\n")
        unfinished.replace(marker)


def _marker(root: Path, archive: Archive) -> Path:
    return root / STATE / f"{archive.name}.json"


def _missing(root: Path, archives: Sequence[Archive]) -> list[Archive]:
    return [archive for archive in archives if not is_complete(root, archive, [archive.pattern])]


def _room_needed(root: Path, archives: Sequence[Archive], zips: Path | None, *, keep_zips: bool) -> int:
    """The most that will come onto the disk at one time; photos are stored in their zips, so each is there twice."""
    kept = most = 0
    for archive in archives:
        size, path = archive.size or 0, root / ZIPS / archive.name
        there = max(_size(path), _size(path.with_name(f"{path.name}.part")))
        zipped = max(0, size - there) if zips is None else 0
        unpacked = sum(entry.stat().st_size for entry in existing(root, archive.pattern))
        files = max(0, int(size * FILE_OVERHEAD) - unpacked)
        most = max(most, kept + zipped + files)
        kept += files + (zipped if keep_zips else 0)
    return most


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _own_zip(archive: Archive, folder: Path) -> Path:
    """A zip of the user's, side by side with others or laid out as on a mirror; a wrong one is left where it is."""
    for path in (folder / archive.name, folder / archive.path):
        if path.is_file():
            if problem := _problem(path, archive):
                raise DownloadError(problem)
            return path
    raise DownloadError(f"{folder / archive.name} does not exist; without --zips it is downloaded")


def _problem(path: Path, archive: Archive) -> str | None:
    size = path.stat().st_size
    if archive.size not in (None, size):
        return f"{path} has {size} bytes; {archive.size} would be right"
    if archive.md5 is not None:
        logger.info("checking %s", path)
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if md5 != archive.md5:
            return f"{path} has the MD5 {md5}; {archive.md5} would be right"
    return None
