"""From the bytes of a photo to the pixels a model sees: the one implementation for training, evaluation and serving.

Untrusted bytes become an upright RGB picture or an `InvalidImageError`, nothing else. What a file claims is checked
against the limits before anything is decoded. Of Pillow's settings only the threads of a decoder are touched: those and
the filters of `warnings` are shared by all threads.
"""

import io
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, ExifTags, Image

from shared.image_headers import TooManyPiecesError, check_pieces

Resize = Literal["squash", "crop"]

_STARTS = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "WEBP": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    "GIF": re.compile(rb"GIF8[79]a"),
    "BMP": re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),
    "TIFF": re.compile(rb"II[*+]\0|MM\0[*+]"),
    "AVIF": re.compile(rb".{4}ftyp(?:.{4}){0,16}?avi[fs]", re.DOTALL),
    "HEIF": re.compile(rb".{4}ftyp(?:.{4}){0,16}?(?:hei[cxms]|hev[cx]|mif1|msf1)", re.DOTALL),
}
# A picture is read on one thread; who has many pictures has many threads.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset(_TURNS[orientation] for orientation in (5, 6, 7, 8))


class InvalidImageError(ValueError):
    """The bytes give no picture."""


class EmptyImageError(InvalidImageError):
    """There are no bytes."""


class ImageTooLargeError(InvalidImageError):
    """Too many bytes, too many pixels, or a side too long."""


class UnsupportedImageError(InvalidImageError):
    """Not one of the image types that are read."""


class UndecodableImageError(InvalidImageError):
    """It starts as an image does, but is broken inside."""


@dataclass(frozen=True)
class ImageLimits:
    """What is decoded at most. Pillow itself refuses more than 178 million pixels."""

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    max_side: int = 30_000

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.max_pixels, self.max_side) < 1:
            raise ValueError(f"image limits must be positive, not {self}")


DEFAULT_LIMITS = ImageLimits()
FINER = 2
"""Pictures are shrunk in the quickest way while they have this many times the wanted size, then with care."""


