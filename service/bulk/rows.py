"""A row for each picture, its caption or what was wrong with it: as a line of JSON or CSV, or in Parquet."""

import csv
import io
import json
from collections.abc import Iterable
from typing import IO, Literal, NamedTuple

Format = Literal["jsonl", "csv", "parquet"]


class Row(NamedTuple):
    file: str
    caption: str | None = None
    log_probability: float | None = None
    model: str | None = None
    """The version of the model."""
    error_code: str | None = None
    """As in the service's answers, or `unreadable_file`, or `no_copy` beside a caption."""
    error_message: str | None = None


CSV_HEADER = ",".join(Row._fields).encode() + b"\n"


class RowError(ValueError):
    """This line is no row."""


def to_line(row: Row, form: Format) -> bytes:
    if form == "jsonl":
        known = {name: value for name, value in row._asdict().items() if value is not None}
        return json.dumps(known, ensure_ascii=False).encode() + b"\n"
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue().encode()


def from_line(line: bytes, form: Format) -> Row:
    try:
        row = Row(**json.loads(line)) if form == "jsonl" else _from_csv(line)
    except (ValueError, TypeError, StopIteration, csv.Error):
        row = None
    if row is None or not isinstance(row.file, str):
        raise RowError(f"{line[:80]!r} is not a row of captions")
    return row


def _from_csv(line: bytes) -> Row:
    file, *fields = next(csv.reader([line.decode()]))
    caption, log_probability, *others = (field or None for field in fields)
    return Row(file, caption, None if log_probability is None else float(log_probability), *others)


def write_rows(file: IO[bytes], rows: Iterable[Row], form: Format) -> None:
    """A whole file of them."""
    if form == "parquet":
        return _write_parquet(file, rows)
    if form == "csv":
        file.write(CSV_HEADER)
    file.writelines(to_line(row, form) for row in rows)
    return None


def read_rows(file: IO[bytes], form: Format) -> Iterable[Row]:
    if form == "parquet":
        return _read_parquet(file)
    lines = iter(file)
    if form == "csv":
        next(lines, None)
    return (from_line(line, form) for line in lines)


PARQUET_ROWS = 10_000


def _write_parquet(file: IO[bytes], rows: Iterable[Row]) -> None:
    import pyarrow as pa  # the extra 'bulk'
    import pyarrow.parquet as pq

    kinds = {"log_probability": pa.float64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in Row._fields])
    held: list[Row] = []
    with pq.ParquetWriter(file, schema) as writer:

        def write() -> None:
            writer.write_table(pa.Table.from_pylist([row._asdict() for row in held], schema=schema))
            held.clear()

        for row in rows:
            held.append(row)
            if len(held) == PARQUET_ROWS:
                write()
        write()


def _read_parquet(file: IO[bytes]) -> Iterable[Row]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(file).iter_batches(PARQUET_ROWS, columns=list(Row._fields)):
        yield from (Row(**values) for values in batch.to_pylist())
