"""What is freed goes back to the system, and what stays is not looked at again and again."""

import asyncio
import contextlib
import ctypes
import gc
import os
from collections.abc import Awaitable, Callable
from functools import partial

from service.batcher_errors import DrainingError

LARGE_BYTES, KEPT_BYTES = 4 << 20, 16 << 20
HEAPS = 2
"""glibc would make one for every thread, and what outlives a model in each would keep pages of all of them."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
TRIM_EVERY_S = 5.0


def return_what_is_freed() -> None:
    """Left alone, glibc learns to keep blocks of up to 32 MB; told a size, it takes larger ones from the system.

    Call before there are threads.
    """
    if mallopt := _of_malloc("mallopt"):
        mallopt(M_ARENA_MAX, HEAPS)
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


async def keep_trimmed(run: Callable[[Callable[[], int]], Awaitable[int]], every_s: float = TRIM_EVERY_S) -> None:
    """Of each heap glibc itself gives back the end alone; this gives back the free pages between what is in use, too.

    `run` does it beside the event loop, in a few milliseconds, until it refuses work because the service ends.
    """
    if trim := _of_malloc("malloc_trim"):
        with contextlib.suppress(DrainingError):
            while True:
                await asyncio.sleep(every_s)
                await run(partial(trim, 0))


def spare_what_stays() -> None:
    """Call once all is loaded: Python's collector would look at those 100,000 objects after every thousand requests,
    and each time for 40 ms no thread could do anything in Python.
    """
    gc.collect()
    gc.freeze()


def _of_malloc(function: str) -> Callable[..., int] | None:
    """None for another C library, and where the environment tells malloc what to do: it is not overruled."""
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return None
    with contextlib.suppress(AttributeError, OSError):
        return getattr(ctypes.CDLL(None), function)
    return None
