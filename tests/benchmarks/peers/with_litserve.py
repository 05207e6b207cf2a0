"""The engine behind LitServe: one worker, batching on, results over ZeroMQ, as its documentation advises for speed.

A timeout of 0 would let an idle worker spin on its queue. It takes no bare bytes: a body is JSON or a form.
"""

import sys

import litserve
import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from tests.benchmarks.peers.engine import MAX_BATCH_SIZE, Engine

BATCH_TIMEOUT_S = 0.002


class Captions(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.engine = Engine()

    def decode_request(self, request: Request) -> NDArray[np.uint8]:
        return self.engine.read(request["image"].file.read())

    def batch(self, inputs: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        return inputs

    def predict(self, pixels: list[NDArray[np.uint8]]) -> list[str]:
        return self.engine.caption(pixels)

    def unbatch(self, output: list[str]) -> list[str]:
        return output

    def encode_response(self, output: str) -> dict[str, str]:
        return {"caption": output}


if __name__ == "__main__":
    api = Captions(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_TIMEOUT_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True, timeout=60)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="warning"
    )
