import io
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from trainer.doctor.photos import PhotoFacts, Twin, examine_photo, examine_photos, find_twins, near_pairs
from trainer.drawing import draw_scene

BITS = st.integers(0, 63)
HASHES = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6)


def picture(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Something like a photo: large soft shapes of all colours."""
    noise = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def facts_of(image: Image.Image, folder: Path, kind: str = "JPEG", quality: int = 90) -> PhotoFacts:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    path = folder / f"{os.urandom(4).hex()}.{kind.lower()}"
    path.write_bytes(buffer.getvalue())
    return examine_photo(path)


def pairs_by_brute_force(hashes: list[int], distance: int) -> set[frozenset[int]]:
    indices = range(len(hashes))
    return {
        frozenset((i, j)) for i in indices for j in indices if i < j and (hashes[i] ^ hashes[j]).bit_count() <= distance
    }


@settings(deadline=None)
@given(HASHES, st.lists(st.tuples(st.integers(0, 5), st.sets(BITS, max_size=9)), max_size=30), st.integers(0, 8))
def test_near_hashes_are_those_that_brute_force_finds(
    bases: list[int], copies: list[tuple[int, set[int]]], distance: int
) -> None:
    flipped = [bases[base % len(bases)] ^ sum(1 << bit for bit in bits) for base, bits in copies]
    hashes = bases + flipped
    found = [pair for pairs in near_pairs(np.array(hashes, np.uint64), distance) for pair in pairs.tolist()]
    assert {frozenset(pair) for pair in found} == pairs_by_brute_force(hashes, distance)


def test_a_hundred_thousand_hashes_take_a_moment() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, 100_000, dtype=np.uint64)
    hashes[-1] = hashes[0] ^ np.uint64(0b10110)
    found = {tuple(sorted(pair)) for pairs in near_pairs(hashes, 5) for pair in pairs.tolist()}
    assert found == {(0, 99_999)}


@pytest.mark.parametrize(
    "copied",
    [
        lambda image: image.resize((120, 90), Image.Resampling.BICUBIC),
        lambda image: image.resize((224, 224), Image.Resampling.BICUBIC),
        lambda image: image.resize((700, 500), Image.Resampling.LANCZOS),
        lambda image: image.point(lambda level: min(255, level + 8)),
    ],
    ids=["smaller", "squashed", "larger", "slightly brighter"],
)
def test_a_copy_looks_the_same(copied: Callable[[Image.Image], Image.Image], tmp_path: Path) -> None:
    for seed in range(10):
        image = picture(seed)
        facts = [facts_of(image, tmp_path), facts_of(copied(image), tmp_path, quality=50)]
        assert list(find_twins(facts, ["train", "val"])) == [Twin(1, 0, False)]


@pytest.mark.parametrize(
    "changed",
    [ImageOps.mirror, lambda image: image.rotate(180), lambda image: image.convert("HSV"), lambda image: picture(99)],
    ids=["mirrored", "turned", "other colours", "another picture"],
)
def test_another_picture_does_not(changed: Callable[[Image.Image], Image.Image], tmp_path: Path) -> None:
    for seed in range(10):
        other = changed(picture(seed))
        other = Image.merge(
            "RGB", other.split()
        )  # other colours: hue, saturation and value seen as red, green and blue
        assert not list(find_twins([facts_of(picture(seed), tmp_path), facts_of(other, tmp_path)], ["train", "train"]))


def test_drawn_scenes_on_the_same_flat_background_are_told_apart(tmp_path: Path) -> None:
    facts = [facts_of(draw_scene(random.Random(seed), 64)[0], tmp_path) for seed in range(150)]
    assert len({fact.fingerprint for fact in facts}) < 140, "flat pictures share hashes; only the miniatures differ"
    assert not list(find_twins(facts, ["train"] * 150))


def fact(sha256: int, shade: int) -> PhotoFacts:
    """Of a photo that is all one grey: shades up to 16 apart look the same."""
    return PhotoFacts((), bytes([sha256]), bytes(8), bytes([shade]) * 768)


def test_the_first_twin_of_each_side_is_named_and_equal_bytes_go_before_equal_looks() -> None:
    facts = [fact(1, 100), fact(2, 110), fact(2, 110), fact(3, 200), fact(2, 110), fact(4, 116), fact(5, 117)]
    roles = ["train", "train", "train", "train", "val", "val", "val"]
    twins = list(find_twins(facts, roles))
    assert twins[:2] == [Twin(1, 0, False), Twin(2, 1, True)]
    assert twins[2] == Twin(4, 1, True)
    assert twins[3:5] == [Twin(5, 0, False), Twin(5, 4, False)]
    assert twins[5:] == [Twin(6, 1, False), Twin(6, 4, False)]


def test_broken_photos_are_nobodys_twins(tmp_path: Path) -> None:
    broken = PhotoFacts((("missing_photo", ""),))
    assert list(find_twins([broken, broken, fact(1, 100), broken], ["train", "train", "train", "val"])) == []
    assert list(find_twins([broken], ["train"])) == []
    assert list(find_twins([], [])) == []


def test_photos_are_examined_in_order_by_any_number_of_workers(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.jpg" for index in range(30)]
    for index, path in enumerate(paths[:-1]):
        picture(index).save(path)
    alone, together = (examine_photos(paths, workers=workers) for workers in (1, 4))
    assert alone == together
    assert len({facts.sha256 for facts in alone}) == 30
    assert [facts.is_readable for facts in alone] == [True] * 29 + [False]


def test_near_duplicates_of_real_photos_are_found_and_nothing_else(real_data: Path, tmp_path: Path) -> None:
    train = sorted((real_data / "flickr8k" / "train").iterdir())[:400]
    val = sorted((real_data / "flickr8k" / "val").iterdir())[:200]
    copies = []
    for number, path in enumerate(train[::20]):
        with Image.open(path) as image:
            copies.append(tmp_path / f"{number}.jpg")
            image.resize((150, 150), Image.Resampling.BICUBIC).save(copies[-1], quality=60)
    facts = examine_photos([*train, *val, *copies], workers=2)
    leaks = list(find_twins(facts, ["train"] * len(train) + ["val"] * (len(val) + len(copies))))
    assert leaks == [Twin(600 + number, 20 * number, False) for number in range(20)]
