"""What is read, and how it comes out: every type and mode, upright."""

import random
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from shared.image import (
    read_image,
)
from tests.shared.image_files import (
    BLUE,
    GREEN,
    RED,
    TYPES,
    WHITE,
    YELLOW,
    assert_close,
    corners,
    encode,
    needs_linux,
    quarters,
    with_alpha,
)

FAST: dict[str, dict[str, Any]] = {"AVIF": {"speed": 10}, "WEBP": {"quality": 50, "method": 0}}


@pytest.mark.parametrize("kind", TYPES)
def test_every_allowed_type_gives_its_pixels(kind: str) -> None:
    image = read_image(encode(quarters(), kind, **TYPES[kind]))
    assert image.size == (48, 32)
    assert_close(image, [RED, GREEN, BLUE, YELLOW])


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "jpeg", "packbits", "group4"])
def test_compressed_tiffs_are_read(compression: str) -> None:
    picture = quarters().convert("1") if compression == "group4" else quarters()
    image = read_image(encode(picture, "TIFF", compression=compression))
    assert_close(image, corners(picture.convert("RGB")), tolerance=25)


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 2}, {"optimize": True}])
def test_other_jpegs_are_read(options: dict[str, Any]) -> None:
    assert_close(read_image(encode(quarters(), "JPEG", quality=95, **options)), [RED, GREEN, BLUE, YELLOW])


@pytest.mark.parametrize("mode", ["1", "L", "P"])
@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_grey_and_palette_modes_become_rgb(kind: str, mode: str) -> None:
    picture = quarters().convert(mode)
    assert_close(read_image(encode(picture, kind)), corners(picture.convert("RGB")), tolerance=2)


def test_a_grey_jpeg_becomes_rgb() -> None:
    picture = quarters().convert("L")
    assert_close(read_image(encode(picture, "JPEG", quality=95)), corners(picture.convert("RGB")))


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "CMYK"), ("TIFF", "CMYK"), ("TIFF", "YCbCr"), ("TIFF", "LAB")])
def test_other_colour_spaces_become_rgb(kind: str, mode: str) -> None:
    if mode == "LAB":
        picture = Image.merge("LAB", [Image.new("L", (48, 32), value) for value in (138, 209, 195)])
        expected = [(255, 0, 0)] * 4
    else:
        picture, expected = quarters().convert(mode), [RED, GREEN, BLUE, YELLOW]
    assert_close(read_image(encode(picture, kind)), expected, tolerance=25)


def test_a_cmyk_jpeg_without_the_mark_of_adobe_is_read_as_inverted_too() -> None:
    data = encode(quarters().convert("CMYK"), "JPEG", quality=95)
    start = data.index(b"\xff\xee")
    assert data[start + 4 : start + 9] == b"Adobe"
    unmarked = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]
    assert_close(read_image(unmarked), [RED, GREEN, BLUE, YELLOW])


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "RGBA"), ("PNG", "LA"), ("WEBP", "RGBA"), ("TIFF", "RGBA"), ("AVIF", "RGBA"), ("TIFF", "LA")],
)
def test_what_is_clear_becomes_white(kind: str, mode: str) -> None:
    right = quarters().convert(mode).convert("RGB").crop((24, 0, 48, 32))
    full = np.asarray(right)[[8, 24], 12]
    assert_close(read_image(encode(with_alpha(mode), kind)), [WHITE, full[0], WHITE, full[1]], tolerance=30)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_clear_palette_colour_becomes_white(kind: str) -> None:
    picture = quarters().quantize(4)
    clear = picture.getpixel((0, 0))
    assert_close(read_image(encode(picture, kind, transparency=clear)), [WHITE, GREEN, BLUE, YELLOW])


