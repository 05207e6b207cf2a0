"""A function of tensors on buffers that stay in place, one set for each shape of its inputs: what CUDA graphs ask for.

A graph is a recording of kernels and addresses. So inputs are copied into its buffers, it is replayed, and outputs are
copied out before anything else runs: graphs of one pool overwrite each other's memory.
"""

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Outputs = Sequence[Tensor]
Function = Callable[..., Outputs]

WARM_UP_RUNS = 3
"""Before a graph is recorded, libraries choose their kernels and take their memory."""
_RECORDING = threading.Lock()


class Recording(NamedTuple):
    replay: Callable[[], object]
    """Computes `outputs`, in place, from the inputs that it was recorded with."""
    outputs: Outputs


Record = Callable[[Function, Sequence[Tensor]], Recording]


class StaticGraphs:
    """One thread at a time calls it; the tensors it returns are its caller's."""

    def __init__(self, function: Function, record: Record, *, device: str) -> None:
        self._function, self._record, self._device = function, record, device
        self._graphs: dict[tuple[torch.Size, ...], tuple[list[Tensor], Recording]] = {}

    def __len__(self) -> int:
        return len(self._graphs)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Inputs may be anywhere; from pinned memory they are copied without waiting."""
        shapes = tuple(given.shape for given in inputs)
        if shapes not in self._graphs:
            buffers = [torch.zeros_like(given, device=self._device) for given in inputs]
            self._graphs[shapes] = buffers, self._record(self._function, buffers)
        buffers, recording = self._graphs[shapes]
        for buffer, given in zip(buffers, inputs, strict=True):
            buffer.copy_(given, non_blocking=True)
        recording.replay()
        return tuple(output.clone() for output in recording.outputs)


def cuda_recorder(device: str) -> Record:
    """Records on the current stream, which must not be the default one; all its graphs share one pool of memory."""
    pool = torch.cuda.graph_pool_handle()

    def record(function: Function, inputs: Sequence[Tensor]) -> Recording:
        for _ in range(WARM_UP_RUNS):
            function(*inputs)
        stream = torch.cuda.current_stream(device)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other threads may compute meanwhile, but not record.
        with _RECORDING, torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            outputs = function(*inputs)
        return Recording(graph.replay, outputs)

    return record
