import os
from pathlib import Path

import pytest

from service.cpus import available_cpus


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "10000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_the_quota_of_either_cgroup_version_cuts_the_count(
    files: dict[str, str], expected: int, tmp_path: Path
) -> None:
    write(files, tmp_path)
    assert available_cpus(tmp_path) == min(expected, len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"cpu.max": "max 100000"},
        {"cpu.max": "nonsense"},
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
    ],
)
def test_without_a_quota_the_affinity_counts(files: dict[str, str], tmp_path: Path) -> None:
    write(files, tmp_path)
    assert available_cpus(tmp_path) == len(os.sched_getaffinity(0))


def write(files: dict[str, str], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
