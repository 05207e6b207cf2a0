"""What was found for a picture, wherever it was captioned, and how that is printed."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from service.bulk.rows import CSV_HEADER, Format, Row, to_line


@dataclass(frozen=True)
class Found:
    index: int
    """Of the picture on the command line."""
    rows: Sequence[Row]
    """A candidate each, best first; or one with an error."""
    explained: Callable[[], bytes]
    """A PNG of what the model looked at."""

    @property
    def has_failed(self) -> bool:
        return self.rows[0].error_code is not None


def nothing_to_explain() -> bytes:
    raise ValueError("there is no caption to explain")


def in_order(found: Iterable[Found]) -> Iterator[Found]:
    """As on the command line, each as soon as those before it are there."""
    held: dict[int, Found] = {}
    due = 0
    for one in found:
        held[one.index] = one
        while due in held:
            yield held.pop(due)
            due += 1


class Printer:
    """Captions on stdout as text, lines of JSON, or CSV; what is wrong in words on stderr, too."""

    def __init__(self, form: Format | None, *, named: bool) -> None:
        self._form, self._named = form, named
        if form == "csv":
            self._write(CSV_HEADER.decode())

    def print(self, found: Found) -> None:
        for row in found.rows:
            if row.error_code is not None:
                sys.stderr.write(f"{row.file}: {row.error_message}\n")
            if self._form:
                self._write(to_line(row, self._form).decode())
            elif row.caption is not None:
                self._write(f"{row.file}: {row.caption}\n" if self._named else f"{row.caption}\n")

    def _write(self, line: str) -> None:
        sys.stdout.write(line)
        sys.stdout.flush()
