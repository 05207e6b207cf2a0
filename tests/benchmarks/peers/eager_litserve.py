"""Eager PyTorch behind LitServe, batching on."""

import sys

import litserve
from fastapi import Request
from torch import Tensor

from tests.benchmarks.eager import EagerCaptioner
from tests.benchmarks.peers.engine import BUNDLE, MAX_BATCH_SIZE
from tests.benchmarks.peers.with_litserve import BATCH_TIMEOUT_S


class Captions(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.captioner = EagerCaptioner(BUNDLE)

    def decode_request(self, request: Request) -> Tensor:
        return self.captioner.read(request["image"].file.read())

    def predict(self, images: Tensor) -> list[str]:
        return self.captioner.caption(images)

    def encode_response(self, output: str) -> dict[str, str]:
        return {"caption": output}


if __name__ == "__main__":
    api = Captions(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_TIMEOUT_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=120)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="warning"
    )
