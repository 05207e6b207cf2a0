"""What a burst took, the system has back; in a process of its own, as malloc's settings are one process's."""

import os
import subprocess
import sys

import pytest

BURST = """
import os, sys
from service.memory import return_what_is_freed

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

if sys.argv[1] == "told":
    return_what_is_freed()
lesson = os.urandom(8 << 20)
del lesson  # untold, glibc keeps blocks of this size from now on
blocks = [os.urandom(6 << 20) for _ in range(16)]
behind_them = os.urandom(1 << 20)
before = resident()
blocks.clear()
print(before - resident())
"""


@pytest.mark.parametrize(("settings", "is_returned"), [("told", True), ("untold", False)])
def test_large_blocks_go_back_to_the_system(settings: str, is_returned: bool) -> None:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    said = subprocess.run([sys.executable, "-c", BURST, settings], env=bare, capture_output=True, text=True, check=True)
    assert (int(said.stdout) > 80e6) is is_returned
