"""What a photo's file holds once it is decoded, and which photos are one and the same.

Two photos look the same when their difference hashes are near and their miniatures differ nowhere by much. The hash
only finds candidates, so that no split is compared with itself pair by pair; the miniatures decide. A copy that was
resized or compressed again is found; one that was cropped, mirrored or made much brighter is not, nor is the next shot
of a burst.
"""

import hashlib
import io
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from tqdm import tqdm

from shared.image import InvalidImageError, read_image
from trainer.coco import FILE_LIMITS
from trainer.doctor.findings import Symptom

TINY_SIDE, EXTREME_ASPECT, COLOURLESS = 64, 3.0, 3
"""Pixels; the longer side over the shorter; levels of 255 that the channels of a photo without colour may differ by."""
HASH_DISTANCE, BRIGHTER_BY = 5, 2.0
"""Bits that the hashes of two copies may differ in; levels of 255, so that a flat area has no bits of noise."""
MINIATURE_SIDE, MINIATURE_DIFFERENCE = 16, 16
"""Levels of 255, in any cell and channel. Copies in JPEG at quality 30 reach 10; other photos start at 80."""
SMALL_SIDE = 128
"""Pixels that a photo is brought near to before its miniature is made."""
CHUNK = 1024
"""Photos or pairs that are worked on at once, so that memory stays bounded."""
LUMA = np.array([0.299, 0.587, 0.114])


class PhotoFacts(NamedTuple):
    """`symptoms` are codes with a detail; the rest is empty where there is no picture."""

    symptoms: tuple[Symptom, ...]
    sha256: bytes = b""
    fingerprint: bytes = b""
    miniature: bytes = b""

    @property
    def is_readable(self) -> bool:
        return bool(self.miniature)


class Twin(NamedTuple):
    """A photo is the same as an earlier one; both are named by their place in the list."""

    later: int
    earlier: int
    is_exact: bool


def examine_photos(paths: Sequence[Path], *, workers: int) -> list[PhotoFacts]:
    """Decodes every photo in `workers` threads, and keeps none of them."""
    facts: list[PhotoFacts] = []
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(paths), unit="photo", desc="photos") as progress,
    ):
        for begin in range(0, len(paths), CHUNK):
            for found in pool.map(examine_photo, paths[begin : begin + CHUNK]):
                facts.append(found)
                progress.update()
    return facts