@dataclass(frozen=True)
class Preprocessing:
    """What a model expects of its pixels. `mean` and `std` are per channel, on the scale 0..255."""

    size: int
    resize: Resize
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 1 <= self.size <= 4096:
            raise ValueError(f"size must be a whole number from 1 to 4096, not {self.size!r}")
        if self.resize not in get_args(Resize):
            raise ValueError(f"resize must be one of {get_args(Resize)}, not {self.resize!r}")
        for name, values, floor in (("mean", self.mean, -math.inf), ("std", self.std, 0)):
            is_triple = isinstance(values, tuple) and len(values) == 3
            if not is_triple or not all(isinstance(x, int | float) and floor < x < math.inf for x in values):
                raise ValueError(f"{name} must be three finite numbers above {floor}, not {values!r}")

    def to_dict(self) -> dict[str, Any]:
        return {"size": self.size, "resize": self.resize, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        if set(values) != {"size", "resize", "mean", "std"}:
            raise ValueError(f"preprocessing must have the keys size, resize, mean and std, not {list(values)}")
        mean, std = (tuple(value) if isinstance(value, list) else value for value in (values["mean"], values["std"]))
        return cls(values["size"], values["resize"], mean, std)


def read_pixels(
    data: bytes,
    preprocessing: Preprocessing,
    limits: ImageLimits = DEFAULT_LIMITS,
    *,
    on_size: Callable[[int], None] = lambda pixels: None,
) -> NDArray[np.uint8]:
    """An image file as a model takes it, (size, size, 3); or an `InvalidImageError`.

    `on_size` hears how many pixels the file has, if its header can be read.
    """
    return to_array(read_image(data, limits, target=preprocessing.size, on_size=on_size), preprocessing)


def read_image(
    data: bytes,
    limits: ImageLimits = DEFAULT_LIMITS,
    *,
    target: int | None = None,
    on_size: Callable[[int], None] = lambda pixels: None,
) -> Image.Image:
    """The first frame, upright, RGB (alpha laid over white), without metadata; or an `InvalidImageError`.

    A JPEG that is much larger than the `target` it will be resized to is decoded at a half, a quarter or an eighth of
    its size, both sides at least twice the target. Takes about 4 bytes of memory per decoded pixel, 8 where a picture
    is turned or has alpha.
    """
    return _read(data, limits, target, on_size)[0]


def upright_size(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> tuple[int, int]:
    """Width and height of the picture that `read_image` gives without a target."""
    return _read(data, limits, 1, lambda pixels: None)[1]


def seen_box(size: tuple[int, int], resize: Resize) -> tuple[float, float, float, float]:
    """The part of a picture (width, height) that a model sees: left, top, right, bottom."""
    width, height = size
    side = min(size)
    if resize == "crop":
        return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2
    return 0, 0, width, height


def _read(
    data: bytes, limits: ImageLimits, target: int | None, on_size: Callable[[int], None]
) -> tuple[Image.Image, tuple[int, int]]:
    """The picture, and the size that it would have without a target."""
    if not data:
        raise EmptyImageError("the image is empty: zero bytes")
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(f"the image has {len(data)} bytes, more than the limit of {limits.max_bytes}")
    kind = next((kind for kind, start in _STARTS.items() if start.match(data)), None)
    if kind is None:
        raise UnsupportedImageError(f"the data starts with {data[:16]!r}; the types read are {', '.join(_STARTS)}")
    try:
        return _decode(data, kind, limits, target, on_size)
    except InvalidImageError:
        raise
    except TooManyPiecesError as error:
        raise UndecodableImageError(str(error)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(f"the {kind} has more pixels than the limit of {limits.max_pixels}") from error
    except Exception as error:  # Pillow throws a dozen unrelated types, MemoryError among them, at broken data
        message = f"the {len(data)} bytes of this {kind} are broken, cut off, or of a variant that is not read"
        raise UndecodableImageError(message) from error


def _decode(
    data: bytes, kind: str, limits: ImageLimits, target: int | None, on_size: Callable[[int], None]
) -> tuple[Image.Image, tuple[int, int]]:
    check_pieces(kind, data)
    image = _open_heif(data) if kind == "HEIF" else Image.open(io.BytesIO(data), formats=[kind])
    on_size(image.width * image.height)
    _check_size(image, kind, limits)
    whole = image.size
    if target and kind == "JPEG":
        image.draft(None, (FINER * target, FINER * target))
    image.load()
    _check_size(image, kind, limits)  # a HEIF may turn out larger than its header says
    turn = _turn_to_upright(image)
    if kind != "JPEG":
        whole = image.size
    width, height = reversed(whole) if turn in _SIDEWAYS else whole
    image = _to_rgb(image)
    image.info.clear()  # an orientation left here would turn the picture again
    return image if turn is None else image.transpose(turn), (width, height)


def _open_heif(data: bytes) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile, options
    except ImportError:
        raise UnsupportedImageError("this is a HEIC picture; it takes the extra 'heic' to read it") from None
    options.DECODE_THREADS = 1
    return HeifImageFile(io.BytesIO(data))  # type: ignore[no-untyped-call]


def _check_size(image: Image.Image, kind: str, limits: ImageLimits) -> None:
    width, height = image.size
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        limit = f"{limits.max_pixels} pixels or a side of {limits.max_side}"
        raise ImageTooLargeError(f"the {kind} is {width} x {height}: over the limit of {limit}")


def _turn_to_upright(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # nonsense in the EXIF is no reason to refuse the pixels
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.new("RGB", layer.size, "white")
        image.paste(layer, mask=layer)
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Wide numbers name no white: 65535 for 16 bits, else the least usual one that holds them, else their range."""
    pixels = np.asarray(image).astype(np.float32)
    np.nan_to_num(pixels, copy=False, nan=0, posinf=0, neginf=0)
    black, white = min(0.0, float(pixels.min())), float(pixels.max())
    if image.mode.startswith("I;16"):
        white = 65535
    elif black == 0:
        white = next((usual for usual in (1, 255, 65535) if white <= usual), white)
    pixels *= (scale := 255 / max(white - black, 1e-30))
    pixels -= black * scale
    return Image.fromarray(np.rint(pixels, out=pixels).astype(np.uint8))


def to_array(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """(size, size, 3), contiguous and writable. "squash" ignores the shape, "crop" keeps the central square."""
    if image.mode != "RGB":
        raise ValueError(f"to_array takes the RGB image that read_image gives, not {image.mode}")
    size = (preprocessing.size, preprocessing.size)
    if image.size == size:
        return np.array(image)
    box = seen_box(image.size, preprocessing.resize)
    return np.array(image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=FINER))
