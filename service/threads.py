"""A thread for rare work that must not hold the event loop; it ends with the work, where asyncio's own would stay."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


async def in_passing_thread(work: Callable[[], Result]) -> Result:
    executor = ThreadPoolExecutor(1)
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, work)
    finally:
        executor.shutdown(wait=False)
