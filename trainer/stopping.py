"""SIGTERM asks a run to stop: it ends its step, saves, and leaves with an exit code of its own."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

EXIT_STOPPED = 75
"""As sysexits.h has it: a failure that trying again will mend."""


class StoppedError(Exception):
    """The run was asked to stop; its state is saved."""


@contextlib.contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGTERM has come. The old way of handling it returns at the end."""
    asked: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    before = signal.signal(signal.SIGTERM, remember)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGTERM, before)
