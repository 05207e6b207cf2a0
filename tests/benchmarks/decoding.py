"""From bytes to a model's pixels: as it is done here against decoding in full, and what a bomb costs; in turns.

`python -m tests.benchmarks.decoding` draws its own photos. Each turn times every way once, a calibration beside it.
"""

import io
import random
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.image import ImageTooLargeError, Preprocessing, read_image, read_pixels, to_array
from shared.image_headers import check_pieces
from trainer.drawing import draw_scene

ROUNDS = 30
PREPROCESSING = Preprocessing(260, "squash", (0, 0, 0), (1, 1, 1))


def photo(width: int, height: int) -> Image.Image:
    """A drawn scene under noise that costs an encoder about as much as a real photo."""
    scene = draw_scene(random.Random(3), 512)[0].resize((width, height), Image.Resampling.BICUBIC)
    grain = Image.effect_noise((width // 2, height // 2), 40).resize((width, height), Image.Resampling.BICUBIC)
    return Image.blend(scene, grain.convert("RGB"), 0.25)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def in_full(data: bytes) -> NDArray[np.uint8]:
    side = PREPROCESSING.size
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))


def refused(bomb: bytes) -> None:
    try:
        read_image(bomb)
    except ImageTooLargeError:
        return
    raise AssertionError("the bomb was decoded")


def ways() -> dict[str, Callable[[], object]]:
    small, large = photo(640, 480), photo(4000, 3000)
    files = {
        "JPEG 640x480": encoded(small, "JPEG", quality=88),
        "JPEG 4000x3000": encoded(large, "JPEG", quality=88),
        "PNG 640x480": encoded(small, "PNG"),
        "PNG 4000x3000": encoded(large, "PNG", compress_level=1),
        "WEBP 640x480": encoded(small, "WEBP", quality=80),
    }
    timed: dict[str, Callable[[], object]] = {}
    for name, data in files.items():
        image = read_image(data, target=PREPROCESSING.size)
        difference = np.abs(read_pixels(data, PREPROCESSING).astype(int) - in_full(data)).mean()
        print(f"{name:16} {len(data) / 1000:8.0f} KB, {difference:.2f} levels from decoding in full")
        timed[f"{name}: in full"] = lambda data=data: in_full(data)  # type: ignore[misc]
        timed[f"{name}: read_pixels"] = lambda data=data: read_pixels(data, PREPROCESSING)  # type: ignore[misc]
        timed[f"{name}: of it to_array"] = lambda image=image: to_array(image, PREPROCESSING)  # type: ignore[misc]
        kind = name.split()[0]
        timed[f"{name}: of it the check"] = lambda kind=kind, data=data: check_pieces(kind, data)  # type: ignore[misc]
    bomb = encoded(Image.new("1", (13_000, 13_000)), "PNG")
    timed[f"a bomb of 169 megapixels in {len(bomb) / 1000:.0f} KB"] = lambda: refused(bomb)
    numbers = np.random.default_rng(0).random(50_000)
    timed["calibration: sort 50,000 numbers"] = lambda: np.sort(numbers)
    return timed


def main() -> None:
    timed = ways()
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(ROUNDS + 1):
        for name, way in timed.items():
            began = time.perf_counter()
            way()
            if turn:  # the first warms up
                seconds[name].append(time.perf_counter() - began)
    for name, each in seconds.items():
        print(f"{name:40} {statistics.median(each) * 1000:8.2f} ms  ({min(each) * 1000:.2f} to {max(each) * 1000:.2f})")
    for name in seconds:
        if name.endswith(": read_pixels"):
            full = seconds[name.replace("read_pixels", "in full")]
            ratios = [a / b for a, b in zip(full, seconds[name], strict=True)]
            print(f"{name.removesuffix(': read_pixels'):16} {statistics.median(ratios):.2f} times as fast as in full")


if __name__ == "__main__":
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    main()
