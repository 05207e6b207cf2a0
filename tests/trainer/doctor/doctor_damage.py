"""Ways to break a drawn data set, one for each thing that the doctor can find."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from trainer.drawing import write_drawn_dataset

TRAIN, VAL = 40, 20
OPTIONS = ("--min-count", "2", "--workers", "2")


@dataclass(frozen=True)
class Split:
    """A split that can be changed: `content` is its captions file, written back by `save`."""

    data: Path
    name: str
    content: dict[str, Any]

    def save(self) -> None:
        (self.data / "annotations" / f"captions_{self.name}.json").write_text(json.dumps(self.content))

    def photo(self, index: int) -> Path:
        return self.data / self.name / self.content["images"][index]["file_name"]

    def captions(self, index: int) -> list[dict[str, Any]]:
        image_id = self.content["images"][index]["id"]
        return [entry for entry in self.content["annotations"] if entry["image_id"] == image_id]

    def say(self, index: int, caption: object) -> None:
        self.captions(index)[0]["caption"] = caption


def draw_data(folder: Path) -> Path:
    """Scenes that all differ: with another seed two of them may look the same by chance."""
    write_drawn_dataset(folder, {"train": TRAIN, "val": VAL}, size=64, seed=2)
    return folder


def open_split(data: Path, name: str) -> Split:
    return Split(data, name, json.loads((data / "annotations" / f"captions_{name}.json").read_text()))


@dataclass(frozen=True)
class Damage:
    """What is done to the splits, and the one new finding that it must give."""

    code: str
    severity: str
    count: int
    split: str
    inflict: Callable[[Split, Split], object]
    options: Sequence[str] = OPTIONS


def change_pixels(change: Callable[[Image.Image], Image.Image], kind: str = "JPEG", **options: Any) -> Any:
    """The damage of a file whose picture is another one now."""

    def inflict(train: Split, val: Split) -> None:
        with Image.open(train.photo(0)) as image:
            image.load()
        change(image).save(train.photo(0), kind, **options)

    return inflict


def change_caption(caption: object) -> Any:
    return lambda train, val: train.say(0, caption)


def orientation(turn: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    return exif.tobytes()


def copy_bytes(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def compress_again(source: Path, target: Path) -> None:
    with Image.open(source) as image:
        image.resize((160, 160), Image.Resampling.BICUBIC).save(target, "JPEG", quality=70)


def leave_out_captions(split: Split) -> None:
    of_first = split.captions(0)
    split.content["annotations"] = [entry for entry in split.content["annotations"] if entry not in of_first]


def repeat_image_id(split: Split) -> None:
    split.content["images"].append({**split.content["images"][1], "id": split.content["images"][0]["id"]})


def repeat_caption_id(split: Split) -> None:
    split.captions(1)[0]["id"] = split.captions(0)[0]["id"]


def share_image_id(train: Split, val: Split) -> None:
    shared, own = train.content["images"][0]["id"], val.captions(0)
    val.content["images"][0]["id"] = shared
    for entry in own:
        entry["image_id"] = shared


def remove_photos(split: Split, count: int) -> None:
    for index in range(count):
        split.photo(index).unlink()


def say_of_all(split: Split, caption: str, count: int) -> None:
    for index in range(count):
        split.say(index, caption)


def speak_of_animals(split: Split) -> None:
    for entry in split.content["annotations"]:
        entry["caption"] = "zebras devour dandelions"


DAMAGES = [
    Damage("malformed_entry", "error", 1, "train", lambda t, v: t.content["images"].append({"id": 10**6})),
    Damage("malformed_entry", "error", 1, "train", change_caption(None)),
    Damage("no_usable_photo", "error", VAL, "val", lambda t, v: remove_photos(v, VAL)),
    Damage("many_unusable_photos", "error", 3, "train", lambda t, v: remove_photos(t, 3)),
    Damage("leaked_photo", "error", 1, "val", lambda t, v: copy_bytes(t.photo(3), v.photo(0))),
    Damage("leaked_similar_photo", "error", 1, "val", lambda t, v: compress_again(t.photo(3), v.photo(0))),
    Damage("empty_vocabulary", "error", 0, "train", lambda t, v: None, ["--min-count", "100000"]),
    Damage("missing_photo", "warning", 2, "train", lambda t, v: remove_photos(t, 2)),
    Damage("corrupt_photo", "warning", 1, "train", lambda t, v: t.photo(0).write_bytes(t.photo(0).read_bytes()[:700])),
    Damage("corrupt_photo", "warning", 1, "train", lambda t, v: t.photo(0).write_text("not an image")),
    Damage("outside_photo", "warning", 1, "train", lambda t, v: t.content["images"][0].update(file_name="../x.jpg")),
    Damage("outside_photo", "warning", 1, "train", lambda t, v: t.content["images"][0].update(file_name="/x.jpg")),
    Damage("photo_without_caption", "warning", 1, "train", lambda t, v: leave_out_captions(t)),
    Damage("caption_of_unknown_photo", "warning", 1, "train", lambda t, v: t.captions(0)[0].update(image_id=10**6)),
    Damage("repeated_image_id", "warning", 1, "train", lambda t, v: repeat_image_id(t)),
    Damage("repeated_caption_id", "warning", 1, "train", lambda t, v: repeat_caption_id(t)),
    Damage("shared_image_id", "warning", 1, "val", share_image_id),
    Damage("tiny_photo", "warning", 1, "train", change_pixels(lambda image: image.resize((63, 80)))),
    Damage("empty_caption", "warning", 1, "train", change_caption(" \u2003")),
    Damage("wordless_caption", "warning", 1, "train", change_caption("?! ...")),
    Damage("not_language_caption", "warning", 1, "train", change_caption("circle")),
    Damage("huge_caption", "warning", 1, "train", change_caption("a red circle " * 17)),
    Damage("many_unknown_words", "warning", 3 * VAL * 5, "val", lambda t, v: speak_of_animals(v)),
    Damage("many_cut_captions", "warning", VAL * 5, "val", lambda t, v: None, ["--max-words", "2"]),
    Damage("greyscale_photo", "note", 1, "train", change_pixels(lambda image: image.convert("L"))),
    Damage("greyscale_photo", "note", 1, "train", change_pixels(lambda image: image.convert("L").convert("RGB"))),
    Damage("cmyk_photo", "note", 1, "train", change_pixels(lambda image: image.convert("CMYK"))),
    Damage("alpha_photo", "note", 1, "train", change_pixels(lambda image: image.convert("RGBA"), "PNG")),
    Damage("rotated_photo", "note", 1, "train", change_pixels(lambda image: image, exif=orientation(6))),
    Damage("extreme_aspect_photo", "note", 1, "train", change_pixels(lambda image: image.resize((64, 193)))),
    Damage("unlisted_file", "note", 1, "train", lambda t, v: (t.data / "train" / "extra.jpg").write_bytes(b"")),
    Damage("repeated_photo", "note", 1, "train", lambda t, v: copy_bytes(t.photo(3), t.photo(5))),
    Damage("similar_photo", "note", 1, "train", lambda t, v: compress_again(t.photo(3), t.photo(5))),
    Damage("odd_characters_caption", "note", 1, "train", change_caption("a red\ncircle")),
    Damage("odd_characters_caption", "note", 1, "train", change_caption("a\u200bred circle")),
    Damage("repeated_caption", "note", 1, "train", lambda t, v: say_of_all(t, "A lonely zebra.", 10)),
    Damage("uneven_captions", "note", 1, "train", lambda t, v: t.content["annotations"].pop()),
    Damage("unknown_validation_words", "note", 1, "val", lambda t, v: v.say(0, "a red zebra")),
]
