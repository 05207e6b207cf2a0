"""In how many pieces a file comes. Encoders write dozens; a file in millions costs more than any picture in it, before
a single pixel is decoded: Pillow handles every piece in Python."""

import itertools
import re
import struct
from collections.abc import Iterator

MAX_PIECES = {"JPEG": 1_000, "PNG": 20_000, "GIF": 20_000, "TIFF": 65_536}
# Encoders write about ten. A scan costs a pass over the whole picture but only some 70 bytes.
MAX_JPEG_SCANS = 100

# Stuffed zeros and restart markers belong to the compressed data of a scan.
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")
_START_OF_SCAN, _END_OF_IMAGE = b"\xda", b"\xd9"
_STRIPS_OR_TILES = (273, 324)


class TooManyPiecesError(ValueError):
    pass


def check_pieces(kind: str, data: bytes) -> None:
    """Raise TooManyPiecesError; a file that is merely broken passes, for its decoder to refuse."""
    limit = MAX_PIECES.get(kind)
    if limit is not None and sum(1 for _ in itertools.islice(_PIECES[kind](data), limit + 1)) > limit:
        raise TooManyPiecesError(f"the {kind} comes in more than {limit} pieces")
    # Counting the bytes that begin a scan, in metadata too, is quick and can only err upwards.
    if kind == "JPEG" and data.count(b"\xff" + _START_OF_SCAN) > MAX_JPEG_SCANS:
        scans = sum(marker == _START_OF_SCAN for marker in _jpeg_markers(data))
        if scans > MAX_JPEG_SCANS:
            raise TooManyPiecesError(f"the JPEG has {scans} scans, more than the limit of {MAX_JPEG_SCANS}")


def _jpeg_markers(data: bytes) -> Iterator[bytes]:
    position = 0
    while (marker := _JPEG_MARKER.search(data, position)) and marker[1] != _END_OF_IMAGE:
        position = marker.end()
        yield marker[1]
        if marker[1] not in b"\x01\xd8":
            position += int.from_bytes(data[position : position + 2], "big")


def _jpeg_segments(data: bytes) -> Iterator[bytes]:
    return itertools.takewhile(lambda marker: marker != _START_OF_SCAN, _jpeg_markers(data))


def _png_chunks(data: bytes) -> Iterator[int]:
    position = 8
    while position < len(data) and data[position + 4 : position + 8] != b"IEND":
        yield position
        position += 12 + int.from_bytes(data[position : position + 4], "big")


def _gif_blocks(data: bytes) -> Iterator[int]:
    """The blocks of the extensions before the first frame, and bytes between them that mean nothing."""
    flags = data[10] if len(data) > 10 else 0
    position = 13 + (6 << (flags & 7) if flags & 0x80 else 0)
    while position < len(data) and data[position] not in b",;":
        yield position
        if data[position] != ord("!"):
            position += 1
            continue
        position += 2
        while position < len(data) and data[position]:
            yield position
            position += 1 + data[position]
        position += 1


def _tiff_strips(data: bytes) -> Iterator[int]:
    """The tags of the first directory, then its strips or tiles."""
    order, big = "<" if data[:2] == b"II" else ">", b"+" in data[2:4]
    pointer, count, entry = (8, "Q", "HHQQ") if big else (4, "H", "HHII")
    try:
        (directory,) = struct.unpack_from(order + entry[-1], data, pointer)
        (tags,) = struct.unpack_from(order + count, data, directory)
        at = directory + struct.calcsize(order + count)
        for i in range(tags):
            tag, _, pieces, _ = struct.unpack_from(order + entry, data, at + i * struct.calcsize(order + entry))
            yield i
            if tag in _STRIPS_OR_TILES:
                yield from range(pieces)
    except (struct.error, OverflowError):
        return


_PIECES = {"JPEG": _jpeg_segments, "PNG": _png_chunks, "GIF": _gif_blocks, "TIFF": _tiff_strips}
