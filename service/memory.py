"""What is freed goes back to the system: a burst of large pictures must not leave a service large."""

import contextlib
import ctypes
import os

LARGE_BYTES, KEPT_BYTES = 4 << 20, 16 << 20
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def return_what_is_freed() -> None:
    """Left alone, glibc learns to keep blocks of up to 32 MB; told a size, it takes larger ones from the system.

    Who has set it by the environment is not overruled.
    """
    if any(name in os.environ for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")):
        return
    with contextlib.suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
