"""The network in PyTorch: what a GPU serves with, what training validates with, and the reference for every engine."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from shared.beam_search import Arrays, Step
from shared.bundle import WEIGHTS, Bundle
from shared.decoder import Projected
from shared.engine import EngineError
from shared.model import CaptionModel, ModelConfig

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine:
    """Features and state stay tensors on the device; only the best continuations cross into numpy."""

    name = "torch"

    def __init__(self, model: CaptionModel, *, device: str = "cpu", precision: str = "fp32") -> None:
        self.device, self.precision = device, precision
        self._model = model.to(device).eval()

    def encode(self, images: NDArray[np.uint8]) -> Arrays:
        with self._context():
            pixels = torch.from_numpy(images).to(self.device, non_blocking=True)
            return tuple(self._model.encode(pixels))

    def look(self, features: Tensor) -> Projected:
        """What the decoder looks at, of encoder features (B, P, F) that were cached."""
        with self._context():
            return self._model.decoder.look(features.to(self.device))

    def start(self, features: Arrays, beam_size: int) -> Arrays:
        return tuple(self._model.decoder.start(Projected(*features), beam_size))

    def step(self, features: Arrays, words: NDArray[np.int64], state: Arrays) -> Step:
        with self._context():
            last = torch.from_numpy(words).to(self.device)
            values, keys, pooled, *_ = features
            hidden, cell = state
            log_probs, ids, attention, *after = self._model.step(values, keys, pooled, last, hidden, cell)
            return Step(
                log_probs.float().cpu().numpy(), ids.cpu().numpy(), attention.float().cpu().numpy(), tuple(after)
            )

    @contextlib.contextmanager
    def _context(self) -> Iterator[None]:
        dtype = PRECISIONS[self.precision]
        kind = self.device.partition(":")[0]
        with torch.inference_mode(), torch.autocast(kind, dtype, enabled=dtype != torch.float32):
            yield


def load_torch_engine(bundle: Bundle, *, device: str = "cpu", precision: str = "auto", threads: int = 0) -> TorchEngine:
    """A GPU in half precision, or the CPU in fp32, unless `precision` says otherwise."""
    if precision == "auto":
        precision = "fp16" if device != "cpu" else "fp32"
    if precision not in PRECISIONS:
        raise EngineError(f"unknown precision {precision!r}; the engine 'torch' knows {', '.join(PRECISIONS)}")
    if threads:
        torch.set_num_threads(threads)
    model = CaptionModel(ModelConfig(**bundle.architecture), bundle.preprocessing)
    model.load_state_dict(load_file(bundle.path / WEIGHTS))
    return TorchEngine(model, device=device, precision=precision)
