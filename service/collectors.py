"""What is looked up when Prometheus asks: workers, the CPU quota of the container, the memory of GPUs."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from service.batcher import WorkerState
from service.cpus import Throttling

Family = CounterMetricFamily | GaugeMetricFamily
GPU_MEMORY = {
    "allocated": "Held by tensors of this process.",
    "reserved": "Held by this process, tensors or not.",
    "free": "Left on the device.",
    "total": "Of the device.",
}


@dataclass(frozen=True)
class Workers:
    """Each has a series once the model is loaded."""

    states: Callable[[], Sequence[WorkerState]]

    def collect(self) -> Iterable[Family]:
        alive = GaugeMetricFamily("caption_worker_alive", "1, or 0 for a thread that has ended.", labels=["worker"])
        busy = CounterMetricFamily(
            "caption_worker_busy_seconds", "In batches, each counted at its end.", labels=["worker"]
        )
        for state in self.states():
            alive.add_metric([str(state.number)], state.alive)
            busy.add_metric([str(state.number)], state.busy_s)
        return alive, busy


@dataclass(frozen=True)
class CpuThrottling:
    """Zeros where no quota is set."""

    read: Callable[[], Throttling]

    def collect(self) -> Iterable[Family]:
        now = self.read()
        periods = "Periods of the tightest CPU quota in which something ran."
        yield CounterMetricFamily("caption_cpu_periods", periods, now.periods)
        yield CounterMetricFamily("caption_cpu_throttled_periods", "Those that used it up.", now.throttled_periods)
        waited = "What threads stood still for that, all together."
        yield CounterMetricFamily("caption_cpu_throttled_seconds", waited, now.throttled_s)


class GpuMemory:
    """Nothing where torch with CUDA is not at work already; it is never loaded for this."""

    def collect(self) -> Iterable[Family]:
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_initialized():
            return
        devices = [_gpu_memory(torch, device) for device in range(torch.cuda.device_count())]
        for kind, documentation in GPU_MEMORY.items():
            family = GaugeMetricFamily(f"caption_gpu_memory_{kind}_bytes", documentation, labels=["device"])
            for number, memory in enumerate(devices):
                family.add_metric([str(number)], memory[kind])
            yield family


def _gpu_memory(torch: Any, device: int) -> dict[str, float]:
    free, total = torch.cuda.mem_get_info(device)
    return {
        "allocated": torch.cuda.memory_allocated(device),
        "reserved": torch.cuda.memory_reserved(device),
        "free": free,
        "total": total,
    }
