"""Which pictures there are to caption, and how their bytes are read."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shared.image import ImageTooLargeError

SUFFIXES = frozenset(".jpg .jpeg .jpe .png .webp .gif .bmp .tif .tiff .avif .heic .heif".split())
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class InputError(ValueError):
    """There is nothing to caption where the caller says."""


class Picture(NamedTuple):
    name: str
    """What its row says: one line of valid Unicode."""
    location: str


def find_pictures(source: Path) -> list[Picture]:
    """Of a folder all pictures below it by their endings, hidden ones left out; of a text file one a line."""
    if source.is_dir():
        return [Picture(printable(name), str(source / name)) for name in sorted(_below(source))]
    try:
        lines = source.read_bytes().decode(errors="surrogateescape").split("\n")
    except OSError as error:
        raise InputError(f"{source} is neither a folder nor a readable list: {error.strerror}") from None
    lines = [line.removesuffix("\r") for line in lines]
    return [Picture(printable(line), line) for line in dict.fromkeys(lines) if line]


def printable(name: str) -> str:
    r"""With what no line of text can hold written out: `\x0a`, or a byte that is not UTF-8."""
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", name)


def is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES and not Path(name).name.startswith(".")


def _below(folder: Path) -> Iterator[str]:
    for path, _, names in os.walk(folder):
        below = os.path.relpath(path, folder)
        yield from (os.path.normpath(f"{below}/{name}") for name in names if is_picture(name))


def read_file(location: str, max_bytes: int) -> bytes:
    """At most a byte more than the limit is held. OSError where there is no plain file."""
    with os.fdopen(os.open(location, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(None, "it is not a plain file")
        return within(max_bytes, file.read(max_bytes + 1))


def within(max_bytes: int, data: bytes) -> bytes:
    if len(data) > max_bytes:
        raise ImageTooLargeError(f"the file has more than the limit of {max_bytes} bytes")
    return data
