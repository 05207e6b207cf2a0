import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.cpus import available_cpus
from tests.service.conftest import PROJECT
from tests.service.control_groups import drawn_group, one_cpu_group

ALL = len(os.sched_getaffinity(0))
IN_DOCKER = "12:cpu,cpuacct:/docker/4f2a\n11:cpuset:/docker/4f2a\n0::/docker/4f2a\n"
IN_A_SERVICE = "0::/system.slice/caption.service\n"


def v1(group: str, quota: int) -> dict[str, str]:
    return {f"{group}/cpu.cfs_quota_us": f"{quota}\n", f"{group}/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("files", "membership", "expected"),
    [
        ({"cpu.max": "100000 100000"}, "0::/\n", 1),
        ({"cpu.max": "150000 100000"}, "0::/\n", 2),
        ({"cpu.max": "10000 100000"}, "0::/\n", 1),
        (v1("cpu", 50000), "1:cpu:/\n", 1),
        ({"system.slice/caption.service/cpu.max": "100000 100000"}, IN_A_SERVICE, 1),
        ({"system.slice/cpu.max": "100000 100000"}, IN_A_SERVICE, 1),
        (
            {"system.slice/cpu.max": "100000 100000", "system.slice/caption.service/cpu.max": "max 100000"},
            IN_A_SERVICE,
            1,
        ),
        (v1("cpu/docker/4f2a", 100000), IN_DOCKER, 1),
        (v1("cpu,cpuacct/docker/4f2a", 100000), IN_DOCKER, 1),
        (v1("cpu/docker", 100000) | v1("cpu/docker/4f2a", -1), IN_DOCKER, 1),
        (v1("cpu", 100000), IN_DOCKER, 1),
        (v1("cpu/docker/4f2a", 100000) | {"unified/cgroup.procs": ""}, IN_DOCKER, 1),
        ({"cpu.max": "100000 100000"}, "0::/../sidecar\n", 1),
    ],
    ids=[
        "version 2",
        "version 2: a rest counts as a whole CPU",
        "version 2: less than one",
        "version 1",
        "version 2, nested",
        "version 2, the quota is a parent's",
        "version 2, the quota is a parent's, the own one is none",
        "version 1, nested",
        "version 1, nested, mounted by its full name",
        "version 1, the quota is a parent's",
        "version 1, the container sees its group as the root",
        "both versions, version 1 has the CPUs",
        "version 2, the path leads outside",
    ],
)
def test_the_quota_of_either_cgroup_version_cuts_the_count(
    files: dict[str, str], membership: str, expected: int, tmp_path: Path
) -> None:
    assert count(files, membership, tmp_path) == min(expected, ALL)


@pytest.mark.parametrize(
    ("files", "membership"),
    [
        ({}, ""),
        ({"cpu.max": "max 100000"}, "0::/\n"),
        ({"cpu.max": "nonsense"}, "0::/\n"),
        (v1("cpu", -1), "1:cpu:/\n"),
        ({"elsewhere/cpu.max": "100000 100000"}, IN_A_SERVICE),
        (v1("cpuset/docker/4f2a", 100000), IN_DOCKER),
    ],
)
def test_without_a_quota_the_affinity_counts(files: dict[str, str], membership: str, tmp_path: Path) -> None:
    assert count(files, membership, tmp_path) == ALL


def test_a_machine_without_cgroups_counts_its_affinity(tmp_path: Path) -> None:
    assert available_cpus(tmp_path / "none", tmp_path / "none") == ALL


def count(files: dict[str, str], membership: str, folder: Path) -> int:
    return available_cpus(*drawn_group(files, membership, folder))


def test_a_real_group_with_a_quota_of_one_cpu_is_seen_from_inside() -> None:
    with one_cpu_group() as group:
        program = [*group, sys.executable, "-c", "from service.cpus import available_cpus; print(available_cpus())"]
        done = subprocess.run(program, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
