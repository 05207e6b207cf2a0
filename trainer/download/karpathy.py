"""The Karpathy split: the 2014 photos of COCO divided as captioning papers divide them, in COCO captions layout.

Its photo folders hold hard links (symbolic ones where the disk has no others), so they take no room.
"""

import errno
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.bundle import sha256
from trainer.download import STATE, Archive, discard, is_complete, mark_complete, obtain
from trainer.download.archive import ArchiveError, read_member
from trainer.download.disk import DiskError, locked, writing
from trainer.download.fetch import PATIENCE, Patience

DATASET = "dataset_coco.json"
SOURCE = Archive("caption_datasets.zip", size=None, md5=None, pattern=DATASET)
"""Nobody publishes a hash of it."""
MIRRORS = ("https://cs.stanford.edu/people/karpathy/deepimagesent",)
SPLIT_OF = {"train": "train", "restval": "train", "val": "val", "test": "test"}
"""Papers learn from `restval`, the rest of val2014, too."""
SPLITS = ("train", "val", "test")
PHOTO_FOLDERS = ("train2014", "val2014")
NO_HARD_LINKS = frozenset({errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
CAPTIONS_PATTERN = "annotations/captions_karpathy_*.json"

logger = logging.getLogger(__name__)


def download_karpathy(
    root: Path,
    *,
    photos: bool = True,
    mirrors: Sequence[str] = MIRRORS,
    zips: Path | None = None,
    keep_zips: bool = False,
    patience: Patience = PATIENCE,
) -> None:
    """Write `karpathy_{train,val,test}` over the 2014 photos below `root`; without `photos` the captions alone."""
    patterns = [CAPTIONS_PATTERN, *(f"karpathy_{split}/*.jpg" for split in SPLITS if photos)]
    if is_complete(root, SOURCE, patterns):
        logger.info("%s has the Karpathy split", root)
        return
    with locked(root / STATE / "lock"):
        if is_complete(root, SOURCE, patterns):
            return
        path = obtain(SOURCE, root, mirrors=mirrors, zips=zips, patience=patience)
        logger.info("%s has the sha256 %s", path.name, sha256(path))
        try:
            split = read_karpathy(path)
        except ArchiveError:
            if zips is None:
                discard(path)
            raise
        files = write_karpathy(root, split, photos=photos)
        mark_complete(root, SOURCE, files)
        if zips is None and not keep_zips:
            discard(path)


def read_karpathy(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The images of each split, checked; raises ArchiveError for a zip that holds something else."""
    try:
        images = json.loads(read_member(path, DATASET))["images"]
        splits: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
        for image in images:
            splits[SPLIT_OF[image["split"]]].append(_checked(image))
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        reason = f"{type(error).__name__} {error}"
        raise ArchiveError(f"{DATASET} in {path} is not the Karpathy split: {reason}") from error
    if not all(splits.values()):
        raise ArchiveError(f"{DATASET} in {path} lacks one of the splits {', '.join(SPLITS)}")
    return splits


def _checked(image: dict[str, Any]) -> dict[str, Any]:
    """What is needed of an image; a TypeError says what is wrong with it."""
    folder, name = image["filepath"], image["filename"]
    if folder not in PHOTO_FOLDERS or Path(name).name != name:
        raise TypeError(f"the photo {folder}/{name} is in neither of {', '.join(PHOTO_FOLDERS)}")
    captions = [(sentence["sentid"], sentence["raw"]) for sentence in image["sentences"]]
    if not captions or not all(isinstance(number, int) and isinstance(text, str) for number, text in captions):
        raise TypeError(f"the photo {name} has the captions {captions!r}")
    if not isinstance(image["cocoid"], int):
        raise TypeError(f"the photo {name} has the number {image['cocoid']!r}")
    return {"id": image["cocoid"], "folder": folder, "file_name": name, "captions": captions}


def write_karpathy(root: Path, splits: dict[str, list[dict[str, Any]]], *, photos: bool) -> dict[str, int]:
    """Links and captions files; returns how many files there are of each pattern."""
    files = {CAPTIONS_PATTERN: len(splits)}
    for split, images in splits.items():
        folder = root / f"karpathy_{split}"
        if photos:
            with writing(folder):
                folder.mkdir(exist_ok=True)
                for image in images:
                    link(root / image["folder"] / image["file_name"], folder / image["file_name"])
            files[f"{folder.name}/*.jpg"] = len(images)
        _write_captions(root / "annotations" / f"captions_{folder.name}.json", images)
    return files


def _write_captions(path: Path, images: Sequence[dict[str, Any]]) -> None:
    content = {
        "info": {"description": f"The Karpathy split of COCO captions: {path.stem.rpartition('_')[2]}"},
        "images": [{"id": image["id"], "file_name": image["file_name"]} for image in images],
        "annotations": [
            {"id": number, "image_id": image["id"], "caption": text}
            for image in images
            for number, text in image["captions"]
        ],
    }
    unfinished = path.with_name(f".{path.name}.part")
    with writing(path):
        path.parent.mkdir(exist_ok=True)
        unfinished.write_text(json.dumps(content))
        unfinished.replace(path)


def link(photo: Path, target: Path) -> None:
    """A second name of a photo."""
    if target.exists():
        return
    if not photo.is_file():
        raise DiskError(f"{photo} is missing, but the Karpathy split names it")
    target.unlink(missing_ok=True)  # a symbolic link to nothing
    try:
        target.hardlink_to(photo)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        target.symlink_to(os.path.relpath(photo, target.parent))
