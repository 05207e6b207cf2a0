"""Pictures in every guise that a client may send, drawn on the spot."""

import io
import random

import numpy as np
from PIL import ExifTags, Image, ImageDraw


def scene(seed: int = 0, size: tuple[int, int] = (160, 120)) -> Image.Image:
    dice = random.Random(seed)
    image = Image.new("RGB", size, _colour(dice))
    draw = ImageDraw.Draw(image)
    for _ in range(3):
        x, y = dice.randrange(size[0] // 2), dice.randrange(size[1] // 2)
        draw.rectangle((x, y, x + size[0] // 3, y + size[1] // 3), fill=_colour(dice))
    return image


def _colour(dice: random.Random) -> tuple[int, int, int]:
    return dice.randrange(256), dice.randrange(256), dice.randrange(256)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def jpeg(seed: int = 0) -> bytes:
    return encoded(scene(seed), quality=92)


def truncated_jpeg(seed: int = 0) -> bytes:
    data = jpeg(seed)
    return data[: len(data) // 2]


def bomb() -> bytes:
    """169 megapixels in some 20 KB."""
    return encoded(Image.new("1", (13_000, 13_000)), "PNG")


def forty_megapixels() -> bytes:
    return encoded(scene(1, (7_303, 5_477)), quality=60)


def cmyk() -> bytes:
    return encoded(scene().convert("CMYK"))


def sixteen_bit_grey() -> bytes:
    return encoded(Image.fromarray(np.linspace(0, 65_535, 120 * 160).reshape(120, 160).astype(np.uint16)), "PNG")


def with_alpha() -> bytes:
    image = scene().convert("RGBA")
    image.putalpha(128)
    return encoded(image, "PNG")


def palette() -> bytes:
    return encoded(scene().quantize(16), "PNG")


def animated_gif() -> bytes:
    frames = [scene(seed) for seed in range(3)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def turned_by_exif() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return encoded(scene().transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
