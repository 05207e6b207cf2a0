"""The log on stdout, as text or as a line of JSON for each record. It never makes the service wait.

While nobody reads the pipe that stdout may be, lines are dropped and counted: no request waits for the log.
"""

import json
import logging
import select
import time
from collections.abc import Callable
from typing import Literal, TextIO, TypeAlias, cast

LogFormat: TypeAlias = Literal["text", "json"]
FIELDS = "fields"
"""The attribute of a record that holds more than its message: a dictionary of plain values."""


class UnhurriedStream:
    """Takes a line only when it can be written at once, which lines of up to 4096 bytes (a pipe's own measure) can."""

    def __init__(self, stream: TextIO) -> None:
        self.on_drop: Callable[[], None] = lambda: None
        self._stream = stream
        self._poll = select.poll()
        self._poll.register(stream.fileno(), select.POLLOUT)

    def write(self, line: str) -> None:
        if self._poll.poll(0):
            self._stream.write(line)
            self._stream.flush()
        else:
            self.on_drop()


class TextLines:
    def __init__(self) -> None:
        self._formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, FIELDS, {})
        return " ".join([self._formatter.format(record), *(f"{name}={value}" for name, value in fields.items())])


class JsonLines:
    """Times are of UTC."""

    def __init__(self) -> None:
        self._formatter = logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = self._formatter.formatException(record.exc_info)
        return json.dumps(line)


def configure_logging(stream: UnhurriedStream, *, level: str, log_format: LogFormat) -> None:
    """Once, at start."""
    handler = logging.StreamHandler(stream)
    lines = JsonLines() if log_format == "json" else TextLines()
    handler.setFormatter(cast(logging.Formatter, lines))  # which need not be one: only `format` is called
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("PIL").setLevel(logging.INFO)  # its debug lines hold what is inside a picture
