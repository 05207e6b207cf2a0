"""How many CPUs this process may really use: its affinity, cut by the container's quota."""

import math
import os
from pathlib import Path

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available_cpus(quota_file: Path = CGROUP_QUOTA) -> int:
    return max(1, min(len(os.sched_getaffinity(0)), _quota(quota_file)))


def _quota(quota_file: Path) -> int:
    """cgroup v2 writes "max 100000" or "<microseconds> <period>"; a rest of a CPU counts as a whole one."""
    try:
        allowed, period = quota_file.read_text().split()
    except (OSError, ValueError):
        return os.cpu_count() or 1
    return os.cpu_count() or 1 if allowed == "max" else math.ceil(int(allowed) / int(period))
