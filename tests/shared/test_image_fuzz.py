"""Damaged files of every type: a picture or an `InvalidImageError`, whatever happened to them.

`python -m tests.shared.fuzz_images COUNT` does the same for longer, and tells what it saw.
"""

import random
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.image import ImageLimits, InvalidImageError, Preprocessing, read_pixels
from tests.shared.image_damage import SEEDS, damaged

PREPROCESSING = Preprocessing(8, "crop", (0, 0, 0), (1, 1, 1))
LIMITS = ImageLimits(max_pixels=1_000_000)
CPU_S = 5


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=4000, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.sampled_from(SEEDS), st.integers(0, 2**32))
def test_damaged_files_give_a_picture_or_an_invalid_image_error(seed: tuple[str, bytes], chance: int) -> None:
    data = damaged(seed[1], random.Random(chance))
    began = time.thread_time()
    try:
        pixels = read_pixels(data, PREPROCESSING, LIMITS)
    except InvalidImageError:
        return
    finally:
        assert time.thread_time() - began < CPU_S
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8


def test_the_undamaged_files_are_read() -> None:
    for _, data in SEEDS:
        assert read_pixels(data, PREPROCESSING, LIMITS).shape == (8, 8, 3)
