"""What is refused, at what cost: limits, broken files, hostile files."""

import io
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.image import (
    EmptyImageError,
    ImageLimits,
    ImageTooLargeError,
    UndecodableImageError,
    UnsupportedImageError,
    read_image,
)
from tests.shared.image_files import (
    BLUE,
    GREEN,
    RED,
    TYPES,
    YELLOW,
    assert_close,
    encode,
    needs_linux,
    one_colour_jpeg_with_scans,
    png_with_size,
    quarters,
)


def test_no_bytes_are_refused() -> None:
    with pytest.raises(EmptyImageError, match="zero bytes"):
        read_image(b"")


def test_one_byte_over_the_limit_is_refused() -> None:
    data = encode(quarters(), "PNG")
    read_image(data, ImageLimits(max_bytes=len(data)))
    with pytest.raises(ImageTooLargeError, match=f"{len(data)} bytes, more than the limit of {len(data) - 1}"):
        read_image(data, ImageLimits(max_bytes=len(data) - 1))


@pytest.mark.parametrize(
    "data",
    [
        b"hello, this is text",
        b"<!DOCTYPE html><html><body>404</body></html>",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"%PDF-1.7\n",
        b"BM is how a bitmap starts, but this is a sentence.",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"\x00\x00\x01\x00 an icon",
        b"\xff",
        bytes(1000),
        encode(quarters(), "PPM"),
        encode(quarters(), "JPEG2000"),
        encode(quarters().convert("L"), "EPS"),
    ],
)
def test_what_is_no_image_of_a_type_we_read_is_refused_by_its_start(data: bytes) -> None:
    with pytest.raises(UnsupportedImageError) as caught:
        read_image(data)
    message = str(caught.value)
    assert repr(data[:16]) in message
    assert all(kind in message for kind in TYPES)


def test_without_its_extra_a_heic_is_refused_and_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = encode(quarters(), "HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnsupportedImageError, match="extra 'heic'"):
        read_image(photo)


@pytest.mark.parametrize("brand", ["heic", "heix", "mif1"])
def test_a_heic_is_known_by_its_brand(brand: str) -> None:
    with pytest.raises(UndecodableImageError, match="HEIF"):
        read_image(b"\0\0\0\x18ftyp" + brand.encode() + bytes(200))


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_by_its_start_and_rubbish_behind_it_cannot_be_decoded(kind: str) -> None:
    start = encode(quarters(), kind, **TYPES[kind])[:20]
    with pytest.raises(UndecodableImageError, match=kind) as caught:
        read_image(start + b"rubbish" * 50)
    assert caught.value.__cause__ is not None


def test_only_the_decoder_of_the_recognised_type_is_tried() -> None:
    starts_as_avif_reads_as_tga = b"\0\0\x02\0ftypavif" + struct.pack("<HHBB", 2, 2, 24, 0x20) + bytes(12)
    with Image.open(io.BytesIO(starts_as_avif_reads_as_tga)) as image:
        assert image.format == "TGA"
    with pytest.raises(UndecodableImageError, match="AVIF"):
        read_image(starts_as_avif_reads_as_tga)


@pytest.mark.parametrize("kind", [*TYPES, "progressive JPEG", "deflated TIFF"])
def test_a_file_that_is_cut_off_is_refused_unless_every_pixel_is_there(kind: str) -> None:
    options: dict[str, Any] = {"progressive": True} if "progressive" in kind else {}
    options |= {"compression": "tiff_deflate"} if "deflated" in kind else {}
    data = encode(Image.effect_noise((48, 32), 90).convert("RGB"), kind.split()[-1], **options)
    whole = np.asarray(read_image(data))
    for length in {*range(30, len(data), 31), *range(len(data) - 30, len(data))}:
        try:
            image = read_image(data[:length])
        except UndecodableImageError:
            continue
        assert length > len(data) - 25
        np.testing.assert_array_equal(np.asarray(image), whole)


@pytest.mark.parametrize("kind", TYPES)
def test_too_many_pixels_or_too_long_a_side_is_refused(kind: str) -> None:
    data = encode(quarters(), kind, **TYPES[kind])
    read_image(data, ImageLimits(max_pixels=48 * 32, max_side=48))
    with pytest.raises(ImageTooLargeError, match=r"48 x 32.*1535"):
        read_image(data, ImageLimits(max_pixels=48 * 32 - 1))
    with pytest.raises(ImageTooLargeError, match=r"48 x 32.*47"):
        read_image(data, ImageLimits(max_side=47))


def assert_costs_nothing(attempt: Callable[[], object]) -> None:
    tracemalloc.start()
    started = time.perf_counter()
    try:
        with pytest.raises(ImageTooLargeError):
            attempt()
        assert time.perf_counter() - started < 0.5
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def megabytes_at_the_peak(data: bytes) -> float:
    """What reading `data` adds to the peak of a process of its own."""
    program = """
import sys
from shared.image import InvalidImageError, read_image
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
data = sys.stdin.buffer.read()
before = peak()
try:
    read_image(data)
except InvalidImageError:
    pass
print(peak() - before)
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    return int(subprocess.run(command, input=data, check=True, capture_output=True).stdout) / 1000


@pytest.mark.parametrize("side", [7072, 13_000, 20_000, 2**31 - 1])
def test_a_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    bomb = png_with_size(encode(Image.new("1", (7072, 7072)), "PNG"), side, side)
    assert len(bomb) < 30_000
    assert_costs_nothing(lambda: read_image(bomb))


@needs_linux
def test_a_bomb_takes_no_memory_outside_python_either() -> None:
    assert megabytes_at_the_peak(png_with_size(encode(Image.new("1", (7072, 7072)), "PNG"), 13_000, 13_000)) < 10


@pytest.mark.filterwarnings("default")
def test_the_bomb_pillow_only_warns_of_is_refused_without_warnings_as_errors() -> None:
    bomb = png_with_size(encode(Image.new("1", (64, 64)), "PNG"), 13_000, 13_000)
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(ImageTooLargeError, match="13000 x 13000"):
        read_image(bomb)


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    assert read_image(one_colour_jpeg_with_scans(100)).getpixel((5, 5)) == (128, 128, 128)
    with pytest.raises(UndecodableImageError, match="101 scans"):
        read_image(one_colour_jpeg_with_scans(101))


def test_what_follows_the_end_of_a_jpeg_is_not_counted_as_scans() -> None:
    data = encode(quarters(), "JPEG", quality=95)
    assert_close(read_image(data + b"\xff\xda" * 500), [RED, GREEN, BLUE, YELLOW])


@pytest.mark.parametrize("size", [(64, 0), (0, 32), (96, 32)])
def test_a_png_whose_header_lies_about_its_width_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UndecodableImageError):
        read_image(png_with_size(encode(quarters(), "PNG"), *size))


@needs_linux
def test_40_megapixels_take_little_more_than_4_bytes_for_each() -> None:
    data = encode(Image.linear_gradient("L").resize((8000, 5000)).convert("RGB"), "JPEG")
    assert read_image(data).size == (8000, 5000)
    assert 100 < megabytes_at_the_peak(data) < 8000 * 5000 * 4.5 / 1e6


def test_many_threads_read_at_once() -> None:
    files = [encode(quarters(), kind, **options) for kind, options in TYPES.items()] * 6
    with ThreadPoolExecutor(8) as pool:
        for image in pool.map(read_image, files):
            assert_close(image, [RED, GREEN, BLUE, YELLOW])


def test_pillow_keeps_its_settings() -> None:
    assert Image.MAX_IMAGE_PIXELS == 1024**3 // 4 // 3
