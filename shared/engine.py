"""What runs the network: the surface that every engine has."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.beam_search import Arrays, Step

BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Batches are padded to one of these: runtimes keep memory for every shape they ever saw."""


class EngineError(ValueError):
    """An engine, precision or device that is not to be had here; says what would be."""


class Engine(Protocol):
    """Encoder and decoding step on one device. One thread at a time calls it."""

    name: str
    precision: str
    device: str

    def encode(self, images: NDArray[np.uint8]) -> Arrays:
        """Images (B, S, S, 3) -> what the decoder looks at and its first memory, arrays (B, ...)."""

    def start(self, features: Arrays, beam_size: int) -> Arrays:
        """The decoder's memory before the first word for each of K beams, arrays (B, K, ...)."""

    def step(self, features: Arrays, words: NDArray[np.int64], state: Arrays) -> Step:
        """See `shared.beam_search.StepFunction`."""


class Engines(NamedTuple):
    """On a CPU, cores that compute side by side do more than cores that compute one thing together, but later."""

    workers: tuple[Engine, ...]
    """Each for a thread of its own."""
    alone: Engine
    """For a batch while no worker works: it has every thread. May be the only worker's."""
