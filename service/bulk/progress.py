"""How far a run is and how it went, for people: on stderr."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Done = TypeVar("Done")


def with_progress(done: Iterable[Done], total: int, count: Callable[[Done], int]) -> Iterator[Done]:
    """A bar where somebody sees it, if tqdm is there (extra 'bulk')."""
    bar = _bar(total) if sys.stderr.isatty() else None
    for part in done:
        yield part
        if bar is not None:
            bar.update(count(part))
    if bar is not None:
        bar.close()


def report(total: int, captioned: int, failed: int, seconds: float) -> None:
    rate = captioned / max(seconds, 1e-9)
    before = f"; {total - captioned} had a row already" if captioned < total else ""
    sys.stderr.write(f"{captioned} pictures in {seconds:.1f} s, {rate:.1f}/s; {failed} with an error{before}\n")


def _bar(total: int) -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=total, unit=" pictures")
