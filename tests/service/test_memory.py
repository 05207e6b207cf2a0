"""What a burst took, the system has back; in a process of its own, as malloc's settings are one process's."""

import os
import subprocess
import sys

import pytest

RESIDENT = """
import os

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
"""

BURST = """
import sys
from service.memory import return_what_is_freed

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


def said_by(script: str, *arguments: str, **environment: str) -> str:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", RESIDENT + script, *arguments]
    return subprocess.run(command, env=bare | environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("settings", "is_returned"), [("told", True), ("untold", False)])
def test_large_blocks_go_back_to_the_system(settings: str, is_returned: bool) -> None:
    assert (int(said_by(BURST, settings)) > 80e6) is is_returned


HOLES = """
import asyncio, contextlib
from service.memory import keep_trimmed

async def trimmed():
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            await keep_trimmed(asyncio.to_thread, every_s=0.1)

pieces = [os.urandom(20_000) for _ in range(5_000)]
kept = pieces[::10]  # what is between them is free, and no end of the heap
pieces.clear()
before = resident()
asyncio.run(trimmed())
print(before - resident())
"""


def test_free_pages_between_what_is_in_use_go_back_too() -> None:
    assert int(said_by(HOLES)) > 60e6
    assert int(said_by(HOLES, MALLOC_TRIM_THRESHOLD_="4000000000")) < 10e6


SPARED = """
import gc
from service.app import create_app
from service.memory import spare_what_stays
from service.settings import Settings

app = create_app(Settings())
before = len(gc.get_objects())
spare_what_stays()
print(before, len(gc.get_objects()))
"""


def test_the_collector_passes_over_what_is_there_at_start() -> None:
    before, after = map(int, said_by(SPARED).split())
    assert before > 50_000
    assert after < 0.01 * before
