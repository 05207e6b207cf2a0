"""The engine behind BentoML: one worker, adaptive batching within a latency that a full queue does not exceed."""

from pathlib import Path

import bentoml

from tests.benchmarks.peers.engine import MAX_BATCH_SIZE, Engine

MAX_LATENCY_MS = 10_000


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Captions:
    def __init__(self) -> None:
        self.engine = Engine()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH_SIZE, max_latency_ms=MAX_LATENCY_MS)
    def caption(self, pictures: list[Path]) -> list[str]:
        return self.engine.caption([self.engine.read(picture.read_bytes()) for picture in pictures])
