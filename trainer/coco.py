"""A data set in COCO captions layout, read with everything that is wrong with it.

A split is a folder of photos, `ROOT/<split>/*.jpg`, with its captions in `ROOT/annotations/captions_<split>.json`.
"""

import contextlib
import io
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from shared.image import ImageLimits, Preprocessing, read_pixels

FILE_LIMITS = ImageLimits(max_bytes=200_000_000, max_pixels=200_000_000, max_side=60_000)
"""Files of a data set are chosen by who trains; they may be larger than what the service takes from anyone."""


SUBSETS = {"all": (0, 1), "even": (0,), "odd": (1,)}
"""Photos by their ids: what is chosen on one half can be judged on the other."""

logger = logging.getLogger(__name__)


class DataError(ValueError):
    """A data set that cannot be used; says which file and what would be right."""


@dataclass(frozen=True)
class Photo:
    image_id: int
    path: Path
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """A split's photos that can be used, and a sentence for each thing that cannot."""

    photos: tuple[Photo, ...]
    problems: tuple[str, ...]


def read_split(folder: Path) -> Split:
    """The photos of `folder` that have a caption and a readable header; problems are told, not raised."""
    annotations = annotations_of(folder)
    try:
        return _split(folder, annotations)
    except KeyError as error:
        raise DataError(f"{annotations} has an entry without {error}; `doctor` tells which") from error


def subset_of(photos: Sequence[Photo], subset: str) -> list[Photo]:
    """Those with such an id; raises DataError where there is none."""
    chosen = [photo for photo in photos if photo.image_id % 2 in SUBSETS[subset]]
    if not chosen:
        raise DataError(f"none of the {len(photos)} photos has an {subset} image id; take the subset all")
    return chosen


def annotations_of(folder: Path) -> Path:
    """The captions file of a split, which is there, as is `folder`."""
    annotations = folder.parent / "annotations" / f"captions_{folder.name}.json"
    for path in (folder, annotations):
        if not path.exists():
            raise DataError(f"{path} does not exist; a split needs a folder of photos and its captions beside it")
    return annotations


def _split(folder: Path, annotations: Path) -> Split:
    coco = read_coco(annotations)
    captions: dict[int, list[str]] = {image_id: [] for image_id in coco.imgs}
    unknown = [a for a in coco.anns.values() if a["image_id"] not in captions]
    for annotation in coco.anns.values():
        captions.get(annotation["image_id"], []).append(str(annotation["caption"]))
    problems = [
        f"caption {a['id']} is of image {a['image_id']}, which {annotations.name} does not list" for a in unknown
    ]
    photos = []
    for image_id, image in sorted(coco.imgs.items()):
        photo = Photo(image_id, folder / image["file_name"], tuple(captions[image_id]))
        problem = f"{photo.path} has no caption" if not photo.captions else _file_problem(photo.path, folder)
        problems.append(problem) if problem else photos.append(photo)
    if not photos:
        raise DataError(f"{folder} has no photo to use: {problems[0] if problems else 'its captions file lists none'}")
    return Split(tuple(photos), tuple(problems))


def read_coco(annotations: Path) -> Any:
    """pycocotools' view of the file; raises DataError."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints as it reads
            return COCO(str(annotations))
    except (KeyError, TypeError, AssertionError, ValueError) as error:
        raise DataError(f"{annotations} is not a COCO captions file: {type(error).__name__} {error}") from error


def _file_problem(path: Path, folder: Path) -> str | None:
    if is_outside(path, folder):
        return f"{path} is outside its split's folder"
    try:
        with Image.open(path):
            return None
    except FileNotFoundError:
        return f"{path} is missing"
    except (OSError, ValueError, SyntaxError):
        return f"{path} is not a readable image"


def is_outside(path: Path, folder: Path) -> bool:
    """Whether a captions file names a photo that does not lie in its split's folder."""
    return not path.is_relative_to(folder) or ".." in path.relative_to(folder).parts


def tell_problems(problems: Sequence[str], *, strict: bool) -> None:
    """Log what is wrong with the data; with `strict` raise DataError instead of going on without it."""
    if not problems:
        return
    for problem in problems[:20]:
        logger.warning("%s", problem)
    if strict:
        raise DataError(
            f"{len(problems)} problems in the data, the first: {problems[0]}; without --strict-data they are left out"
        )
    logger.warning("%d problems in the data; training goes on without these photos and captions", len(problems))


def swap_sides(caption: str) -> str:
    """The caption of the mirrored photo: left is right and right is left."""
    other = {"left": "right", "right": "left"}
    return re.sub(r"\b(left|right)\b", lambda match: other[match[0].lower()], caption, flags=re.IGNORECASE)


def read_photo(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The photo as the encoder takes it, (S, S, 3); raises InvalidImageError."""
    return read_pixels(path.read_bytes(), preprocessing, FILE_LIMITS)