def examine_photo(path: Path) -> PhotoFacts:
    try:
        data = path.read_bytes()
        image = read_image(data, FILE_LIMITS)
    except (FileNotFoundError, NotADirectoryError):
        return PhotoFacts((("missing_photo", ""),))
    except InvalidImageError as error:
        return PhotoFacts((("corrupt_photo", str(error)),))
    except (OSError, ValueError) as error:  # no right to read it, a folder, a name that no file can have
        return PhotoFacts((("corrupt_photo", getattr(error, "strerror", None) or str(error)),))
    small = image.reduce(max(1, min(image.size) // SMALL_SIDE))  # once over the pixels; the rest costs nothing
    miniature = small.resize((MINIATURE_SIDE, MINIATURE_SIDE), Image.Resampling.BOX)
    symptoms = (*_header_symptoms(data), *_pixel_symptoms(image.size, np.asarray(miniature)))
    return PhotoFacts(symptoms, hashlib.sha256(data).digest(), fingerprint(small), miniature.tobytes())


def _header_symptoms(data: bytes) -> list[Symptom]:
    """What `read_image` evens out: the caption is of the upright picture, over white, in RGB."""
    try:
        with Image.open(io.BytesIO(data)) as header:
            orientation = header.getexif().get(ExifTags.Base.Orientation, 1)
            marks = {
                "cmyk_photo": header.mode == "CMYK",
                "alpha_photo": header.has_transparency_data,
                "rotated_photo": orientation in range(2, 9),
            }
    except Exception:  # the pixels were read; Pillow throws many types at nonsense beside them
        return []
    details = {"rotated_photo": f"EXIF orientation {orientation}"}
    return [(code, details.get(code, "")) for code, is_so in marks.items() if is_so]


def _pixel_symptoms(size: tuple[int, int], miniature: NDArray[np.uint8]) -> Iterator[Symptom]:
    width, height = size
    if np.ptp(miniature, axis=-1).max() <= COLOURLESS:
        yield "greyscale_photo", ""
    if min(size) < TINY_SIDE:
        yield "tiny_photo", f"{width} x {height}"
    if max(size) > EXTREME_ASPECT * min(size):
        yield "extreme_aspect_photo", f"{width} x {height}"


def fingerprint(image: Image.Image) -> bytes:
    """A difference hash, 64 bits: where a cell of the 9 x 8 miniature is brighter than its right neighbour."""
    grey = np.asarray(image.resize((9, 8), Image.Resampling.BOX)) @ LUMA
    return np.packbits(grey[:, :-1] - grey[:, 1:] > BRIGHTER_BY).tobytes()


def find_twins(facts: Sequence[PhotoFacts], roles: Sequence[str]) -> Iterator[Twin]:
    """For each photo the first of every role before it that is the same, byte for byte if there is one such."""
    looks: dict[bytes, int] = {}
    look_of = [looks.setdefault(fact.fingerprint + fact.miniature, len(looks)) for fact in facts]
    near, every_role = _near_looks(list(looks)), dict.fromkeys(roles)
    by_bytes: dict[tuple[str, bytes], int] = {}
    by_look: dict[tuple[str, int], int] = {}
    for index, (fact, look, role) in enumerate(zip(facts, look_of, roles, strict=True)):
        if not fact.is_readable:
            continue
        for other in every_role:
            exact = by_bytes.get((other, fact.sha256))
            similar = [by_look[other, same] for same in (look, *near[look]) if (other, same) in by_look]
            if exact is not None or similar:
                yield Twin(index, min(similar) if exact is None else exact, exact is not None)
        by_bytes.setdefault((role, fact.sha256), index)
        by_look.setdefault((role, look), index)


def _near_looks(looks: Sequence[bytes]) -> defaultdict[int, set[int]]:
    """`looks` are a fingerprint and a miniature, one after the other; the empty look of a broken photo is near none."""
    near: defaultdict[int, set[int]] = defaultdict(set)
    whole = [index for index, look in enumerate(looks) if look]
    rows = np.frombuffer(b"".join(looks[index] for index in whole), np.uint8).reshape(len(whole), -1 if whole else 8)
    hashes = np.ascontiguousarray(rows[:, :8]).view(np.uint64).ravel()
    for pairs in near_pairs(hashes, HASH_DISTANCE):
        for some in np.array_split(pairs, -(-len(pairs) // CHUNK)):
            first, second = (rows[side, 8:].astype(np.int16) for side in some.T)
            is_same = np.abs(first - second).max(axis=1) <= MINIATURE_DIFFERENCE
            for left, right in some[is_same].tolist():
                near[whole[left]].add(whole[right])
                near[whole[right]].add(whole[left])
    return near


def near_pairs(hashes: NDArray[np.uint64], distance: int) -> Iterator[NDArray[np.intp]]:
    """Arrays (N, 2) of the pairs of hashes that differ in at most `distance` bits; a pair may come more than once.

    Cut into distance + 1 bands, such hashes agree wholly in one of them at least: only photos that share a band meet.
    """
    for band in _bands(hashes, distance + 1):
        order = np.argsort(band, kind="stable")
        sorted_band, sorted_hashes = band[order], hashes[order]
        left = np.arange(len(order))
        for step in range(1, len(order)):
            left = left[left < len(order) - step]
            left = left[sorted_band[left] == sorted_band[left + step]]
            if not left.size:
                break
            differing = np.bitwise_count(sorted_hashes[left] ^ sorted_hashes[left + step])
            if (near := left[differing <= distance]).size:
                yield np.stack([order[near], order[near + step]], axis=1)


def _bands(hashes: NDArray[np.uint64], count: int) -> Iterable[NDArray[Any]]:
    edges = np.linspace(0, 64, count + 1).astype(int)
    for low, high in itertools.pairwise(edges):
        yield (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
