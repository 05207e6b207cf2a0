"""Threads beside the event loop: one for rare work, which ends with it, and the rank of those that compute."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

BEHIND = 5
"""Steps of niceness: the loop gets a core at once where it has something to say, and threads that compute the rest."""


async def in_passing_thread(work: Callable[[], Result]) -> Result:
    executor = ThreadPoolExecutor(1)
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, work)
    finally:
        executor.shutdown(wait=False)


def stay_behind_the_loop() -> None:
    """The thread that calls, and those that it starts, give way; on Linux alone has each a priority of its own.

    Where a sandbox forbids it, all stay equal: no thread is to die of this.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.nice(BEHIND)
