"""Which engine runs the network here, and how many of them. Neither runtime is imported before it is asked for."""

import importlib.util
import os
from collections.abc import Callable
from functools import partial

from shared.bundle import Bundle
from shared.engine import Engine, EngineError, Engines

GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")
"""One of them is there where torch may find a GPU; where none is, a second is saved that loading torch takes."""
MAX_CPU_WORKERS = 8
"""Unless more are asked for: each has the weights in memory of its own."""


def load_engine(name: str, bundle: Bundle, *, precision: str = "auto", threads: int = 0) -> Engine:
    """`auto` is openvino, or torch where it finds a GPU. `threads` 0 leaves the number to the runtime."""
    return load_engines(name, bundle, precision=precision, threads=threads, workers=1).alone


def load_engines(name: str, bundle: Bundle, *, precision: str = "auto", threads: int = 0, workers: int = 0) -> Engines:
    """As many workers as `workers` says; 0 is one for each GPU, or one for each of the `threads` of a CPU, up to 8.

    Several share the GPUs out among them, or the threads.
    """
    if name == "auto":
        name = "torch" if _gpus() else "openvino"
    if name == "torch" and not _has_torch():
        raise EngineError("the engine 'torch' needs the extra 'gpu' (torch, timm); without it use 'openvino'")
    if name == "openvino":
        from shared.openvino_engine import openvino_loader

        workers = workers or min(max(1, threads), MAX_CPU_WORKERS)
        return _sharing(openvino_loader(bundle, precision=precision), threads, workers)
    if name == "torch":
        from shared.torch_engine import load_torch_engine

        gpus = _gpus()
        load = partial(load_torch_engine, bundle, precision=precision)
        if not gpus:
            return _sharing(partial(load, device="cpu"), threads, workers or 1)
        found = tuple(load(device=f"cuda:{worker % gpus}", threads=threads) for worker in range(workers or gpus))
        return Engines(found, found[0])
    raise EngineError(f"unknown engine {name!r}; use 'auto', 'openvino' or 'torch'")


def _sharing(load: Callable[..., Engine], threads: int, workers: int) -> Engines:
    """Engines that share the threads of a CPU out."""
    each = threads and max(1, threads // workers)
    found = tuple(load(threads=each) for _ in range(workers))
    return Engines(found, found[0] if each == threads else load(threads=threads))


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None and importlib.util.find_spec("timm") is not None


def _gpus() -> int:
    if not (_has_torch() and any(map(os.path.exists, GPU_DEVICES))):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
