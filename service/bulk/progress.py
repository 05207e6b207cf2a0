"""How far a run is and how it went, for people: on stderr."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

Done = TypeVar("Done")


def with_progress(done: Iterable[Done], total: int, count: Callable[[Done], int]) -> Iterator[Done]:
    """A bar where somebody sees it, if rich is there (extras 'bulk' and 'cli')."""
    bar = _bar() if sys.stderr.isatty() else None
    if bar is None:
        yield from done
        return
    with bar:
        task = bar.add_task("pictures", total=total)
        for part in done:
            yield part
            bar.advance(task, count(part))


def report(total: int, captioned: int, failed: int, seconds: float) -> None:
    rate = captioned / max(seconds, 1e-9)
    before = f"; {total - captioned} had a row already" if captioned < total else ""
    sys.stderr.write(f"{captioned} pictures in {seconds:.1f} s, {rate:.1f}/s; {failed} with an error{before}\n")


def _bar() -> "Progress | None":
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TimeRemainingColumn
    except ImportError:
        return None
    columns = BarColumn(), MofNCompleteColumn(), TaskProgressColumn(), TimeRemainingColumn()
    # What is printed goes where it went: stdout may be a file.
    return Progress(*columns, console=Console(file=sys.stderr), redirect_stdout=False, redirect_stderr=False)
