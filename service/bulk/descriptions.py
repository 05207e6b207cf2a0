"""A caption as the description inside a copy of its picture: XMP's `dc:description`, which photo software reads.

The picture itself is copied byte for byte. A JPEG takes the packet as an APP1 segment, a PNG as an iTXt chunk; beside
any other picture it becomes a file, `<name>.xmp`. What a packet that is there already says of other things stays.
"""

import os
import re
import struct
import zlib
from pathlib import Path
from xml.etree import ElementTree

JPEG_KEY, PNG_KEY = b"http://ns.adobe.com/xap/1.0/\0", b"XML:com.adobe.xmp\0"
EXIF_KEY = b"Exif\0\0"
JPEG_START, PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
MAX_SEGMENT = 65_533
"""What the length of a JPEG's segment can say, itself not counted."""
NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
}
XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
EMPTY = f'<x:xmpmeta xmlns:x="{NAMESPACES["x"]}"><rdf:RDF xmlns:rdf="{NAMESPACES["rdf"]}"/></x:xmpmeta>'


class DescriptionError(ValueError):
    """This picture cannot take a description; says why."""


def write_described_copy(picture: Path, copy: Path, caption: str) -> None:
    """Whoever sees the copy sees all of it. Raises DescriptionError or OSError."""
    data = picture.read_bytes()
    files = {copy: data}
    if data.startswith(JPEG_START):
        files = {copy: with_jpeg_packet(data, caption)}
    elif data.startswith(PNG_START):
        files = {copy: with_png_packet(data, caption)}
    else:
        files[copy.with_name(copy.name + ".xmp")] = described(None, caption)
    copy.parent.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_bytes(content)
        unfinished.replace(path)


def with_jpeg_packet(data: bytes, caption: str) -> bytes:
    """The packet behind JFIF's and EXIF's segments, which want to be first."""
    old, place, at, kept = None, 1, 2, [data[:2]]
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] not in (b"\xda", b"\xd9", b"\xff"):
        (length,) = struct.unpack(">H", _exactly(data, at + 2, 2))
        segment = _exactly(data, at, 2 + length)
        at += len(segment)
        if segment[1] == 0xE1 and segment[4:].startswith(JPEG_KEY):
            old = segment[4 + len(JPEG_KEY) :]
            continue
        kept.append(segment)
        if segment[1] == 0xE0 or (segment[1] == 0xE1 and segment[4:].startswith(EXIF_KEY)):
            place = len(kept)
    content = JPEG_KEY + described(old, caption)
    if len(content) + 2 > MAX_SEGMENT:
        raise DescriptionError(f"the metadata would take {len(content)} bytes, more than a JPEG's segment holds")
    kept.insert(place, b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content)
    return b"".join(kept) + data[at:]


def with_png_packet(data: bytes, caption: str) -> bytes:
    old, at, kept = None, len(PNG_START), [PNG_START]
    while at < len(data):
        (length,) = struct.unpack(">I", _exactly(data, at, 4))
        chunk = _exactly(data, at, 12 + length)
        at += len(chunk)
        if chunk[4:8] == b"iTXt" and chunk[8:].startswith(PNG_KEY):
            # Behind the key: two bytes on compression, then language and translated key, each ended by a zero.
            old = chunk[8 + len(PNG_KEY) + 2 : -4].split(b"\0", 2)[-1]
            continue
        kept.append(chunk)
        if chunk[4:8] == b"IEND":
            break
    content = b"iTXt" + PNG_KEY + b"\0\0\0\0" + described(old, caption)
    kept.insert(2, struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content)))
    return b"".join(kept) + data[at:]


def described(packet: bytes | None, caption: str) -> bytes:
    """The packet, or a new one, with the caption for its description."""
    for prefix, space in NAMESPACES.items():
        ElementTree.register_namespace(prefix, space)
    try:
        root = ElementTree.fromstring(re.sub(rb"<\?xpacket.*?\?>", b"", packet).strip() if packet else EMPTY)
    except ElementTree.ParseError as error:
        raise DescriptionError(f"the XMP metadata in it cannot be read: {error}") from None
    rdf, dc = (f"{{{NAMESPACES[prefix]}}}" for prefix in ("rdf", "dc"))
    whole = root if root.tag == f"{rdf}RDF" else root.find(f"{rdf}RDF")
    if whole is None:
        raise DescriptionError("the XMP metadata in it holds no RDF")
    about = whole.find(f"{rdf}Description")
    if about is None:
        about = ElementTree.SubElement(whole, f"{rdf}Description", {f"{rdf}about": ""})
    for element in whole.iter(f"{rdf}Description"):
        element.attrib.pop(f"{dc}description", None)
        for old in element.findall(f"{dc}description"):
            element.remove(old)
    said = ElementTree.SubElement(ElementTree.SubElement(about, f"{dc}description"), f"{rdf}Alt")
    ElementTree.SubElement(said, f"{rdf}li", {XML_LANG: "x-default"}).text = caption
    begin = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    return begin + ElementTree.tostring(root, encoding="utf-8") + b'<?xpacket end="w"?>'


def _exactly(data: bytes, start: int, count: int) -> bytes:
    if count < 0 or len(data) < start + count:
        raise DescriptionError("the file is cut off or broken, so no description is written into it")
    return data[start : start + count]
