"""The captions of drawn pictures are checked against what the pixels show, never against the drawing code."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from trainer.drawing import draw_scene, write_drawn_dataset

COLOURS = {
    "red": (210, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 70, 210),
    "yellow": (235, 205, 40),
    "purple": (140, 50, 170),
}
PHRASE = re.compile(rf"(?:(big|small) )?({'|'.join(COLOURS)}) (circle|square|triangle|star)")
# The part of its bounding box that each shape fills.
FILLED = {"circle": (0.7, 0.86), "square": (0.9, 1.0), "triangle": (0.48, 0.62), "star": (0.25, 0.48)}
SIDE = 192
SCENES = [draw_scene(random.Random(seed), SIDE) for seed in range(150)]


def mask_of(image: Image.Image, colour: str) -> NDArray[np.bool_]:
    distance = np.abs(np.asarray(image).astype(int) - COLOURS[colour]).max(axis=-1)
    return distance <= 30


def centre_of(image: Image.Image, colour: str) -> tuple[float, float]:
    rows, columns = np.nonzero(mask_of(image, colour))
    assert rows.size, f"nothing is {colour}"
    return float(columns.mean()), float(rows.mean())


def background_of(image: Image.Image) -> str:
    corner = np.asarray(image)[:3, :3].mean()
    return "black" if corner < 60 else "grey" if corner < 190 else "white"


def assert_is_there(image: Image.Image, size: str, colour: str, shape: str) -> None:
    mask = mask_of(image, colour)
    x, y = centre_of(image, colour)
    assert mask[round(y), round(x)]
    rows, columns = np.nonzero(mask)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    least, most = FILLED[shape]
    assert least <= mask.sum() / (height * width) <= most
    if size:
        assert (width > 0.23 * SIDE) == (size == "big")


def assert_relation_holds(image: Image.Image, caption: str, colours: list[str]) -> None:
    if not colours:
        return
    xs, ys = zip(*(centre_of(image, colour) for colour in colours), strict=True)
    near = 0.15 * SIDE
    if "to the left of" in caption or "from left to right" in caption:
        assert list(xs) == sorted(xs)
    elif "to the right of" in caption:
        assert xs[0] > xs[1] + near
    elif "above" in caption or "from top to bottom" in caption:
        assert list(ys) == sorted(ys)
    elif "below" in caption:
        assert ys[0] > ys[1] + near
    elif "between" in caption:
        along = xs if np.ptp(xs) > np.ptp(ys) else ys
        assert sorted(along)[1] == along[0]
    elif "in a row" in caption:
        assert np.ptp(ys) < near < np.ptp(xs)
    elif "in a column" in caption:
        assert np.ptp(xs) < near < np.ptp(ys)


def assert_place_holds(image: Image.Image, caption: str, colour: str) -> None:
    x, y = (coordinate / SIDE for coordinate in centre_of(image, colour))
    for words, is_true in {
        "on the left": x < 0.3,
        "on the right": x > 0.7,
        "at the top": y < 0.3,
        "at the bottom": y > 0.7,
        "in the middle": abs(x - 0.5) < 0.1 and abs(y - 0.5) < 0.1,
    }.items():
        assert words not in caption or is_true


def assert_true_of(image: Image.Image, caption: str) -> None:
    phrases = PHRASE.findall(caption)
    for size, colour, shape in phrases:
        assert_is_there(image, size, colour, shape)
    colours = [colour for _, colour, _ in phrases]
    assert_relation_holds(image, caption, colours)
    if len(colours) == 1:
        assert_place_holds(image, caption, colours[0])
    if named := re.search(r"on a (\w+) background", caption):
        assert named[1] == background_of(image)
    if "three" in caption:
        assert sum(mask_of(image, colour).sum() > 50 for colour in COLOURS) == 3


def test_every_caption_is_true_of_its_picture() -> None:
    for image, captions in SCENES:
        for caption in captions:
            assert_true_of(image, caption)


@pytest.mark.parametrize("word", ["left", "right", "above", "top", "red", "circle", "big"])
def test_a_caption_with_one_word_changed_is_found_out(word: str) -> None:
    swap = {"left": "right", "right": "left", "above": "below", "top": "bottom", "red": "blue", "circle": "star"}
    swap["big"] = "small"
    image, caption = next(
        (image, caption)
        for image, captions in SCENES
        for caption in captions
        if word in caption and not ("left" in caption and "right" in caption) and swap[word] not in caption
    )
    with pytest.raises(AssertionError):
        assert_true_of(image, caption.replace(word, swap[word]))


def test_a_scene_has_five_different_captions() -> None:
    assert all(len(set(captions)) == 5 for _, captions in SCENES)


def test_the_vocabulary_is_small_and_all_of_it_is_used() -> None:
    words = {word for _, captions in SCENES for caption in captions for word in caption.replace(",", "").split()}
    assert 35 <= len(words) < 60
    assert words >= {"left", "right", "above", "below", "between", "row", "column", "big", "small", *COLOURS, *FILLED}


def test_one_two_and_three_things_are_drawn() -> None:
    counts = {sum(mask_of(image, colour).sum() > 50 for colour in COLOURS) for image, _ in SCENES}
    assert counts == {1, 2, 3}


def test_a_scene_depends_on_its_random_stream_only() -> None:
    again, captions = draw_scene(random.Random(7), SIDE)
    assert again.tobytes() == SCENES[7][0].tobytes()
    assert captions == SCENES[7][1]
    assert again.tobytes() != SCENES[8][0].tobytes()


def files_of(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("first", 3), ("second", 3), ("other", 4)):
        write_drawn_dataset(tmp_path / name, {"train": 6, "val": 3}, size=48, seed=seed)
    first = files_of(tmp_path / "first")
    assert len(first) == 6 + 3 + 2
    assert first == files_of(tmp_path / "second")
    assert not set(first.values()) & set(files_of(tmp_path / "other").values())


def test_splits_share_no_scene_and_a_longer_split_begins_like_a_shorter_one(tmp_path: Path) -> None:
    write_drawn_dataset(tmp_path / "short", {"train": 4, "val": 4}, size=48)
    write_drawn_dataset(tmp_path / "long", {"val": 8}, size=48)
    train, val, longer = (
        [path.read_bytes() for path in sorted((tmp_path / folder).iterdir())]
        for folder in ("short/train", "short/val", "long/val")
    )
    assert not set(train) & set(val)
    assert longer[:4] == val


def test_the_layout_is_that_of_coco_captions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = {"train": 5, "val": 3, "test": 2}
    write_drawn_dataset(tmp_path, splits, size=64)
    image_ids: list[int] = []
    annotation_ids: list[int] = []
    for split, count in splits.items():
        path = tmp_path / "annotations" / f"captions_{split}.json"
        assert set(json.loads(path.read_text())) == {"info", "licenses", "images", "annotations"}
        coco = COCO(str(path))
        assert len(coco.getImgIds()) == count
        for entry in coco.loadImgs(coco.getImgIds()):
            with Image.open(tmp_path / split / entry["file_name"]) as image:
                assert image.format == "JPEG"
                assert image.size == (entry["width"], entry["height"]) == (64, 64)
            assert len(coco.getAnnIds(imgIds=entry["id"])) == 5
        image_ids += coco.getImgIds()
        annotation_ids += coco.getAnnIds()
    capsys.readouterr()
    assert len(set(image_ids)) == len(image_ids) == 10
    assert len(set(annotation_ids)) == len(annotation_ids) == 50


def test_captions_stay_true_after_jpeg(tmp_path: Path) -> None:
    write_drawn_dataset(tmp_path, {"train": 10}, size=SIDE)
    content = json.loads((tmp_path / "annotations/captions_train.json").read_text())
    names = {entry["id"]: entry["file_name"] for entry in content["images"]}
    for annotation in content["annotations"]:
        with Image.open(tmp_path / "train" / names[annotation["image_id"]]) as image:
            assert_true_of(image, annotation["caption"])
