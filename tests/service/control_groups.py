"""A control group of the real kernel, for programs that are to live with a quota."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from service.cpus import MOUNT


@contextlib.contextmanager
def one_cpu_group() -> Iterator[list[str]]:
    """What to write before a command to run it in a group whose members share one CPU; skips where none can be made."""
    group = (MOUNT / "cpu" if (MOUNT / "cpu").is_dir() else MOUNT) / f"caption-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        try:
            file, quota = ("cpu.max", "100000 100000") if group.parent == MOUNT else ("cpu.cfs_quota_us", "100000")
            (group / file).write_text(quota)
        except OSError as error:
            pytest.skip(f"this control group takes no quota: {error}")
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    finally:
        group.rmdir()


def drawn_group(files: Mapping[str, str], membership: str, folder: Path) -> tuple[Path, Path]:
    """A file system of control groups and a process's place in it, as `service.cpus` reads them."""
    mount, place = folder / "mount", folder / "membership"
    for name, content in files.items():
        (mount / name).parent.mkdir(parents=True, exist_ok=True)
        (mount / name).write_text(content)
    place.write_text(membership)
    return mount, place
