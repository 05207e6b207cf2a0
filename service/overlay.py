"""What a model looked at, drawn over the photo: one panel for each word, in rows, as a PNG.

Where the model looked the photo keeps its light and colours, in a glow that shows on dark photos, too; elsewhere it is
dim and grey. The light of a panel goes by the largest weight of its word.
"""

import io
import math
from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from shared.captioner import Candidate
from shared.image import DEFAULT_LIMITS, ImageLimits, Resize, read_image, seen_box

PANEL_SIDE = 256
"""Pixels of the longer side of a photo in its panel."""
MIN_PANEL_WIDTH, MAX_SHAPE = 128, 8
"""A photo of a more extreme shape than 8 to 1 is drawn at 8 to 1."""
MAX_COLUMNS = 5
MARGIN, LABEL_HEIGHT, TITLE_HEIGHT = 16, 28, 44
LABEL_SIZE, TITLE_SIZE = 17, 22
PAPER, INK, FAINT_INK = (255, 255, 255), (24, 28, 36), (98, 106, 120)
DIM = 0.3
"""The light that is left where the model did not look."""
GLOW, GLOW_SHARE = (255, 190, 70), 0.22
COMPRESS_LEVEL = 3
"""The quickest that is not much larger than the smallest."""


def draw_overlay(
    picture: bytes, candidate: Candidate, *, resize: Resize, limits: ImageLimits = DEFAULT_LIMITS
) -> bytes:
    """PNG bytes. `resize` is that of the model's preprocessing. Raises InvalidImageError."""
    photo = _fitted(read_image(picture, limits, target=PANEL_SIDE))
    panels = [(photo, "the photo", "")]
    for word, log_probability, weights in zip(
        candidate.words, candidate.word_log_probabilities, candidate.attention, strict=True
    ):
        panels.append((lit(photo, weights, resize), word, f"{math.exp(log_probability):.0%}"))
    file = io.BytesIO()
    _sheet(candidate.caption, panels).save(file, "PNG", compress_level=COMPRESS_LEVEL)
    return file.getvalue()


def lit(photo: Image.Image, weights: NDArray[np.float32], resize: Resize) -> Image.Image:
    """The photo with its light by the weights (rows, columns) of the part that the model saw."""
    left, top, right, bottom = map(round, seen_box(photo.size, resize))
    shares = np.clip(weights / max(float(weights.max()), 1e-12), 0, 1)
    light = Image.fromarray((255 * shares).astype(np.uint8))
    mask = Image.new("L", photo.size, 0)
    mask.paste(light.resize((right - left, bottom - top), Image.Resampling.BICUBIC), (left, top))
    dim = photo.convert("L").point(lambda value: value * DIM).convert("RGB")
    return Image.composite(Image.blend(photo, Image.new("RGB", photo.size, GLOW), GLOW_SHARE), dim, mask)


def _fitted(photo: Image.Image) -> Image.Image:
    width, height = photo.size
    scale = PANEL_SIDE / max(width, height)
    least = PANEL_SIDE // MAX_SHAPE
    size = max(least, round(width * scale)), max(least, round(height * scale))
    return photo.resize(size, Image.Resampling.BICUBIC, reducing_gap=2)


def _sheet(title: str, panels: list[tuple[Image.Image, str, str]]) -> Image.Image:
    columns = min(MAX_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    panel_width = max(panels[0][0].width, MIN_PANEL_WIDTH)
    step_x, step_y = panel_width + MARGIN, panels[0][0].height + LABEL_HEIGHT + MARGIN
    sheet = Image.new("RGB", (MARGIN + columns * step_x, MARGIN + TITLE_HEIGHT + rows * step_y), PAPER)
    draw = ImageDraw.Draw(sheet)
    font, title_font = (ImageFont.load_default(size) for size in (LABEL_SIZE, TITLE_SIZE))
    draw.text((MARGIN, MARGIN), _shortened(title, sheet.width - 2 * MARGIN, title_font), INK, title_font)
    for number, (panel, word, note) in enumerate(panels):
        x, y = MARGIN + number % columns * step_x, MARGIN + TITLE_HEIGHT + number // columns * step_y
        sheet.paste(panel, (x + (panel_width - panel.width) // 2, y))
        below = y + panel.height + 5
        space = panel_width - font.getlength(note + " ")
        draw.text((x, below), _shortened(word, space, font), INK if note else FAINT_INK, font)
        draw.text((x + panel_width, below), note, FAINT_INK, font, anchor="ra")
    return sheet


def _shortened(text: str, width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(text) <= width:
        return text
    fits = bisect_right(range(len(text)), width, key=lambda count: font.getlength(text[:count] + "...")) - 1
    return text[: max(0, fits)] + "..."
