"""What `shared/image.py` promises, on real encoded bytes of every type and mode, on broken ones and on hostile ones."""

import io
import random
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from shared.image import (
    EmptyImageError,
    ImageLimits,
    ImageTooLargeError,
    InvalidImageError,
    Preprocessing,
    UndecodableImageError,
    UnsupportedImageError,
    read_image,
    to_array,
)

TYPES: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
    "AVIF": {"quality": 95},
}
RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 190, 60), (40, 60, 220), (240, 220, 40)
WHITE = (255, 255, 255)


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


# What is read


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


def with_alpha(mode: str) -> Image.Image:
    """The left half is clear (over black, which must not show), the right half is full."""
    picture = quarters().convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 24, 32))
    return picture.convert(mode)


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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", CORNERS_BY_ORIENTATION)
def test_the_orientation_of_exif_is_applied_once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read_image(encode(quarters(), kind, **TYPES[kind], exif=exif))
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


# What is refused


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
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
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


needs_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")


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


# Fuzz


def seeds() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [encode(quarters(), kind, **options) for kind, options in TYPES.items()]
    files += [encode(quarters(), "JPEG", progressive=True, exif=exif), encode(with_alpha("RGBA"), "WEBP")]
    files += [encode(quarters(), "TIFF", compression="tiff_lzw"), encode(quarters().quantize(4), "PNG", transparency=1)]
    files += [encode(quarters(), "GIF", save_all=True, append_images=[with_alpha("RGB")])]
    return [*files, encode(quarters().convert("CMYK"), "JPEG"), encode(quarters().convert("F"), "TIFF")]


SEEDS = seeds()


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 5))):
        # Headers are where the interesting damage is.
        reach = draw(st.sampled_from((min(64, len(data)), len(data))))
        at = draw(st.integers(0, max(reach - 1, 0)))
        damage = draw(st.sampled_from(("flip", "byte", "cut", "drop", "splice")))
        if damage == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif damage == "byte" and data:
            data[at] = draw(st.sampled_from((0, 1, 127, 128, 255)))
        elif damage == "cut":
            del data[at:]
        elif damage == "drop":
            del data[at : at + draw(st.integers(1, 40))]
        elif damage == "splice":
            other = draw(st.sampled_from(SEEDS))
            start = draw(st.integers(0, len(other) - 1))
            data[at:at] = other[start : start + draw(st.integers(1, 400))]
    return bytes(data)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(damaged_files())
def test_damaged_files_give_a_picture_or_an_invalid_image_error(data: bytes) -> None:
    try:
        image = read_image(data, ImageLimits(max_pixels=1_000_000))
    except InvalidImageError:
        return
    assert image.mode == "RGB"
    assert to_array(image, Preprocessing(8, "crop", (0, 0, 0), (1, 1, 1))).shape == (8, 8, 3)


# To an array


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
