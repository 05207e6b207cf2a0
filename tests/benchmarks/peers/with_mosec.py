"""The engine behind mosec: pictures are read in a stage of their own, as its documentation advises, then batched.

`max_wait_time` is to be less than a batch takes. Between the stages pixels go as bytes, not pickled.
"""

import numpy as np
from mosec import Server, Worker
from numpy.typing import NDArray

from shared.bundle import Bundle
from shared.image import read_pixels
from tests.benchmarks.peers.engine import BUNDLE, MAX_BATCH_SIZE, Engine

MAX_WAIT_MS = 1
READERS = 1


class Read(Worker):
    def __init__(self) -> None:
        self.preprocessing = Bundle.load(BUNDLE).preprocessing

    def deserialize(self, data: bytes) -> bytes:
        return data

    def serialize_ipc(self, data: NDArray[np.uint8]) -> bytes:
        return data.tobytes()

    def forward(self, data: bytes) -> NDArray[np.uint8]:
        return read_pixels(data, self.preprocessing)


class Caption(Worker):
    def __init__(self) -> None:
        self.engine = Engine()
        size = self.engine.captioner.bundle.preprocessing.size
        self.shape = (size, size, 3)

    def deserialize_ipc(self, data: bytes) -> NDArray[np.uint8]:
        return np.frombuffer(data, np.uint8).reshape(self.shape)

    def forward(self, data: list[NDArray[np.uint8]]) -> list[dict[str, str]]:
        return [{"caption": caption} for caption in self.engine.caption(data)]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Read, num=READERS)
    server.append_worker(Caption, num=1, max_batch_size=MAX_BATCH_SIZE, max_wait_time=MAX_WAIT_MS)
    server.run()
