"""The light of a panel goes where the weights say."""

import numpy as np
import pytest
from PIL import Image

from service.explanation import attention_grid
from service.overlay import draw_overlay, lit
from shared.captioner import Candidate
from shared.image import EmptyImageError, Resize
from tests.service import pictures


def one_cell(row: int, column: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    weights = np.zeros((3, 3), np.float32)
    weights[row, column] = 0.4
    return weights


def brightest(image: Image.Image) -> tuple[int, int]:
    """x and y of the brightest place, after a blur."""
    grey = np.asarray(image.convert("L").resize((image.width // 4, image.height // 4)))
    y, x = np.unravel_index(grey.argmax(), grey.shape)
    return 4 * int(x), 4 * int(y)


@pytest.mark.parametrize(
    ("resize", "expected"),
    [("squash", {(0, 0): (0, 0), (2, 1): (100, 90), (0, 2): (190, 0)}), ("crop", {(0, 0): (50, 0), (1, 2): (140, 50)})],
)
def test_a_cell_is_lit_at_its_place(resize: Resize, expected: dict[tuple[int, int], tuple[int, int]]) -> None:
    photo = Image.new("RGB", (200, 100), (200, 200, 200))
    for cell, (x, y) in expected.items():
        shown = lit(photo, one_cell(*cell), resize)
        found_x, found_y = brightest(shown)
        assert abs(found_x - x) <= 34
        assert abs(found_y - y) <= 34
        assert shown.getpixel((99 if x != 100 else 5, 50 if y != 50 else 95))[0] < 90  # type: ignore[index]


def test_what_a_crop_leaves_out_is_never_lit() -> None:
    photo = Image.new("RGB", (200, 100), "white")
    shown = np.asarray(lit(photo, np.ones((3, 3), np.float32), "crop").convert("L"))
    assert shown[:, :50].max() == shown[:, 150:].max() < 80
    assert shown[:, 50:150].min() > 200


def candidate(words: int) -> Candidate:
    names = tuple(f"{'long' * 20}{i}" for i in range(words))
    return Candidate(" ".join(names), -1.0, names, (-0.1,) * words, np.full((words, 9, 9), 1 / 81, np.float32))


def test_long_words_and_captions_are_cut_to_their_space() -> None:
    assert draw_overlay(pictures.jpeg(), candidate(50), resize="squash").startswith(b"\x89PNG")


def test_no_bytes_are_no_picture() -> None:
    with pytest.raises(EmptyImageError):
        draw_overlay(b"", candidate(1), resize="squash")


def test_the_grid_of_a_cropping_model_is_the_central_square() -> None:
    grid = attention_grid((301, 100), candidate(2), "crop")
    assert (grid.left, grid.top, grid.right, grid.bottom) == (100.5, 0, 200.5, 100)
    assert (grid.rows, grid.columns, grid.width, grid.height) == (9, 9, 301, 100)
