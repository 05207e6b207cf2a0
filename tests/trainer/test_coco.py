import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from trainer.coco import DataError, read_split, swap_sides


@pytest.fixture
def damaged(drawn_data: Path, tmp_path: Path) -> Path:
    """A copy of the drawn data that a test may damage."""
    return Path(shutil.copytree(drawn_data, tmp_path / "data"))


def annotations(data: Path) -> Any:
    return json.loads((data / "annotations" / "captions_val.json").read_text())


def rewrite(data: Path, content: Any) -> None:
    (data / "annotations" / "captions_val.json").write_text(json.dumps(content))


def test_a_whole_split_has_no_problems(drawn_data: Path) -> None:
    split = read_split(drawn_data / "val")
    assert len(split.photos) == 60
    assert split.problems == ()
    assert all(len(photo.captions) == 5 for photo in split.photos)


@pytest.mark.parametrize("way", ["../data/val", "val/../val"])
def test_a_split_may_be_named_by_a_way_up_and_down(way: str, damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(damaged)
    assert read_split(Path(way)).problems == ()


def test_every_problem_is_told_and_the_rest_is_used(damaged: Path) -> None:
    names = sorted(path.name for path in (damaged / "val").iterdir())
    (damaged / "val" / names[0]).unlink()
    (damaged / "val" / names[1]).write_text("not an image")
    content = annotations(damaged)
    content["annotations"].append({"id": 10**9, "image_id": 10**9, "caption": "nobody's"})
    rewrite(damaged, content)
    split = read_split(damaged / "val")
    assert len(split.photos) == 58
    assert [problem for problem in split.problems if f"{names[0]} is missing" in problem]
    assert [problem for problem in split.problems if f"{names[1]} is not a readable image" in problem]
    assert [problem for problem in split.problems if f"caption {10**9} is of image {10**9}" in problem]
    assert len(split.problems) == 3


def test_a_photo_without_captions_is_left_out(damaged: Path) -> None:
    content = annotations(damaged)
    silent = content["images"][0]["id"]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != silent]
    rewrite(damaged, content)
    split = read_split(damaged / "val")
    assert len(split.photos) == 59
    assert "has no caption" in split.problems[0]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train2017 does not exist"):
        read_split(tmp_path / "train2017")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"images": 3}', '{"images": [{}], "annotations": []}', '{"annotations": [{"id": 1}]}']
)
def test_a_file_that_is_not_coco_is_refused(damaged: Path, content: str) -> None:
    (damaged / "annotations" / "captions_val.json").write_text(content)
    with pytest.raises(DataError, match="captions_val.json|no photo to use"):
        read_split(damaged / "val")


def test_file_names_that_leave_the_folder_are_refused(damaged: Path) -> None:
    content = annotations(damaged)
    content["images"][0]["file_name"] = "../train/secret.jpg"
    rewrite(damaged, content)
    assert "../train/secret.jpg" in read_split(damaged / "val").problems[0]


@pytest.mark.parametrize(
    ("caption", "mirrored"),
    [
        ("a dog left of a cat", "a dog right of a cat"),
        ("Left hand, RIGHT hand", "right hand, left hand"),
        ("a leftover on a bright plate", "a leftover on a bright plate"),
        ("the left-most one", "the right-most one"),
    ],
)
def test_mirroring_swaps_left_and_right_as_words(caption: str, mirrored: str) -> None:
    assert swap_sides(caption) == mirrored


@pytest.mark.parametrize(("part", "key"), [("images", "file_name"), ("annotations", "caption")])
def test_an_entry_that_lacks_something_is_one_sentence(drawn_data: Path, tmp_path: Path, part: str, key: str) -> None:
    content = json.loads((drawn_data / "annotations" / "captions_val.json").read_text())
    del content[part][3][key]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "captions_val.json").write_text(json.dumps(content))
    (tmp_path / "val").symlink_to(drawn_data / "val")
    with pytest.raises(DataError, match=f"captions_val.json has an entry without '{key}'; `doctor` tells which"):
        read_split(tmp_path / "val")
