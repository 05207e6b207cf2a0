"""From a picture to the array that a model sees, and the values that say how."""

import random
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from shared.image import ImageLimits, Preprocessing, read_image, read_pixels, to_array
from tests.shared.image_files import BLUE, GREEN, RED, encode, quarters
from trainer.drawing import draw_scene


def preprocessing(size: int, resize: Any = "squash") -> Preprocessing:
    return Preprocessing(size=size, resize=resize, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("size", [(48, 32), (32, 48), (1, 1), (1, 5000), (5000, 1), (17, 17)])
def test_the_array_is_square_contiguous_writable_bytes(size: tuple[int, int], resize: str) -> None:
    array = to_array(quarters(*size), preprocessing(20, resize))
    assert array.shape == (20, 20, 3)
    assert array.dtype == np.uint8
    assert array.flags["C_CONTIGUOUS"]
    assert array.flags["WRITEABLE"]


def test_squash_keeps_the_edges_and_crop_the_centre() -> None:
    striped = Image.new("RGB", (60, 20), GREEN)
    striped.paste(RED, (0, 0, 20, 20))
    striped.paste(BLUE, (40, 0, 60, 20))
    for picture, row in (
        (striped, (10, slice(None))),
        (striped.transpose(Image.Transpose.ROTATE_270), (slice(None), 10)),
    ):
        squashed, cropped = (to_array(picture, preprocessing(20, resize)) for resize in ("squash", "crop"))
        np.testing.assert_allclose(squashed[row][[1, 10, 18]].astype(int), [RED, GREEN, BLUE], atol=8)
        assert (cropped == np.array(GREEN)).all()


def test_crop_equals_resizing_the_shorter_side_then_cutting_the_centre() -> None:
    picture = Image.effect_noise((300, 200), 60).convert("RGB")
    in_two_steps = picture.resize((150, 100), Image.Resampling.BICUBIC).crop((25, 0, 125, 100))
    inside = (slice(None), slice(2, -2))  # at its edges the cut sees no pixels beyond it
    cropped = to_array(picture, preprocessing(100, "crop"))
    np.testing.assert_allclose(cropped[inside].astype(int), np.asarray(in_two_steps)[inside].astype(int), atol=1)


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    checked = Image.fromarray((np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    assert np.abs(to_array(checked, preprocessing(16)).astype(int) - 127).max() <= 3


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_a_picture_of_the_right_size_keeps_its_pixels(resize: str) -> None:
    picture = Image.effect_noise((40, 40), 90).convert("RGB")
    np.testing.assert_array_equal(to_array(picture, preprocessing(40, resize)), np.asarray(picture))


def test_an_array_is_made_of_rgb_only() -> None:
    with pytest.raises(ValueError, match="not L"):
        to_array(quarters().convert("L"), preprocessing(8))


# Values


@pytest.mark.parametrize("name", ["max_bytes", "max_pixels", "max_side"])
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=0"):
        ImageLimits(**{name: 0})


GOOD = preprocessing(224, "crop").to_dict()


def test_preprocessing_comes_back_from_its_dict() -> None:
    assert GOOD == {"size": 224, "resize": "crop", "mean": [123.7, 116.3, 103.5], "std": [58.4, 57.1, 57.4]}
    assert Preprocessing.from_dict(GOOD) == preprocessing(224, "crop")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 0),
        ("size", 4097),
        ("size", 224.0),
        ("size", "224"),
        ("size", True),
        ("resize", "stretch"),
        ("resize", None),
        ("mean", [1.0, 2.0]),
        ("mean", 5),
        ("mean", [1.0, float("nan"), 2.0]),
        ("std", [1.0, 0.0, 1.0]),
        ("std", [1.0, -1.0, 1.0]),
        ("std", ["1", "1", "1"]),
        ("std", [1.0, float("inf"), 1.0]),
    ],
)
def test_preprocessing_refuses_a_bad_value_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        Preprocessing.from_dict(GOOD | {name: value})


def test_preprocessing_refuses_unknown_and_missing_keys() -> None:
    with pytest.raises(ValueError, match="crop_size"):
        Preprocessing.from_dict(GOOD | {"crop_size": 224})
    with pytest.raises(ValueError, match="must have the keys"):
        Preprocessing.from_dict({name: value for name, value in GOOD.items() if name != "std"})


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_a_large_jpeg_is_decoded_small_and_looks_the_same(mode: str, resize: str) -> None:
    scene = draw_scene(random.Random(2), 1600)[0].crop((0, 200, 1600, 1400)).convert(mode)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = encode(scene, "JPEG", quality=90, exif=exif)
    assert read_image(data).size == (1200, 1600)
    assert read_image(data, target=224).size == (600, 800)
    assert read_image(data, target=900).size == (1200, 1600)
    small, whole = read_pixels(data, preprocessing(224, resize)), to_array(read_image(data), preprocessing(224, resize))
    assert np.abs(small.astype(int) - whole).mean() < 1
