import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.benchmarks.processes import Program, calibrate, tree

CHILD = "import time, hashlib\nwhile True: hashlib.sha256(bytes(100_000)).digest()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Program]:
    """A program whose child works all the time."""
    program = Program([sys.executable, "-c", PARENT], log=tmp_path / "log", environment=os.environ)
    until(lambda: program.cpu_seconds() > 0.2)
    yield program
    program.stop()


def until(is_so: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_a_halted_program_uses_no_cpu_until_it_is_resumed(busy: Program) -> None:
    busy.halt()
    time.sleep(0.05)
    used = busy.cpu_seconds()
    time.sleep(0.2)
    assert busy.cpu_seconds() == used
    busy.resume()
    until(lambda: busy.cpu_seconds() > used + 0.05)


def test_a_program_is_stopped_with_its_children_even_when_halted(busy: Program) -> None:
    members = tree(busy.process.pid)
    assert len(members) == 2
    busy.halt()
    busy.stop()
    until(lambda: not any(is_running(pid) for pid in members))


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_memory_is_that_of_parent_and_child(busy: Program) -> None:
    assert 5e6 < busy.resident_bytes() < 2e8


def test_calibration_tells_a_speed() -> None:
    assert calibrate() > 1
