"""Small files that would cost much: each claims more than it holds, or holds one thing a million times."""

import struct
import zlib

from PIL import Image

from tests.shared.image_files import TYPES, encode, png_with_size, quarters


def tiff_of_shared_tags(tags: int, size: int) -> bytes:
    """A directory whose tags all claim the same bytes."""
    entries = b"".join(struct.pack("<HHII", 40_000 + i % 25_000, 7, size, 8) for i in range(tags))
    directory = struct.pack("<H", tags) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + size) + bytes(size) + directory


def big_tiff_of_shared_tags(tags: int, size: int) -> bytes:
    entries = b"".join(struct.pack("<HHQQ", 40_000 + i % 25_000, 7, size, 16) for i in range(tags))
    directory = struct.pack("<Q", tags) + entries + bytes(8)
    return b"II+\0\x08\0\0\0" + struct.pack("<Q", 16 + size) + bytes(size) + directory


def tiff_of_many_strips(count: int) -> bytes:
    values = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 277: 1, 278: 1}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items()]
    entries.insert(5, struct.pack("<HHII", 273, 3, count, 8))
    entries.append(struct.pack("<HHII", 279, 3, count, 8))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + 2 * count) + b"\x10\0" * count + directory


def jpeg_of_segments(segment: bytes, count: int) -> bytes:
    data = encode(quarters(), "JPEG")
    return data[:2] + segment * count + data[2:]


def app_segment(number: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, 0xE0 + number, len(content) + 2) + content


def jpeg_of_many_exif_segments(count: int) -> bytes:
    return jpeg_of_segments(app_segment(1, b"Exif\0\0" + bytes(10)), count)


def jpeg_of_one_exif(tiff: bytes) -> bytes:
    """Pillow joins the segments of a long one."""
    pieces = [tiff[i : i + 60_000] for i in range(0, len(tiff), 60_000)]
    return jpeg_of_segments(b"".join(app_segment(1, b"Exif\0\0" + piece) for piece in pieces), 1)


def jpeg_of_pictures(tiff: bytes) -> bytes:
    return jpeg_of_segments(app_segment(2, b"MPF\0" + tiff[:65_000]), 1)


def png_of_chunks(name: bytes, content: bytes, count: int) -> bytes:
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    data = encode(quarters(), "PNG")
    return data[:33] + chunk * count + data[33:]


def png_of_zipped_text(megabytes: int, count: int) -> bytes:
    return png_of_chunks(b"zTXt", b"a\0\0" + zlib.compress(bytes(megabytes * 1_000_000), 9), count)


def png_of_zipped_profile(megabytes: int) -> bytes:
    return png_of_chunks(b"iCCP", b"a\0\0" + zlib.compress(bytes(megabytes * 1_000_000), 9), 1)


def png_of_raw_profile(tiff: bytes) -> bytes:
    text = f"\nexif\n{len(tiff)}\n{tiff.hex()}".encode()
    return png_of_chunks(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text, 9), 1)


def gif_of_comments(blocks: int) -> bytes:
    data = encode(quarters(), "GIF")
    at = 13 + 3 * (2 << (data[10] & 7)) * (data[10] >> 7)
    return data[:at] + b"!\xfe" + (b"\xff" + b"c" * 255) * blocks + b"\0" + data[at:]


def gif_of_extensions(count: int) -> bytes:
    data = encode(quarters(), "GIF")
    at = 13 + 3 * (2 << (data[10] & 7)) * (data[10] >> 7)
    return data[:at] + b"!\xfe\x01a\0" * count + data[at:]


def webp_of_exif(tiff: bytes) -> bytes:
    return encode(quarters(), "WEBP", exif=tiff)


def webp_of_frames(count: int) -> bytes:
    frames = [Image.new("RGB", (48, 32), (i % 256, i // 256, 0)) for i in range(count)]
    return encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)


def claiming(kind: str, width: int, height: int) -> bytes:
    """A file whose header tells another size than it has."""
    data = encode(quarters(), kind, **TYPES[kind])
    if kind == "PNG":
        return png_with_size(data, width, height)
    told = bytearray(data)
    if kind == "JPEG":
        struct.pack_into(">HH", told, data.index(b"\xff\xc0") + 5, height, width)
    elif kind == "WEBP":
        (bits,) = struct.unpack_from("<I", data, 21)
        struct.pack_into("<I", told, 21, bits >> 28 << 28 | (height - 1 & 0x3FFF) << 14 | width - 1 & 0x3FFF)
    elif kind == "GIF":
        struct.pack_into("<HH", told, 6, width, height)
    elif kind == "BMP":
        struct.pack_into("<ii", told, 18, width, height)
    elif kind == "TIFF":
        for tag, value in ((256, width), (257, height)):
            struct.pack_into("<HHII", told, data.index(struct.pack("<HHI", tag, 4, 1)), tag, 4, 1, value)
    else:
        struct.pack_into(">II", told, data.index(b"ispe") + 8, width, height)
    return bytes(told)
