"""What the peers have in common: this project's engine, and its reading of pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.cpus import available_cpus
from shared.captioner import Captioner, load_captioner
from shared.engine import BATCH_SIZES
from shared.image import read_pixels

BUNDLE = Path("service/default_model")
MAX_BATCH_SIZE = 16
"""For one engine with every core: as many to a core as the service gives each of its workers."""


class Engine:
    """Warm: every batch size was run once."""

    def __init__(self) -> None:
        self.captioner: Captioner = load_captioner(BUNDLE, threads=available_cpus())
        golden = self.captioner.bundle.golden.image
        pixels = self.read((BUNDLE / golden).read_bytes())
        for size in BATCH_SIZES:
            if size <= MAX_BATCH_SIZE:
                self.caption([pixels] * size)

    def read(self, picture: bytes) -> NDArray[np.uint8]:
        return read_pixels(picture, self.captioner.bundle.preprocessing)

    def caption(self, pixels: Sequence[NDArray[np.uint8]]) -> list[str]:
        found = self.captioner.caption(pixels, [self.captioner.bundle.decode] * len(pixels))
        return [caption.caption for caption in found if caption is not None]
