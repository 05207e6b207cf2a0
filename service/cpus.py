"""How many CPUs this process may really use: its affinity, cut by the container's quota."""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = CGROUP) -> int:
    return max(1, min(len(os.sched_getaffinity(0)), _quota(cgroup)))


def _quota(cgroup: Path) -> int:
    """The quota, a rest of a CPU counted as a whole one; all CPUs where there is none.

    cgroup v2 writes "max 100000" or "<microseconds> <period>" into one file, v1 two files and -1 for no quota.
    """
    every = os.cpu_count() or 1
    for read in (_version_2, _version_1):
        try:
            allowed, period = read(cgroup)
            return every if allowed in ("max", "-1") else math.ceil(int(allowed) / int(period))
        except (OSError, ValueError):
            continue
    return every


def _version_2(cgroup: Path) -> tuple[str, str]:
    allowed, period = (cgroup / "cpu.max").read_text().split()
    return allowed, period


def _version_1(cgroup: Path) -> tuple[str, str]:
    folder = cgroup / "cpu"
    return (folder / "cpu.cfs_quota_us").read_text().strip(), (folder / "cpu.cfs_period_us").read_text().strip()
