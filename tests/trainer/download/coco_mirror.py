"""A mirror of COCO in small: the same zips at the same places, full of drawn pictures."""

import hashlib
import itertools
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.download import Archive
from trainer.drawing import write_drawn_dataset

COUNTS = {"val": 4, "train": 12}


def write_mirror(root: Path, year: str, *, size: int = 128) -> tuple[Archive, ...]:
    """Zips below `root`, and the table that describes them."""
    pictures = root / "pictures" / year
    write_drawn_dataset(pictures, {f"{split}{year}": count for split, count in COUNTS.items()}, size=size)
    (pictures / "annotations" / f"instances_train{year}.json").write_text("{}")
    folders = {
        f"annotations/annotations_trainval{year}.zip": ("annotations", f"annotations/captions_*{year}.json"),
        f"zips/val{year}.zip": (f"val{year}", f"val{year}/*.jpg"),
        f"zips/train{year}.zip": (f"train{year}", f"train{year}/*.jpg"),
    }
    return tuple(_archive(root, path, pictures / folder, pattern) for path, (folder, pattern) in folders.items())


def _archive(root: Path, path: str, folder: Path, pattern: str) -> Archive:
    files = {f"{folder.name}/{file.name}": file.read_bytes() for file in sorted(folder.iterdir())}
    return archive_of(root, path, {f"{folder.name}/": b"", **files}, pattern)


def archive_of(root: Path, path: str, members: Mapping[str, bytes], pattern: str) -> Archive:
    """A zip of stored members below `root`, and how it is known."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(root / path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    content = (root / path).read_bytes()
    return Archive(path, len(content), hashlib.md5(content).hexdigest(), pattern)


def karpathy_dataset(pictures: Path) -> dict[str, Any]:
    """The drawn pictures of 2014 as dataset_coco.json lists photos: train whole, val as val, test and the rest."""
    splits = itertools.chain(["val", "test"], itertools.repeat("restval"))
    images = []
    for folder in ("train2014", "val2014"):
        content = json.loads((pictures / "annotations" / f"captions_{folder}.json").read_text())
        for image in content["images"]:
            said = [note for note in content["annotations"] if note["image_id"] == image["id"]]
            images.append(
                {
                    "filepath": folder,
                    "filename": image["file_name"],
                    "cocoid": image["id"],
                    "split": "train" if folder == "train2014" else next(splits),
                    "sentences": [{"raw": note["caption"], "sentid": note["id"], "tokens": []} for note in said],
                }
            )
    return {"images": images, "dataset": "coco"}


def write_karpathy_zip(path: Path, dataset: object) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("dataset_flickr8k.json", "{}")
        archive.writestr("dataset_coco.json", json.dumps(dataset))
