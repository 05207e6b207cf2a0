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
    return load_engines(name, bundle, precision=precision, threads=threads, workers=1)[0]


def load_engines(
    name: str, bundle: Bundle, *, precision: str = "auto", threads: int = 0, workers: int = 0
) -> list[Engine]:
    """As many engines as `workers` says, 0 being one for each GPU, or one; each for a thread of its own.

    Several share the GPUs out among them, or the `threads` of the CPU.
    """
    if name == "auto":
        name = "torch" if _gpus() else "openvino"
    if name == "torch" and not _has_torch():
        raise EngineError("the engine 'torch' needs the extra 'gpu' (torch, timm); without it use 'openvino'")
    gpus = _gpus() if name == "torch" else 0
    workers = workers or max(1, gpus)
    threads = threads and max(1, threads // workers)
    if name == "openvino":
        from shared.openvino_engine import load_openvino_engine

        return [load_openvino_engine(bundle, precision=precision, threads=threads) for _ in range(workers)]
    if name == "torch":
        from shared.torch_engine import load_torch_engine

        devices = [f"cuda:{worker % gpus}" if gpus else "cpu" for worker in range(workers)]
        return [load_torch_engine(bundle, device=device, precision=precision, threads=threads) for device in devices]
    raise EngineError(f"unknown engine {name!r}; use 'auto', 'openvino' or 'torch'")


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None and importlib.util.find_spec("timm") is not None


def _gpus() -> int:
    if not _has_torch():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
