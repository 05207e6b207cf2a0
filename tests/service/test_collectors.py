"""What is looked up only when Prometheus asks."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from service.collectors import CpuThrottling, GpuMemory
from service.cpus import Throttling, throttling
from tests.service.conftest import PROJECT, metric_value
from tests.service.control_groups import drawn_group, one_cpu_group
from tests.service.test_cpus import IN_A_SERVICE, IN_DOCKER, v1

V1_STAT = {"cpu/docker/4f2a/cpu.stat": "nr_periods 8\nnr_throttled 3\nthrottled_time 1500000000\n"}
V2_STAT = "usage_usec 9\nnr_periods 8\nnr_throttled 3\nthrottled_usec 1500000\nnr_bursts 0\n"
OUTER_STAT = {"system.slice/cpu.stat": "nr_periods 100\nnr_throttled 90\nthrottled_usec 1\n"}


@pytest.mark.parametrize(
    ("files", "membership"),
    [
        (v1("cpu/docker/4f2a", 100000) | V1_STAT, IN_DOCKER),
        ({"cpu.max": "100000 100000", "cpu.stat": V2_STAT}, "0::/\n"),
        (
            {
                "system.slice/caption.service/cpu.max": "50000 100000",
                "system.slice/caption.service/cpu.stat": V2_STAT,
                "system.slice/cpu.max": "100000 100000",
                **OUTER_STAT,
            },
            IN_A_SERVICE,
        ),
    ],
    ids=["version 1", "version 2", "version 2: of two quotas the tighter one"],
)
def test_throttling_is_that_of_the_quota_that_counts(files: dict[str, str], membership: str, tmp_path: Path) -> None:
    assert read(files, membership, tmp_path) == Throttling(periods=8, throttled_periods=3, throttled_s=1.5)


@pytest.mark.parametrize(
    ("files", "membership"),
    [
        ({}, ""),
        ({"cpu.max": "max 100000", "cpu.stat": V2_STAT}, "0::/\n"),
        ({"cpu.max": "100000 100000"}, "0::/\n"),
        ({"cpu.max": "100000 100000", "cpu.stat": "nonsense"}, "0::/\n"),
    ],
)
def test_without_a_quota_or_counts_nothing_is_throttled(files: dict[str, str], membership: str, tmp_path: Path) -> None:
    assert read(files, membership, tmp_path) == Throttling()


def read(files: dict[str, str], membership: str, folder: Path) -> Throttling:
    return throttling(*drawn_group(files, membership, folder))


def test_a_real_group_that_uses_up_its_quota_is_told_throttled() -> None:
    """Two processes in a group with one CPU; beside other load it may take them a while."""
    burn = (
        "import time\nfrom service.cpus import throttling\nend = time.monotonic() + 30\n"
        "while time.monotonic() < end and not throttling().throttled_periods: pass\n"
    )
    tell = "from service.cpus import throttling; now = throttling(); print(now.throttled_periods, now.throttled_s)"
    script = f'"$0" -c "$1" & "$0" -c "$1"; wait; "$0" -c "{tell}"'
    with one_cpu_group() as group:
        program = [*group, "sh", "-c", script, sys.executable, burn]
        done = subprocess.run(program, cwd=PROJECT, capture_output=True, text=True, check=True)
    periods, seconds = map(float, done.stdout.split())
    assert periods > 0
    assert seconds > 0


def test_throttling_has_counters() -> None:
    registry = CollectorRegistry()
    registry.register(CpuThrottling(lambda: Throttling(8, 3, 1.5)))
    text = generate_latest(registry).decode()
    assert metric_value(text, "caption_cpu_periods_total") == 8
    assert metric_value(text, "caption_cpu_throttled_periods_total") == 3
    assert metric_value(text, "caption_cpu_throttled_seconds_total") == 1.5


def test_the_memory_of_gpus_is_told_where_torch_is_at_work_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for torch: no GPU is here."""
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: 2,
        mem_get_info=lambda device: (70 + device, 100),
        memory_allocated=lambda device: 10 + device,
        memory_reserved=lambda device: 20 + device,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    registry = CollectorRegistry()
    registry.register(GpuMemory())
    text = generate_latest(registry).decode()
    told = {
        kind: [metric_value(text, f'caption_gpu_memory_{kind}_bytes{{device="{device}"}}') for device in range(2)]
        for kind in ("allocated", "reserved", "free", "total")
    }
    assert told == {"allocated": [10, 11], "reserved": [20, 21], "free": [70, 71], "total": [100, 100]}


@pytest.mark.parametrize("prepare", ["", "import torch"], ids=["torch is not loaded", "torch has no GPU"])
def test_without_a_gpu_nothing_is_told_and_torch_is_not_loaded(prepare: str) -> None:
    program = f"""
import sys
{prepare}
loaded = set(sys.modules)
from prometheus_client import CollectorRegistry, generate_latest
from service.collectors import GpuMemory
registry = CollectorRegistry()
registry.register(GpuMemory())
assert generate_latest(registry) == b"", generate_latest(registry)
assert "torch" in loaded or "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=True)
