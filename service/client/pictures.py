"""A picture for a client: its bytes, a path to them, or an open file."""

from pathlib import Path
from typing import IO, TypeAlias

Picture: TypeAlias = bytes | bytearray | memoryview | str | Path | IO[bytes]


def read_picture(picture: Picture) -> bytes:
    """Whole: it may have to be sent again. OSError for a file that cannot be read."""
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    if isinstance(picture, str | Path):
        return Path(picture).read_bytes()
    return picture.read()
