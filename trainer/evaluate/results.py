"""Captions as files: COCO's results JSON, in and out, and a JSON line per image with all that is known of it."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.coco import Photo


class ResultsError(ValueError):
    """A results file that does not fit its split; names the image."""


def read_results(path: Path, images: Collection[int], wanted: Collection[int]) -> dict[int, str]:
    """The captions of the `wanted` images, from COCO results JSON: [{"image_id": 1, "caption": "a dog"}, ...].

    Raises ResultsError for an image that is not in the split (`images`), comes twice, or is wanted and missing.
    """
    said: dict[int, str] = {}
    for image_id, caption in map(_checked, _entries(path)):
        if image_id in said:
            raise ResultsError(f"{path} has two captions of image {image_id}; it must have one of each")
        said[image_id] = caption
    if strangers := sorted(set(said) - set(images)):
        raise ResultsError(
            f"{path} captions {len(strangers)} images that are not in the split, or not usable, first {strangers[0]}"
        )
    if missing := sorted(set(wanted) - set(said)):
        raise ResultsError(
            f"{path} has no caption of {len(missing)} of the {len(wanted)} images to score, first {missing[0]}"
        )
    return {image_id: said[image_id] for image_id in wanted}


def _entries(path: Path) -> list[Any]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResultsError(f"{path} is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise ResultsError(f"{path} holds a {type(entries).__name__}; COCO results are a list")
    return entries


def _checked(entry: Any) -> tuple[int, str]:
    match entry:
        case {"image_id": int(image_id), "caption": str(caption)} if not isinstance(image_id, bool):
            return image_id, caption
    raise ResultsError(f"a result is {entry!r}; it must look like {{'image_id': 1, 'caption': 'a dog'}}")


def write_results(path: Path, said: Mapping[int, str]) -> None:
    results = [{"image_id": image_id, "caption": caption} for image_id, caption in said.items()]
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def write_per_image(
    path: Path, photos: Sequence[Photo], said: Mapping[int, str], scores: Mapping[int, Mapping[str, float]]
) -> None:
    """JSON lines: image id, file name, caption, references, and every score, times 100."""
    with path.open("w", encoding="utf-8") as lines:
        for photo in photos:
            line = {
                "image_id": photo.image_id,
                "file_name": photo.path.name,
                "caption": said[photo.image_id],
                "references": photo.captions,
                **scores[photo.image_id],
            }
            lines.write(json.dumps(line) + "\n")
