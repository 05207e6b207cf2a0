import logging
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from trainer.coco import Photo, read_split
from trainer.drawing import draw_scene
from trainer.evaluate.leakage import (
    TRAINED_ON,
    LeakageError,
    TrainedOn,
    check_leakage,
    hash_names,
    hash_photos,
    leaks,
    load_trained_on,
    photo_hash,
    record_trained_on,
    save_trained_on,
)


def drawn(path: Path, image_id: int, *, seed: int, size: int = 64) -> Photo:
    """A picture, the same for a seed but for its size and format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_scene(random.Random(seed), 128)[0].resize((size, size)).save(path)
    return Photo(image_id, path, ("a caption",))


def learned(folder: Path, *photos: Photo) -> TrainedOn:
    record_trained_on(folder / TRAINED_ON, photos)
    found = load_trained_on(folder)
    assert found is not None
    return found


def test_the_hash_is_the_first_64_bits_of_sha256() -> None:
    assert photo_hash(b"") == 0xE3B0C44298FC1C14 - 2**64
    assert photo_hash(b"abc") == 0xBA7816BF8F01CFEA - 2**64


def test_every_photo_is_hashed_in_order(tmp_path: Path) -> None:
    photos = [drawn(tmp_path / f"{n}.jpg", n, seed=n) for n in range(20)]
    assert hash_photos(photos) == [photo_hash(photo.path.read_bytes()) for photo in photos]


def test_the_record_comes_back_with_ids_that_clash(tmp_path: Path) -> None:
    save_trained_on(tmp_path / TRAINED_ON, [7, 7, 2**40], [-(2**63), 2**63 - 1, 5], [0, 1, -1])
    found = load_trained_on(tmp_path)
    assert found is not None
    assert (found.ids.tolist(), found.hashes.tolist()) == ([7, 7, 2**40], [-(2**63), 2**63 - 1, 5])
    assert found.names.tolist() == [0, 1, -1]


def test_the_same_bytes_are_the_same_photo_under_any_name_and_id(tmp_path: Path) -> None:
    photo = drawn(tmp_path / "a" / "1.jpg", 1, seed=1)
    copy = Photo(99, tmp_path / "b.jpg", ("else",))
    copy.path.write_bytes(photo.path.read_bytes())
    other = drawn(tmp_path / "c.jpg", 1, seed=2)
    assert leaks(learned(tmp_path, photo), [copy, other]) == [copy]


@pytest.mark.parametrize(
    ("trained", "scored", "scored_id"),
    [
        ("000000000042.jpg", "000000000042.png", 42),
        ("000000000042.jpg", "COCO_train2014_000000000042.jpg", 42),
        ("000000000042.jpg", "COCO_val2014_000000000042.JPG", 42),
        ("2513260012_03d33305cf.jpg", "2513260012_03D33305CF.png", 42),
        ("2513260012_03d33305cf.jpg", "2513260012_03d33305cf.jpg", 5),
        ("1000092795.jpg", "1000092795.jpg", 6),
    ],
)
def test_a_photo_saved_anew_is_known_by_a_name_that_is_given_once(
    tmp_path: Path, trained: str, scored: str, scored_id: int
) -> None:
    record = learned(tmp_path, drawn(tmp_path / "train" / trained, 42, seed=1))
    smaller = drawn(tmp_path / "val" / scored, scored_id, seed=1, size=32)
    assert leaks(record, [smaller]) == [smaller]


@pytest.mark.parametrize(
    ("trained", "scored", "scored_id"),
    [
        ("2513260012_03d33305cf.jpg", "000000000042.jpg", 42),  # of another data set, with the same id
        ("000000000042.jpg", "000000000043.jpg", 43),
        ("000042.jpg", "000042.jpg", 42),
        ("frame_000000042.jpg", "frame_000000042.jpg", 42),
        ("000000042.jpg", "000000042.jpg", 42),
        ("123456789.jpg", "123456789.jpg", 42),
        ("000000000042.jpg", "000000000042.jpg", 17),  # twelve digits, but not COCO's numbers
    ],
)
def test_neither_an_id_nor_a_counter_makes_two_photos_one(
    tmp_path: Path, trained: str, scored: str, scored_id: int
) -> None:
    record = learned(tmp_path, drawn(tmp_path / "train" / trained, 42, seed=1))
    assert leaks(record, [drawn(tmp_path / "val" / scored, scored_id, seed=2)]) == []


def test_without_names_only_unchanged_files_are_known(tmp_path: Path) -> None:
    photo = drawn(tmp_path / "train" / "000000000042.jpg", 42, seed=1)
    save_trained_on(tmp_path / TRAINED_ON, [42], hash_photos([photo]))
    record = load_trained_on(tmp_path)
    assert record is not None
    assert leaks(record, [photo, drawn(tmp_path / "val" / "000000000042.jpg", 42, seed=1, size=32)]) == [photo]


def test_a_split_is_told_from_the_one_beside_it(drawn_data: Path, tmp_path: Path) -> None:
    train, val = (read_split(drawn_data / name).photos for name in ("train", "val"))
    record = learned(tmp_path, *train)
    assert leaks(record, val) == []
    assert leaks(record, [*val, train[3]]) == [train[3]]


def test_a_bundle_without_the_record_is_told_and_scored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photo = drawn(tmp_path / "1.jpg", 1, seed=1)
    assert load_trained_on(tmp_path) is None
    assert check_leakage(tmp_path, [photo], force=False) == {"leakage": "unknown"}
    assert "does not say what it learned from" in caplog.text


def test_leaked_photos_are_refused_by_number_and_name_unless_forced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = [drawn(tmp_path / f"{n}.jpg", n, seed=n) for n in range(6)]
    record_trained_on(tmp_path / TRAINED_ON, photos[:4])
    with pytest.raises(LeakageError, match=r"learned from 4 of the 6 photos to score, such as \S+0.jpg, \S+1.jpg, \S+"):
        check_leakage(tmp_path, photos, force=False)
    with caplog.at_level(logging.WARNING):
        assert check_leakage(tmp_path, photos, force=True) == {"leaked_photos": 4}
    assert "its score flatters" in caplog.text
    assert check_leakage(tmp_path, photos[4:], force=False) == {"leaked_photos": 0}


def test_a_broken_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / TRAINED_ON).write_bytes(b"not tensors")
    with pytest.raises(LeakageError, match="trained_on.safetensors is not a record of photos trained on"):
        load_trained_on(tmp_path)


@pytest.mark.parametrize(
    "columns",
    [
        {"ids": np.zeros(2, np.int64)},
        {name: np.zeros(2, np.int32) for name in ("ids", "hashes", "names")},
        {name: np.zeros((2, 2), np.int64) for name in ("ids", "hashes", "names")},
        {name: np.zeros(2, np.int64) for name in ("ids", "hashes", "names", "more")},
    ],
)
def test_a_record_with_other_columns_is_refused(tmp_path: Path, columns: dict[str, np.ndarray]) -> None:
    save_file(columns, tmp_path / TRAINED_ON)
    with pytest.raises(LeakageError, match="is not a record of photos trained on"):
        load_trained_on(tmp_path)


def test_real_data_sets_are_told_apart_and_resized_copies_are_known(real_data: Path, tmp_path: Path) -> None:
    coco = read_split(real_data / "coco-sample" / "train2017").photos
    flickr, held_out = (read_split(real_data / "flickr8k" / name).photos for name in ("train", "val"))
    assert all(hash_names([*coco, *flickr])), "every name is given once"
    record = learned(tmp_path, *coco, *flickr[:1000])
    assert leaks(record, held_out) == []
    copies = [Photo(photo.image_id, tmp_path / f"{photo.path.stem}.png", ()) for photo in [*coco[:5], *flickr[:5]]]
    for photo, copy in zip([*coco[:5], *flickr[:5]], copies, strict=True):
        Image.open(photo.path).resize((50, 50)).save(copy.path)
    assert leaks(record, copies) == copies
