import json
from pathlib import Path
from typing import Any

import pytest

from shared.vocabulary import UNK_ID, Vocabulary
from tests.trainer.doctor.doctor_damage import (
    DAMAGES,
    OPTIONS,
    Damage,
    copy_bytes,
    draw_data,
    open_split,
    remove_photos,
)
from trainer.__main__ import main
from trainer.coco import read_split
from trainer.doctor import examine, read_listing
from trainer.doctor.findings import RULES
from trainer.drawing import write_drawn_dataset

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return draw_data(tmp_path / "data")


@pytest.fixture(scope="module")
def usual_counts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], int]:
    """What is found in the data before it is damaged, by code and split."""
    data = draw_data(tmp_path_factory.mktemp("clean"))
    findings = examine(data, train=["train"], val=["val"], min_count=2).findings
    return {(f.code, f.split): f.count for f in findings}


def run_doctor(data: Path, capsys: Capture, *options: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["doctor", str(data), "--train", "train", "--val", "val", "--json", "-", *options])
    return code, json.loads(capsys.readouterr().out)


def test_a_clean_data_set_may_be_trained_on(data: Path, capsys: Capture) -> None:
    code, report = run_doctor(data, capsys, *OPTIONS)
    assert code == 0
    assert report["may_train"]
    assert (report["errors"], report["warnings"]) == (0, 0)
    assert {f["code"] for f in report["findings"]} <= {"repeated_caption", "unknown_validation_words"}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.code)
def test_each_damage_is_found_and_weighed(
    damage: Damage, data: Path, usual_counts: dict[tuple[str, str], int], capsys: Capture
) -> None:
    train, val = open_split(data, "train"), open_split(data, "val")
    damage.inflict(train, val)
    train.save()
    val.save()
    code, report = run_doctor(data, capsys, *damage.options)
    [finding] = [f for f in report["findings"] if (f["code"], f["split"]) == (damage.code, damage.split)]
    assert finding["severity"] == damage.severity
    assert finding["count"] == damage.count + usual_counts.get((damage.code, damage.split), 0)
    assert len(finding["examples"]) == min(finding["count"], 5) or damage.code.startswith(("many", "no_", "uneven"))
    assert code == (1 if damage.severity == "error" else 0)
    assert report["may_train"] == (report["errors"] == 0) == (code == 0)


def test_there_is_a_damage_for_everything_that_can_be_found() -> None:
    assert {damage.code for damage in DAMAGES} == set(RULES)
    assert all(damage.severity == RULES[damage.code].severity for damage in DAMAGES)


def test_the_photos_to_use_are_those_that_training_would_use(data: Path) -> None:
    train = open_split(data, "train")
    remove_photos(train, 2)
    train.photo(2).write_text("not an image")
    train.photo(3).write_bytes(train.photo(3).read_bytes()[:700])
    train.content["images"][4]["file_name"] = "../val/000041.jpg"
    train.content["images"][5]["id"] = train.content["images"][6]["id"]
    train.captions(7)[0]["id"] = train.captions(8)[0]["id"]
    train.captions(9)[0]["image_id"] = 10**6
    train.save()
    split = read_split(data / "train")
    listing = read_listing(data / "train", "train", "train")
    headless = [photo for photo in listing.photos if photo.path in (train.photo(0), train.photo(1), train.photo(2))]
    assert len(headless) == 3
    assert sorted(split.photos, key=lambda photo: photo.image_id) == [p for p in listing.photos if p not in headless]
    [numbers] = examine(data, train=["train"]).splits
    assert numbers.photos_usable == len(split.photos) - 1, (
        "training finds the photo that was cut off when it decodes it"
    )
    assert numbers.photos_listed == 40


def test_the_figures_are_those_of_the_vocabulary_that_training_makes(data: Path) -> None:
    diagnosis = examine(data, train=["train"], val=["val"], min_count=30, max_words=7)
    captions = {name: [c for p in read_split(data / name).photos for c in p.captions] for name in ("train", "val")}
    vocabulary = Vocabulary.from_captions(captions["train"], min_count=30)
    assert diagnosis.vocabulary_size == len(vocabulary) - 4
    assert [f.split for f in diagnosis.findings if f.code == "unknown_validation_words"] == ["val"]
    for numbers in diagnosis.splits:
        encoded = [vocabulary.encode(caption) for caption in captions[numbers.split]]
        assert numbers.unknown_words == sum(ids.count(UNK_ID) for ids in encoded) > 0
        assert numbers.words == sum(len(ids) - 2 for ids in encoded)
        assert numbers.cut_captions == sum(len(ids) - 2 > 7 for ids in encoded) > 0


def test_splits_of_several_data_sets_are_told_apart(tmp_path: Path) -> None:
    write_drawn_dataset(tmp_path / "first", {"train": 20}, size=64, seed=1)
    write_drawn_dataset(tmp_path / "second", {"train": 5, "val": 5}, size=64, seed=2)
    diagnosis = examine(tmp_path, train=["first/train", "second/train"], val=["second/val"])
    assert [numbers.split for numbers in diagnosis.splits] == ["first/train", "second/train", "second/val"]
    assert "shared_image_id" not in {f.code for f in diagnosis.findings}


def test_a_leak_names_both_photos_and_only_crossing_sides_is_one(data: Path) -> None:
    train, val = open_split(data, "train"), open_split(data, "val")
    copy_bytes(train.photo(3), val.photo(1))
    [leak] = [f for f in examine(data, train=["train"], val=["val"]).findings if f.severity == "error"]
    assert leak.examples == (f"val/{val.photo(1).name} and train/{train.photo(3).name}",)
    both = examine(data, train=["train", "val"])
    assert both.may_train
    assert [f.count for f in both.findings if f.code == "repeated_photo"] == [1]


def test_a_photo_that_nobody_captioned_is_not_opened(data: Path) -> None:
    train = open_split(data, "train")
    remove_photos(train, 1)
    train.content["annotations"] = train.content["annotations"][5:]
    train.save()
    codes = {f.code for f in examine(data, train=["train"]).findings}
    assert "photo_without_caption" in codes
    assert "missing_photo" not in codes


def test_a_photo_that_is_a_folder_is_told_as_broken(data: Path) -> None:
    photo = open_split(data, "train").photo(0)
    photo.unlink()
    photo.mkdir()
    [broken] = [f for f in examine(data, train=["train"]).findings if f.code == "corrupt_photo"]
    assert broken.examples == (f"train/{photo.name}: Is a directory",)
