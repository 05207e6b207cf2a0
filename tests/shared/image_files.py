"""Encoded pictures of every type, to read, to break and to compare."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image

TYPES: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
    "AVIF": {"quality": 95},
    "HEIF": {"quality": 95},
}
pillow_heif.register_heif_opener()  # to write them
RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 190, 60), (40, 60, 220), (240, 220, 40)
WHITE = (255, 255, 255)
needs_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")


def quarters(width: int = 48, height: int = 32) -> Image.Image:
    """Red and green above, blue and yellow below: every way of turning it looks different."""
    image = Image.new("RGB", (width, height))
    for index, colour in enumerate((RED, GREEN, BLUE, YELLOW)):
        image.paste(colour, ((index % 2) * width // 2, index // 2 * height // 2, width, height))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    return image


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def corners(image: Image.Image) -> NDArray[np.int64]:
    """(4, 3): the middle of the four quarters, row by row."""
    pixels = np.asarray(image).astype(np.int64)
    rows, columns = (image.height // 4, image.height * 3 // 4), (image.width // 4, image.width * 3 // 4)
    return np.array([pixels[row, column] for row in rows for column in columns])


def assert_close(image: Image.Image, expected: object, tolerance: int = 12) -> None:
    assert image.mode == "RGB"
    np.testing.assert_allclose(corners(image), np.asarray(expected), atol=tolerance)


def png_with_size(data: bytes, width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def one_colour_jpeg_with_scans(count: int) -> bytes:
    data = encode(Image.new("L", (64, 64), 128), "JPEG", progressive=True)
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last_scan * (count - data.count(b"\xff\xda")) + data[-2:]


def with_alpha(mode: str) -> Image.Image:
    """The left half is clear (over black, which must not show), the right half is full."""
    picture = quarters().convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 24, 32))
    return picture.convert(mode)
