"""JPEGs as a camera's are in size: scenes the project draws, with light, shade and grain laid over them."""

import io
import random
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.drawing import draw_scene

WIDTH, HEIGHT = 640, 480
SHADE, GRAIN, QUALITY = 0.35, 8.0, 88
"""The share of the shade, the grain's deviation in levels of 255, and JPEG's quality: some 95 KB each."""


def jpeg(seed: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """The same seed gives the same picture."""
    noise = np.random.default_rng(seed)
    side = max(width, height)
    left, top = (side - width) // 2, (side - height) // 2
    drawn = draw_scene(random.Random(seed), min(side, WIDTH))[0].resize((side, side))
    scene = drawn.crop((left, top, left + width, top + height))
    shade = Image.fromarray(noise.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(scene.size)
    pixels = np.asarray(Image.blend(scene, shade, SHADE)) + noise.normal(0, GRAIN, (height, width, 1))
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def write_pictures(folder: Path, count: int) -> list[Path]:
    """Those that are there already are kept; the folder holds no others afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed:04d}.jpg" for seed in range(count)]
    for path in set(folder.iterdir()) - set(paths):
        path.unlink()
    for seed, path in enumerate(paths):
        if not path.exists():
            path.write_bytes(jpeg(seed))
    return paths
