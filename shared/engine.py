"""What runs the network: one surface, two engines. Neither runtime is imported before it is asked for."""

import importlib.util
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.beam_search import Arrays, Step
from shared.bundle import Bundle

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


def load_engine(name: str, bundle: Bundle, *, precision: str = "auto", threads: int = 0) -> Engine:
    """`auto` is openvino, or torch where it finds a GPU. `threads` 0 leaves the number to the runtime."""
    if name == "auto":
        name = "torch" if _has_gpu() else "openvino"
    if name == "openvino":
        from shared.openvino_engine import load_openvino_engine

        return load_openvino_engine(bundle, precision=precision, threads=threads)
    if name == "torch":
        if importlib.util.find_spec("torch") is None or importlib.util.find_spec("timm") is None:
            raise EngineError("the engine 'torch' needs the extra 'gpu' (torch, timm); without it use 'openvino'")
        from shared.torch_engine import load_torch_engine

        return load_torch_engine(bundle, precision=precision, threads=threads)
    raise EngineError(f"unknown engine {name!r}; use 'auto', 'openvino' or 'torch'")


def _has_gpu() -> bool:
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("timm") is None:
        return False
    import torch

    return torch.cuda.is_available()
