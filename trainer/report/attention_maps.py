"""Where the model looked, shown on the photo as it was taken.

The model sees the photo squashed or its central square alone (`shared.image.to_array`); this is the way back.
"""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.image import Resize

GLOW = (255, 160, 40)
DIM, TINT = 0.42, 0.35
"""How much light is left where the model did not look, and how much of the glow lies where it did."""


def seen_box(size: tuple[int, int], resize: Resize) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what the model sees of a photo of this size."""
    width, height = size
    if resize == "squash":
        return 0, 0, width, height
    side = min(size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return left, top, left + side, top + side


def light_up(photo: Image.Image, grid: NDArray[np.floating], resize: Resize) -> Image.Image:
    """The photo in colour, with a glow, where `grid` (rows, columns) is high, and dim elsewhere; the maximum is lit."""
    left, top, right, bottom = seen_box(photo.size, resize)
    lightness = np.clip(255 * grid / max(float(grid.max()), 1e-9), 0, 255).astype(np.uint8)
    spot = Image.fromarray(lightness).resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    mask = Image.new("L", photo.size)
    mask.paste(spot, (left, top))
    grey = photo.convert("L").point([round(DIM * level) for level in range(256)]).convert("RGB")
    return Image.composite(Image.blend(photo, Image.new("RGB", photo.size, GLOW), TINT), grey, mask)


def shrunk(photo: Image.Image, side: int) -> Image.Image:
    """A copy whose longer side is at most `side` pixels."""
    small = photo.copy()
    small.thumbnail((side, side))
    return small


def data_uri(image: Image.Image, quality: int) -> str:
    """The image as a JPEG inside a URI."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
