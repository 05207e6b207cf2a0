"""The thread that ends a process which only a restart can help, so that its supervisor restarts it.

It looks a few times a second at the workers and at the event loop. When one of them has died, or is in one and the same
piece of work for longer than the limit, every caller gets a 503 and the process ends, within a second:

    exit code 70      a worker or the event loop
    signal SIGALRM    even this thread cannot run, because a library keeps Python's lock; or its last words take too
                      long, because nobody reads the log any more

The stack of every thread is then on stderr. A process that was halted for longer than the limit counts as stuck.
"""

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

EXIT_CODE = 70
INTERVAL_S = 0.25
LAST_WORDS_S = 0.5
"""From the refusal of every caller to the end: for the answers to be written, and for a probe to see red."""

logger = logging.getLogger(__name__)


class Watchdog:
    """`sick()` is asked on the watchdog's thread: why only a restart helps, or None. Then `give_up(reason)` must fail
    every caller, on the event loop; `last_words()`, on this thread, answers those who have no answer even so.
    """

    def __init__(
        self,
        *,
        limit_s: float,
        sick: Callable[[], str | None],
        give_up: Callable[[str], None],
        last_words: Callable[[], None],
    ) -> None:
        self._limit_s = limit_s
        self._sick, self._give_up, self._last_words = sick, give_up, last_words
        self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()
        self._beat_at = time.monotonic()
        self._beat_is_due = False

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        faulthandler.register(signal.SIGALRM, chain=True)
        self._wind_up()
        thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join()
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _watch(self) -> None:
        while not self._stopped.wait(min(INTERVAL_S, self._limit_s)):
            self._wind_up()
            if reason := self._sick() or self._blocked():
                self._end(reason)

    def _wind_up(self) -> None:
        """Put off the kernel's alarm, which ends the process unless this comes again in time."""
        signal.setitimer(signal.ITIMER_REAL, self._limit_s + INTERVAL_S)

    def _blocked(self) -> str | None:
        """The event loop answers each beat before it gets the next."""
        if not self._beat_is_due:
            self._beat_is_due = True
            self._on_loop(self._beat)
        elif time.monotonic() - self._beat_at > self._limit_s:
            return f"the event loop has been in one callback for more than {self._limit_s:.3g} s"
        return None

    def _beat(self) -> None:
        self._beat_at = time.monotonic()
        self._beat_is_due = False

    def _end(self, reason: str) -> None:
        # What follows may block, and so may stderr; the kernel's alarm will not.
        faulthandler.unregister(signal.SIGALRM)
        signal.setitimer(signal.ITIMER_REAL, 2 * LAST_WORDS_S)
        self._on_loop(self._give_up, reason)
        logger.critical("only a restart helps: %s; exit code %d", reason, EXIT_CODE)
        faulthandler.dump_traceback()
        time.sleep(LAST_WORDS_S)
        self._last_words()
        os._exit(EXIT_CODE)

    def _on_loop(self, callback: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(callback, *arguments)
