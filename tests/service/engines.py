"""An engine in trouble: a real one behind a gate."""

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shared.beam_search import Arrays, Step
from shared.engine import Engine


class TroubledEngine:
    """A real engine behind a gate; before it encodes a batch, `trouble` may look at the pictures and raise."""

    def __init__(self, engine: Engine) -> None:
        self.name, self.precision, self.device = engine.name, engine.precision, engine.device
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.trouble: Callable[[NDArray[np.uint8]], None] = lambda images: None
        self._engine = engine

    def encode(self, images: NDArray[np.uint8]) -> Arrays:
        self.entered.release()
        assert self.gate.wait(20)
        self.trouble(images)
        return self._engine.encode(images)

    def start(self, features: Arrays, beam_size: int) -> Arrays:
        return self._engine.start(features, beam_size)

    def step(self, features: Arrays, words: NDArray[np.int64], state: Arrays) -> Step:
        return self._engine.step(features, words, state)
