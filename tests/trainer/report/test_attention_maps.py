import base64
import io
import random

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from shared.image import Preprocessing, Resize, to_array
from trainer.report.attention_maps import data_uri, light_up, seen_box, shrunk

GRID = 7


def light_of(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image.convert("L")).astype(float)


def hot(row: int, column: int) -> NDArray[np.float32]:
    grid = np.zeros((GRID, GRID), np.float32)
    grid[row, column] = 1.0
    return grid


def brightest_cell(array: NDArray[np.uint8]) -> tuple[int, int]:
    """Row and column of the grid cell in which what the model sees is lightest."""
    side = len(array) // GRID
    cells = array.mean(axis=2).reshape(GRID, side, GRID, side).mean(axis=(1, 3))
    row, column = np.unravel_index(int(cells.argmax()), cells.shape)
    return int(row), int(column)


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("size", [(160, 90), (90, 160), (111, 111), (301, 77), (70, 70)])
def test_the_cell_in_which_the_model_sees_a_thing_lights_the_thing(size: tuple[int, int], resize: Resize) -> None:
    pixels = Preprocessing(10 * GRID, resize, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    left, top, right, bottom = seen_box(size, resize)
    rng = random.Random(f"{size}{resize}")
    for _ in range(10):
        x, y = rng.randrange(left + 4, right - 4), rng.randrange(top + 4, bottom - 4)
        photo = Image.new("RGB", size)
        photo.paste("white", (x - 4, y - 4, x + 4, y + 4))
        row, column = brightest_cell(to_array(photo, pixels))
        light = light_of(light_up(Image.new("RGB", size, "grey"), hot(row, column), resize))
        lit_y, lit_x = np.unravel_index(int(light.argmax()), light.shape)
        assert abs(lit_x - x) <= 4 + (right - left) / GRID
        assert abs(lit_y - y) <= 4 + (bottom - top) / GRID
        assert light[y, x] > light.min(), "the thing itself is lit"


def test_a_hot_cell_lights_its_part_of_the_photo_and_no_other() -> None:
    light = light_of(light_up(Image.new("RGB", (140, 70), "grey"), hot(1, 5), "squash"))
    dim = light.min()
    assert light[10:20, 100:120].min() > dim + 20
    assert (light[:, :60] == dim).all()
    assert (light[40:] == dim).all()


def test_beside_a_crop_nothing_is_lit() -> None:
    light = light_of(light_up(Image.new("RGB", (140, 70), "grey"), np.ones((GRID, GRID)), "crop"))
    assert (light[:, :35] == light.min()).all()
    assert (light[:, 105:] == light.min()).all()
    assert (light[:, 36:104] == light.max()).all()
    assert light.max() > light.min() + 20


def test_a_model_that_looks_everywhere_alike_lights_everything() -> None:
    light = light_of(light_up(Image.new("RGB", (50, 40), "grey"), np.full((GRID, GRID), 1 / GRID**2), "squash"))
    assert light.min() == light.max()


def test_colour_is_where_the_model_looked() -> None:
    photo = Image.new("RGB", (70, 70), (40, 160, 60))
    shown = np.asarray(light_up(photo, hot(0, 0), "squash")).astype(int)
    assert np.ptp(shown[3, 3]) > 30
    assert np.ptp(shown[60, 60]) == 0


def test_a_grid_of_zeros_lights_nothing() -> None:
    light = light_of(light_up(Image.new("RGB", (20, 20), "white"), np.zeros((2, 2)), "squash"))
    assert light.max() == light.min() < 150


@pytest.mark.parametrize(("size", "small"), [((900, 300), (448, 149)), ((100, 1000), (45, 448)), ((30, 20), (30, 20))])
def test_large_photos_shrink_and_small_ones_stay(size: tuple[int, int], small: tuple[int, int]) -> None:
    photo = Image.new("RGB", size)
    assert shrunk(photo, 448).size == small
    assert photo.size == size


def test_a_data_uri_holds_the_picture_and_no_metadata() -> None:
    photo = Image.new("RGB", (40, 30), (200, 20, 20))
    photo.info["exif"] = b"Exif\0\0secret"
    head, _, body = data_uri(photo, 60).partition(",")
    assert head == "data:image/jpeg;base64"
    data = base64.b64decode(body)
    assert Image.open(io.BytesIO(data)).size == (40, 30)
    assert b"secret" not in data
