"""A program under measurement with all its children: halted while others are measured, its CPU and memory counted."""

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

CALIBRATION_S = 0.1
GRACE_S = 15.0
TICKS = os.sysconf("SC_CLK_TCK")


class Program:
    """Runs from its start on; what it prints goes to `log`."""

    def __init__(self, command: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, env=dict(environment), stdout=output, stderr=output, start_new_session=True
            )
        self.log = log

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def halt(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Asked at first; what is left after some time is killed, children too."""
        self.resume()
        left = tree(self.process.pid)
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_S)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def cpu_seconds(self) -> float:
        """Of the processes that run now, since their start."""
        return sum(_ticks(Path(f"/proc/{pid}")) for pid in tree(self.process.pid)) / TICKS

    def main_thread_seconds(self) -> float:
        """CPU of the first process' main thread, in which an event loop runs."""
        return _ticks(Path(f"/proc/{self.process.pid}/task/{self.process.pid}")) / TICKS

    def resident_bytes(self) -> int:
        """What several share is counted once."""
        return sum(_proportional_bytes(pid) for pid in tree(self.process.pid))

    def _signal(self, number: signal.Signals) -> None:
        for pid in tree(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def end_by_exit() -> None:
    """Let SIGTERM end this process as Ctrl-C does, so that what it started is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            children.setdefault(int(_stat(folder)[1]), []).append(int(folder.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def calibrate() -> float:
    """How fast the machine is just now: megabytes a second that two threads hash, nothing else running."""
    block, counts = bytes(1 << 18), [0, 0]
    ends = time.perf_counter() + CALIBRATION_S

    def work(thread: int) -> None:
        while time.perf_counter() < ends:
            hashlib.sha256(block).digest()
            counts[thread] += 1

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) * len(block) / 1e6 / CALIBRATION_S


def _stat(folder: Path) -> list[str]:
    """The fields of a process' or thread's `stat` after the name, which may hold spaces: state, parent, ..."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def _ticks(folder: Path) -> int:
    try:
        user, system = _stat(folder)[11:13]
    except OSError:
        return 0
    return int(user) + int(system)


def _proportional_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return int(text.partition("\nPss:")[2].split()[0]) * 1024
