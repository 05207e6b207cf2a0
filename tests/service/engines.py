"""An engine in trouble: a real one behind a gate."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from starlette.testclient import TestClient

from shared.beam_search import Arrays, Step
from shared.engine import Engine
from tests.service import pictures


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


def caption_behind_one(client: TestClient, engine: TroubledEngine, count: int) -> None:
    """One picture is held in the engine until `count` others wait in the queue; all get their captions."""

    def send(number: int) -> int:
        head = {"content-type": "image/jpeg"}
        return client.post("/caption", content=pictures.jpeg(number), headers=head).status_code

    with ThreadPoolExecutor(1 + count) as threads:
        asked = [threads.submit(send, 0)]
        assert engine.entered.acquire(timeout=20)
        asked += [threads.submit(send, number) for number in range(1, 1 + count)]
        while client.app.state.pipeline.batcher.depth < count:  # type: ignore[attr-defined]
            time.sleep(0.01)
        engine.gate.set()
        assert {each.result() for each in asked} == {200}
