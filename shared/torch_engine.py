"""The network in PyTorch, run twice: eagerly, as training validates with it and as the reference for every engine; and
from CUDA graphs, as a GPU serves with it."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from shared.beam_search import Arrays, Step
from shared.bundle import WEIGHTS, Bundle
from shared.decoder import Projected
from shared.engine import BATCH_SIZES, EngineError
from shared.model import CaptionModel, ModelConfig
from shared.static_graphs import Record, StaticGraphs, cuda_recorder

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


class GraphedTorchEngine:
    """What a GPU serves with: a stream of its own, a CUDA graph for each size of batch, pinned buffers to and from it.

    Two of them on one GPU overlap: the copies and the beam search of one batch go on while the other computes.
    Only the output layer stays in full precision: a log-probability near -4 has two digits in bf16.
    """

    name = "torch"

    def __init__(self, model: CaptionModel, *, device: str, precision: str, record: Record | None = None) -> None:
        """`record` is how graphs are made; by default CUDA's way."""
        self.device, self.precision = device, precision
        self._model = model.to(device, PRECISIONS[precision]).to(memory_format=torch.channels_last).eval()
        self._model.decoder.output.float()
        self._cuda = device.startswith("cuda")
        self._stream = torch.cuda.Stream(device) if self._cuda else None  # type: ignore[no-untyped-call]
        with self._context():
            record = record or cuda_recorder(device)
            self._encode = StaticGraphs(self._model.encode, record, device=device)
            self._step = StaticGraphs(self._model.step, record, device=device)
        self._pinned: dict[tuple[str, torch.Size], Tensor] = {}

    def warm_up(self, batch_sizes: Sequence[int], image_size: int, beam_size: int) -> None:
        """Record what batches of these sizes need; the largest first, so that the others fit into its memory."""
        for size in sorted(batch_sizes, reverse=True):
            features = self.encode(np.zeros((size, image_size, image_size, 3), np.uint8))
            self.step(features, np.zeros((size, beam_size), np.int64), self.start(features, beam_size))

    def encode(self, images: NDArray[np.uint8]) -> Arrays:
        with self._context():
            return self._encode(self._to_device("images", images))

    def start(self, features: Arrays, beam_size: int) -> Arrays:
        with self._context():
            return tuple(self._model.decoder.start(Projected(*features), beam_size))

    def step(self, features: Arrays, words: NDArray[np.int64], state: Arrays) -> Step:
        with self._context():
            values, keys, pooled, *_ = features
            said = self._step(values, keys, pooled, self._to_device("words", words), *state)
            log_probs, ids, attention = self._to_host(said[0].float(), said[1], said[2].float())
            return Step(log_probs, ids, attention, said[3:])

    def _to_device(self, name: str, array: NDArray[Any]) -> Tensor:
        given = torch.from_numpy(array)
        return self._buffer(name, given).copy_(given) if self._cuda else given

    def _to_host(self, *tensors: Tensor) -> list[NDArray[Any]]:
        buffers = [self._buffer(f"said {i}", tensor) for i, tensor in enumerate(tensors)]
        for buffer, tensor in zip(buffers, tensors, strict=True):
            buffer.copy_(tensor, non_blocking=True)
        if self._stream:
            self._stream.synchronize()
        return [buffer.numpy().copy() for buffer in buffers]

    def _buffer(self, name: str, like: Tensor) -> Tensor:
        place = name, like.shape
        if place not in self._pinned:
            self._pinned[place] = torch.empty(like.shape, dtype=like.dtype, pin_memory=self._cuda)
        return self._pinned[place]

    @contextlib.contextmanager
    def _context(self) -> Iterator[None]:
        """The beam search picks rows on its caller's stream, so each stream waits for the other.

        At the end nothing is under way: what was copied from pinned buffers has been read.
        """
        with torch.inference_mode():
            if self._stream is None:
                yield
                return
            self._stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self._stream):
                yield
                self._stream.synchronize()


def load_torch_engine(
    bundle: Bundle, *, device: str = "cpu", precision: str = "auto", threads: int = 0
) -> TorchEngine | GraphedTorchEngine:
    """A GPU in half precision, or the CPU in fp32, unless `precision` says otherwise."""
    if precision == "auto":
        precision = "fp16" if device != "cpu" else "fp32"
    if precision not in PRECISIONS:
        raise EngineError(f"unknown precision {precision!r}; the engine 'torch' knows {', '.join(PRECISIONS)}")
    if threads:
        torch.set_num_threads(threads)
    model = CaptionModel(ModelConfig(**bundle.architecture), bundle.preprocessing)
    model.load_state_dict(load_file(bundle.path / WEIGHTS))
    if device == "cpu":
        return TorchEngine(model, device=device, precision=precision)
    engine = GraphedTorchEngine(model, device=device, precision=precision)
    engine.warm_up(BATCH_SIZES, bundle.preprocessing.size, bundle.decode.beam_size)
    return engine
