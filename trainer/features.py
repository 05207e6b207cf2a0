"""What the frozen part of an encoder, its trunk, makes of photos: computed once per view, kept on disk, memory-mapped.

The folder's name is a hash of the trunk's weights, the preprocessing and the photos, so a stale cache is never read.
"""

import dataclasses
import hashlib
import json
import logging
import math
import mmap
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from shared.image import InvalidImageError, Preprocessing
from trainer.coco import Photo, read_photo
from trainer.download.disk import require_room
from trainer.export import compile_encoder

BATCH_SIZE = 16
INDEX = "index.json"

logger = logging.getLogger(__name__)


class FeatureCache:
    """Features of photos, half precision; `problems` says why a photo has none."""

    def __init__(self, folder: Path, photos: Sequence[Photo]) -> None:
        index = json.loads((folder / INDEX).read_text())
        self.problems = {photos[int(row)].path: text for row, text in index["problems"].items()}
        self._rows = {photo.path: row for row, photo in enumerate(photos)}
        self._views = [np.load(folder / f"{view}.npy", mmap_mode="r") for view in index["views"]]

    def features(self, photo: Photo, mirrored: bool) -> NDArray[np.float16]:
        """(P, F) of one photo, or (C, h, w) where the trunk is not the whole encoder."""
        view, row = self._views[mirrored], self._rows[photo.path]
        _read_ahead(view, row)
        return view[row]


def _read_ahead(view: "np.memmap[Any, Any]", row: int) -> None:
    """Have the whole row read in one go; page by page, as it is touched, takes ten times as long."""
    mapping, size = view.base, view.strides[0]
    assert isinstance(mapping, mmap.mmap)
    begin = view.offset + row * size
    page = begin - begin % mmap.PAGESIZE
    mapping.madvise(mmap.MADV_WILLNEED, page, begin + size - page)


def cache_features(
    photos: Sequence[Photo], trunk: nn.Module, preprocessing: Preprocessing, root: Path, *, mirror: bool
) -> FeatureCache:
    """The cache of these photos below `root`; computed first where it is not there yet."""
    views = views_of(mirror)
    folder = root / cache_key(photos, trunk, preprocessing, views)
    if not (folder / INDEX).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = folder.with_name(f"{folder.name}.{os.getpid()}.unfinished")
        unfinished.mkdir()
        try:
            _compute(photos, trunk, preprocessing, unfinished, views)
            if not folder.exists():  # another process may have been faster
                unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return FeatureCache(folder, photos)


def views_of(mirror: bool) -> list[str]:
    return ["original", "mirrored"] if mirror else ["original"]


def create_arrays(folder: Path, views: Sequence[str], shape: tuple[int, ...]) -> "list[np.memmap[Any, Any]]":
    """A file of zeros for each view, of that shape, which takes no room until it is written; raises DiskError."""
    size = math.prod(shape) * np.dtype(np.float16).itemsize
    logger.info(
        "features: %s photos x %s half-precision values are %.1f GB a view, %.1f GB with all %d",
        f"{shape[0]:,}",
        " x ".join(map(str, shape[1:])),
        size / 1e9,
        len(views) * size / 1e9,
        len(views),
    )
    require_room(folder, len(views) * size)
    return [np.lib.format.open_memmap(folder / f"{v}.npy", mode="w+", dtype=np.float16, shape=shape) for v in views]


def _compute(
    photos: Sequence[Photo], trunk: nn.Module, preprocessing: Preprocessing, folder: Path, views: list[str]
) -> None:
    encode = compile_encoder(trunk, preprocessing.size)
    example = encode(np.zeros((1, preprocessing.size, preprocessing.size, 3), np.uint8))
    arrays = create_arrays(folder, views, (len(photos), *example.shape[1:]))
    problems: dict[int, str] = {}
    with tqdm(total=len(photos), unit="photo", desc="features", disable=None) as progress:
        for begin, images in _read_batches(photos, preprocessing):
            problems |= {
                begin + i: str(image) for i, image in enumerate(images) if isinstance(image, InvalidImageError)
            }
            rows = [begin + i for i, image in enumerate(images) if isinstance(image, np.ndarray)]
            if rows:
                pixels = np.stack([image for image in images if isinstance(image, np.ndarray)])
                for array, view in zip(arrays, (pixels, pixels[:, :, ::-1]), strict=False):
                    array[rows] = encode(np.ascontiguousarray(view))
            progress.update(len(images))
    for array in arrays:
        array.flush()
    write_index(folder, views, problems)


def write_index(folder: Path, views: Sequence[str], problems: Mapping[int, str]) -> None:
    """The last file of a cache; `problems` says of a photo's number why it has no features."""
    (folder / INDEX).write_text(json.dumps({"views": views, "problems": problems}))


def _read_batches(
    photos: Sequence[Photo], preprocessing: Preprocessing
) -> Iterator[tuple[int, list[NDArray[np.uint8] | InvalidImageError]]]:
    """Decoded photos in batches, each decoded while the one before is encoded."""

    def read(photo: Photo) -> NDArray[np.uint8] | InvalidImageError:
        try:
            return read_photo(photo.path, preprocessing)
        except InvalidImageError as error:
            return error

    with ThreadPoolExecutor(max_workers=2) as pool:
        begins = range(0, len(photos), BATCH_SIZE)
        following = [pool.submit(read, photo) for photo in photos[:BATCH_SIZE]]
        for begin in begins:
            current, following = (
                following,
                [pool.submit(read, photo) for photo in photos[begin + BATCH_SIZE : begin + 2 * BATCH_SIZE]],
            )
            yield begin, [future.result() for future in current]


def cache_key(photos: Sequence[Photo], trunk: nn.Module, preprocessing: Preprocessing, views: Sequence[str]) -> str:
    """The name of the folder that holds these features."""
    digest = hashlib.sha256()
    for name, tensor in trunk.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    listing = [[photo.path.parent.name, photo.path.name, photo.path.stat().st_size] for photo in photos]
    digest.update(json.dumps([dataclasses.asdict(preprocessing), views, listing]).encode())
    return digest.hexdigest()[:16]
