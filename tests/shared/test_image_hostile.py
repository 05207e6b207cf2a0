"""Small files that would cost much, and headers that lie: what they may cost."""

import contextlib
import tracemalloc
from collections.abc import Callable

import pytest

from shared.image import ImageTooLargeError, InvalidImageError, UndecodableImageError, read_image
from tests.shared import hostile_files as hostile
from tests.shared.image_files import BLUE, GREEN, RED, TYPES, YELLOW, assert_close

TAGS = hostile.tiff_of_shared_tags(2000, 200_000)
"""400 MB of tags in 0.2 MB."""


def megabytes_of_python(attempt: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        attempt()
    finally:
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    ("data", "pieces"),
    [
        (hostile.jpeg_of_many_exif_segments(1001), 1_000),
        (hostile.jpeg_of_segments(b"\xff\xfe\0\2", 1001), 1_000),
        (hostile.png_of_chunks(b"teSt", b"", 20_001), 20_000),
        (hostile.gif_of_comments(20_001), 20_000),
        (hostile.gif_of_extensions(10_001), 20_000),
        (hostile.tiff_of_many_strips(65_537), 65_536),
    ],
    ids=["JPEG, EXIF", "JPEG, comments", "PNG", "GIF, one comment", "GIF, many comments", "TIFF"],
)
def test_a_file_in_too_many_pieces_is_refused(data: bytes, pieces: int) -> None:
    def attempt() -> None:
        with pytest.raises(UndecodableImageError, match=f"more than {pieces} pieces"):
            read_image(data)

    assert megabytes_of_python(attempt) < 0.5


@pytest.mark.parametrize(
    "data",
    [
        hostile.jpeg_of_segments(b"\xff\xfe\0\2", 900),
        hostile.png_of_chunks(b"teSt", b"", 10_000),
        hostile.gif_of_comments(10_000),
    ],
    ids=["JPEG", "PNG", "GIF"],
)
def test_a_file_in_many_pieces_is_read(data: bytes) -> None:
    assert_close(read_image(data), [RED, GREEN, BLUE, YELLOW], tolerance=25)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "data",
    [
        TAGS,
        hostile.big_tiff_of_shared_tags(2000, 200_000),
        hostile.jpeg_of_one_exif(TAGS),
        hostile.jpeg_of_pictures(hostile.tiff_of_shared_tags(2000, 40_000)),
        hostile.png_of_chunks(b"eXIf", TAGS, 1),
        hostile.png_of_raw_profile(TAGS),
        hostile.webp_of_exif(TAGS),
        hostile.png_of_zipped_profile(100),
        hostile.png_of_zipped_text(60, 1),
        hostile.png_of_zipped_text(1, 60),
        hostile.webp_of_frames(300),
    ],
    ids=[
        "TIFF tags",
        "BigTIFF tags",
        "tags in the EXIF of a JPEG",
        "tags in the list of pictures of a JPEG",
        "tags in the EXIF of a PNG",
        "tags in the text of a PNG",
        "tags in the EXIF of a WebP",
        "a 100 MB profile in a PNG",
        "60 MB of text in a PNG",
        "60 times 1 MB of text in a PNG",
        "300 frames",
    ],
)
def test_what_unpacks_to_much_is_refused_or_left_packed(data: bytes) -> None:
    def attempt() -> None:
        with contextlib.suppress(InvalidImageError):
            read_image(data)

    assert len(data) < 300_000
    assert megabytes_of_python(attempt) < 8


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", TYPES)
def test_a_header_that_claims_169_megapixels_is_refused_before_anything_is_decoded(kind: str) -> None:
    data = hostile.claiming(kind, 13_000, 13_000)

    def attempt() -> None:
        with pytest.raises(InvalidImageError) as caught:
            read_image(data)
        told_by_its_decoder = kind == "HEIF" and isinstance(caught.value, UndecodableImageError)
        assert told_by_its_decoder or isinstance(caught.value, ImageTooLargeError)

    assert megabytes_of_python(attempt) < 1


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("size", [(1, 1), (7000, 7000), (0, 0), (48, 31)])
def test_a_header_that_lies_within_the_limits_gives_a_picture_or_a_refusal(kind: str, size: tuple[int, int]) -> None:
    with contextlib.suppress(InvalidImageError):
        assert read_image(hostile.claiming(kind, *size)).mode == "RGB"
