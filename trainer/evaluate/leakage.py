"""Which photos a model learned from, so that it is never scored on them unawares: facts that travel with its bundle.

A photo is one of them if its bytes are, or if its file name is and a name like that is given once: COCO's numbers and
Flickr's keys are still there when a photo was resized or saved anew. Ids alone prove nothing, for every data set counts
its own from 1, and nor do names that are counters (`0017.jpg`, `frame_000017.png`).
"""

import hashlib
import logging
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from trainer.coco import Photo

TRAINED_ON = "trained_on.safetensors"
METADATA = {
    "hashes": "the first 8 bytes of the SHA-256 of each file, big-endian, signed",
    "names": "the same of each file's name in lower case, less suffix and COCO's prefix; 0 where it proves nothing",
}
COCO_PREFIX = re.compile(r"^coco_(train|val|test)\d{4}_")
COCO_NUMBER = re.compile(r"\d{12}")
PADDING = re.compile(r"(?<!\d)0+(?=\d)")
SHORTEST_KEY = 10
"""Characters, without padding zeros, from which a name is no counter; Flickr's shortest keys have ten digits."""
NO_NAME = 0
EXAMPLES = 3

logger = logging.getLogger(__name__)


class LeakageError(ValueError):
    """Photos that a model learned from among those that it is to be scored on, or a record of them that is broken."""


@dataclass(frozen=True)
class TrainedOn:
    """A row per photo and training split; the same id may stand for photos of different splits."""

    ids: NDArray[np.int64]
    """For people who look a photo up."""
    hashes: NDArray[np.int64]
    names: NDArray[np.int64]
    """Empty in a record without names."""


def photo_hash(data: bytes) -> int:
    """64 bits of the file's SHA-256, as a signed number."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big", signed=True)


def hash_photos(photos: Sequence[Photo]) -> list[int]:
    """Of the files, read by many threads at once."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda photo: photo_hash(photo.path.read_bytes()), photos))


def hash_names(photos: Sequence[Photo]) -> list[int]:
    """`NO_NAME` for a name that may be given twice."""
    return [photo_hash(key.encode()) if (key := _key(photo)) else NO_NAME for photo in photos]


def _key(photo: Photo) -> str | None:
    stem = COCO_PREFIX.sub("", photo.path.stem.lower())
    is_coco_number = COCO_NUMBER.fullmatch(stem) is not None and int(stem) == photo.image_id
    return stem if is_coco_number or len(PADDING.sub("", stem)) >= SHORTEST_KEY else None


def record_trained_on(path: Path, photos: Sequence[Photo], *, before: Path | None = None) -> None:
    """Read the photos' files and write what `leaks` needs to know of them, and of those that the record `before` holds.

    Raises LeakageError where `before` has no record.
    """
    ids, hashes, names = [photo.image_id for photo in photos], hash_photos(photos), hash_names(photos)
    if before:
        earlier = load_trained_on(before)
        if earlier is None:
            raise LeakageError(f"{before / TRAINED_ON} is missing; it says what the weights to start from learned from")
        ids, hashes, names = [*ids, *earlier.ids], [*hashes, *earlier.hashes], [*names, *earlier.names]
    save_trained_on(path, ids, hashes, names)


def save_trained_on(path: Path, ids: Sequence[int], hashes: Sequence[int], names: Sequence[int] = ()) -> None:
    """Write a row per photo. Without `names` only unchanged files will be recognized."""
    columns = {"ids": ids, "hashes": hashes, "names": names}
    save_file({name: np.array(values, dtype=np.int64) for name, values in columns.items()}, path, METADATA)


def load_trained_on(bundle_path: Path) -> TrainedOn | None:
    """None for a bundle without the record; raises LeakageError for one that cannot be read."""
    path = bundle_path / TRAINED_ON
    if not path.exists():
        return None
    try:
        record = TrainedOn(**load_file(path))
    except (OSError, SafetensorError, TypeError) as error:
        raise LeakageError(f"{path} is not a record of photos trained on: {error}") from error
    if any(column.dtype != np.int64 or column.ndim != 1 for column in (record.ids, record.hashes, record.names)):
        raise LeakageError(f"{path} is not a record of photos trained on: its columns must be lists of 64-bit integers")
    return record


def leaks(trained_on: TrainedOn, photos: Sequence[Photo]) -> list[Photo]:
    """Those of `photos` that the model learned from; reads their files."""
    same_bytes = np.isin(np.array(hash_photos(photos), np.int64), trained_on.hashes)
    names = np.array(hash_names(photos), np.int64)
    same_name = np.isin(names, trained_on.names) & (names != NO_NAME)
    return [photo for photo, leaked in zip(photos, same_bytes | same_name, strict=True) if leaked]


def check_leakage(bundle_path: Path, photos: Sequence[Photo], *, force: bool) -> dict[str, Any]:
    """What the report of a score says of leakage; raises LeakageError for leaked photos, unless `force`."""
    trained_on = load_trained_on(bundle_path)
    if trained_on is None:
        logger.warning(
            "%s does not say what it learned from: perhaps from the photos that it is scored on", bundle_path
        )
        return {"leakage": "unknown"}
    leaked = leaks(trained_on, photos)
    if leaked:
        examples = ", ".join(str(photo.path) for photo in leaked[:EXAMPLES])
        problem = f"{bundle_path} learned from {len(leaked)} of the {len(photos)} photos to score, such as {examples}"
        if not force:
            raise LeakageError(f"{problem}; score it on others, or --force a score that flatters")
        logger.warning("%s; its score flatters", problem)
    return {"leaked_photos": len(leaked)}
