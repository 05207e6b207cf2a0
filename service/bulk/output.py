"""A file of rows that grows batch by batch, and that a later run goes on with.

Rows of JSON and CSV are lines of the file itself; a torn last line, from a run that was killed, is cut off. Parquet
cannot grow: its rows are lines of JSON in `<out>.rows.jsonl` until all are there.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, get_args

from service.bulk.rows import CSV_HEADER, Format, Row, RowError, from_line, read_rows, to_line, write_rows


class OutputError(ValueError):
    """The output cannot be gone on with; says why."""


def format_of(path: Path) -> Format:
    formats: tuple[Format, ...] = get_args(Format)
    for form in formats:
        if path.suffix.lower() == f".{form}":
            return form
    raise OutputError(f"--out is {path}; its ending must be one of {', '.join(formats)}")


class Output:
    """Open, and locked against other runs."""

    def __init__(self, file: IO[bytes], path: Path, form: Format) -> None:
        self.done: set[str] = set()
        self.errors = 0
        """Rows that tell of one, those of earlier runs too."""
        self._file, self._path, self._form = file, path, form
        self._read_earlier_rows()

    def write(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._file.write(to_line(row, self._form))
            self._note(row)
        self._file.flush()

    def rows(self) -> Iterator[Row]:
        self._file.flush()
        with self._path.open("rb") as file:
            yield from read_rows(file, self._form)

    def _note(self, row: Row) -> None:
        self.done.add(row.file)
        self.errors += row.error_code is not None

    def _read_earlier_rows(self) -> None:
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                break
            if self._form != "csv" or number > 1:
                self._note(self._earlier_row(line, number))
            elif line != CSV_HEADER:
                raise OutputError(f"{self._path} does not begin with the line {CSV_HEADER.decode().strip()}")
            whole += len(line)
        self._file.truncate(whole)
        if self._form == "csv" and not whole:
            self._file.write(CSV_HEADER)

    def _earlier_row(self, line: bytes, number: int) -> Row:
        try:
            return from_line(line, self._form)
        except RowError as error:
            raise OutputError(f"{self._path}, line {number}: {error}") from None


@contextlib.contextmanager
def open_output(path: Path) -> Iterator[Output]:
    """Raises OutputError for a file that is no output, or that another run writes."""
    form = format_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if form != "parquet":
        with _locked(path) as file:
            yield Output(file, path, form)
        return
    require_parquet()
    growing = path.with_name(path.name + ".rows.jsonl")
    with _locked(growing) as file:
        if path.exists() and not growing.stat().st_size:
            _copy_parquet(path, file)
        output = Output(file, growing, "jsonl")
        yield output
        _write_whole(path, output.rows(), form)
        growing.unlink()


def require_parquet() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise OutputError("Parquet takes the extra 'bulk' (pyarrow)") from None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"another run writes {path}") from None
        yield file


def _copy_parquet(path: Path, growing: IO[bytes]) -> None:
    with path.open("rb") as file:
        growing.writelines(to_line(row, "jsonl") for row in read_rows(file, "parquet"))
    growing.flush()


def _write_whole(path: Path, rows: Iterable[Row], form: Format) -> None:
    """Under another name first: whoever sees the file sees all of it."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("wb") as file:
        write_rows(file, rows, form)
    unfinished.replace(path)