def test_a_palette_with_an_alpha_for_each_colour_is_laid_over_white() -> None:
    picture = quarters().quantize(4)
    alphas = bytearray(b"\xff" * 4)
    alphas[int(np.asarray(picture)[0, 0])] = 128
    half_red = [(255 + channel) // 2 for channel in RED]
    image = read_image(encode(picture, "PNG", transparency=bytes(alphas)))
    assert_close(image, [half_red, GREEN, BLUE, YELLOW])


@pytest.mark.parametrize(("mode", "clear"), [("L", 0), ("1", 0), ("RGB", (0, 0, 0))])
def test_a_clear_colour_without_a_palette_becomes_white(mode: str, clear: object) -> None:
    picture = Image.new(mode, (8, 8))
    assert_close(read_image(encode(picture, "PNG", transparency=clear)), [WHITE] * 4)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(kind: str) -> None:
    values = np.array([[0, 128, 129, 257], [32768, 40000, 65406, 65535]], np.uint16)
    grey = np.asarray(read_image(encode(Image.fromarray(values), kind)))[..., 0]
    np.testing.assert_array_equal(grey, np.rint(values / 257))


def test_sixteen_bit_grey_of_the_other_byte_order_is_the_same() -> None:
    values = np.array([[0, 1000], [30000, 65535]], ">u2")
    data = encode(Image.frombytes("I;16B", (2, 2), values.tobytes()), "TIFF")
    np.testing.assert_array_equal(np.asarray(read_image(data))[..., 2], np.rint(values / 257))


def test_sixteen_bit_rgb_pngs_are_read() -> None:
    rows = b"".join(b"\0" + struct.pack(">6H", 65535, 0, 32768, 257, 514, 65535) for _ in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    pixels = np.asarray(read_image(b"\x89PNG\r\n\x1a\n" + body))
    np.testing.assert_allclose(pixels[0].astype(int), [[255, 0, 128], [1, 2, 255]], atol=1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[-1000, 0, 1000]], np.int32), [0, 128, 255]),
        (np.array([[-(2**31), 0, 2**31 - 1]], np.int32), [0, 128, 255]),
        (np.array([[0.0, 0.2, 1.0]], np.float32), [0, 51, 255]),
        (np.array([[0.0, 51.0, 255.0]], np.float32), [0, 51, 255]),
        (np.array([[np.nan, np.inf, 1.0]], np.float32), [0, 0, 255]),
        (np.array([[-3e38, 0.0, 3e38]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 0.0, 0.0]], np.float32), [0, 0, 0]),
        (np.array([[-1e-44, 0.0, 0.0]], np.float32), [0, 0, 0]),
    ],
)
def test_wide_numbers_are_brought_to_eight_bits(values: NDArray[Any], expected: list[int]) -> None:
    image = read_image(encode(Image.fromarray(values), "TIFF"))
    assert image.mode == "RGB"
    np.testing.assert_allclose(np.asarray(image)[0, :, 1].astype(int), expected, atol=1)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "AVIF", "TIFF", "PNG"])
def test_only_the_first_frame_is_decoded(kind: str) -> None:
    others = [Image.new("RGB", (48, 32), "black") for _ in range(3)]
    data = encode(quarters(), kind, **TYPES[kind], save_all=True, append_images=others)
    assert_close(read_image(data), [RED, GREEN, BLUE, YELLOW])


def test_a_broken_second_frame_does_no_harm() -> None:
    data = encode(quarters(), "GIF", save_all=True, append_images=[Image.effect_noise((48, 32), 90)])
    assert_close(read_image(data[: len(data) * 2 // 3]), [RED, GREEN, BLUE, YELLOW])


# Upright

CORNERS_BY_ORIENTATION = {
    1: [RED, GREEN, BLUE, YELLOW],
    2: [GREEN, RED, YELLOW, BLUE],
    3: [YELLOW, BLUE, GREEN, RED],
    4: [BLUE, YELLOW, RED, GREEN],
    5: [RED, BLUE, GREEN, YELLOW],
    6: [BLUE, RED, YELLOW, GREEN],
    7: [YELLOW, GREEN, BLUE, RED],
    8: [GREEN, YELLOW, RED, BLUE],
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", CORNERS_BY_ORIENTATION)
def test_the_orientation_of_exif_is_applied_once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read_image(encode(quarters(), kind, **TYPES[kind], exif=exif.tobytes()))
    assert image.size == ((48, 32) if orientation < 5 else (32, 48))
    assert_close(image, CORNERS_BY_ORIENTATION[orientation])
    assert image.info == {}


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_close(read_image(encode(quarters(), "JPEG", exif=exif, quality=95)), [RED, GREEN, BLUE, YELLOW])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_nonsense_in_the_exif_is_ignored(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x0128] = 3, TiffImagePlugin.IFDRational(72, 1), 2
    good = exif.tobytes()
    chance = random.Random(0)
    nonsense = [b"Exif\0\0", b"Exif\0\0garbage" * 9, good[:-7], good[:15]]
    for _ in range(150):
        broken = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            broken[chance.randrange(6, len(broken))] = chance.choice((0, 255, chance.randrange(256)))
        nonsense.append(bytes(broken))
    for exif_bytes in nonsense:
        image = read_image(encode(quarters(), kind, **TYPES[kind], exif=exif_bytes))
        assert sorted(image.size) == [32, 48]


@needs_linux
@pytest.mark.parametrize("kind", TYPES)
def test_a_picture_is_read_on_the_thread_that_asks(kind: str) -> None:
    """However many CPUs there are: who reads many pictures has many threads already."""
    size, helpers = ((400, 300), 1) if kind == "HEIF" else ((1600, 1200), 0)  # its library waits for one of its own
    data = encode(Image.effect_noise(size, 60).convert("RGB"), kind, **FAST.get(kind, {}))
    counts, done = [], threading.Event()

    def watch() -> None:
        while not done.wait(0.0005):
            counts.append(sum(1 for _ in Path("/proc/self/task").iterdir()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    before = sum(1 for _ in Path("/proc/self/task").iterdir())
    read_image(data)
    done.set()
    watcher.join()
    assert max(counts, default=before) <= before + helpers
