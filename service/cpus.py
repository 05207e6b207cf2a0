"""How many CPUs this process may really use: its affinity, cut by the quota of its container; and what that costs it.

A quota holds for a control group and all that are in it, so every group from this process's own up to the root counts.
A container may see its own group as the root, whatever its path is outside: what is not there sets no quota.

    version 2   <mount>/<path>/cpu.max                              "<microseconds> <period>", "max <period>" for none
    version 1   <mount>/cpu/<path>/cpu.cfs_{quota,period}_us        -1 for none
    both        <group>/cpu.stat                                    how often the quota made the group stand still
"""

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MOUNT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def available_cpus(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> int:
    """At least 1; the rest of a CPU counts as a whole one."""
    quotas = [math.ceil(cpus) for cpus, _ in _quotas(mount, membership)]
    return max(1, min([len(os.sched_getaffinity(0)), *quotas]))


@dataclass(frozen=True)
class Throttling:
    """What the kernel has counted since the group was made."""

    periods: int = 0
    throttled_periods: int = 0
    throttled_s: float = 0.0


def throttling(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> Throttling:
    """Of the tightest quota, which is this process's own group's or one above it; zeros without any."""
    _, group = min(_quotas(mount, membership), key=lambda quota: quota[0], default=(0.0, None))
    if group is None:
        return Throttling()
    counts = dict[str, int]()
    with contextlib.suppress(OSError, ValueError):
        for line in (group / "cpu.stat").read_text().splitlines():
            name, value = line.split()
            counts[name] = int(value)
    nanoseconds = counts.get("throttled_time", counts.get("throttled_usec", 0) * 1000)
    return Throttling(counts.get("nr_periods", 0), counts.get("nr_throttled", 0), nanoseconds / 1e9)


def _quotas(mount: Path, membership: Path) -> Iterator[tuple[float, Path]]:
    """In CPUs, each with the group that has it."""
    for group in _groups(mount, membership):
        with contextlib.suppress(OSError, ValueError):
            allowed, period = (group / "cpu.max").read_text().split()
            yield int(allowed) / int(period), group
        with contextlib.suppress(OSError, ValueError):
            quota = int((group / "cpu.cfs_quota_us").read_text())
            if quota > 0:
                yield quota / int((group / "cpu.cfs_period_us").read_text()), group


def _groups(mount: Path, membership: Path) -> Iterator[Path]:
    """Every folder that may hold a quota; a line of `membership` is "<number>:<controllers>:<path>"."""
    lines = ["0::/", "0:cpu:/"]
    with contextlib.suppress(OSError):
        lines += membership.read_text().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        inside = PurePosixPath(path.lstrip("/"))
        for root in {mount / controllers, mount / "cpu"} if controllers else {mount}:
            yield from (root / group for group in (inside, *inside.parents))
