"""Captions inside copies: readable there, and nothing else of the picture changed."""

import io
import struct
import zlib
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import ExifTags, Image, PngImagePlugin

from service.bulk.descriptions import (
    JPEG_KEY,
    DescriptionError,
    described,
    with_jpeg_packet,
    with_png_packet,
    write_described_copy,
)
from tests.service.bulk.conftest import Bulk, rows_of
from tests.service.pictures import encoded, scene

RDF, DC = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}", "{http://purl.org/dc/elements/1.1/}"
CAPTION = "a <dog> & a caf\u00e9"
OLD_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="uuid:7" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:mine="urn:mine" mine:stars="5">
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">old words</rdf:li></rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta>          <?xpacket end="w"?>""".encode()


def packet_in(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return image.info["xmp"]


def descriptions_in(packet: bytes) -> list[str | None]:
    return [
        li.text
        for description in ElementTree.fromstring(packet).iter(f"{DC}description")
        for li in description.iter(f"{RDF}li")
    ]


def pixels_of(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return image.tobytes()


def exif() -> Image.Exif:
    found = Image.Exif()
    found[ExifTags.Base.Orientation] = 6
    found[ExifTags.Base.Artist] = "somebody"
    return found


@pytest.mark.parametrize("options", [{}, {"exif": exif()}, {"progressive": True, "comment": b"a comment"}])
def test_a_jpeg_carries_its_caption_and_is_else_the_same(options: dict[str, object]) -> None:
    data = encoded(scene(), "JPEG", **options)
    copy = with_jpeg_packet(data, CAPTION)
    assert descriptions_in(packet_in(copy)) == [CAPTION]
    start = copy.index(JPEG_KEY) - 4
    (length,) = struct.unpack(">H", copy[start + 2 : start + 4])
    assert copy[:start] + copy[start + 2 + length :] == data
    with Image.open(io.BytesIO(copy)) as image, Image.open(io.BytesIO(data)) as original:
        assert dict(image.getexif()) == dict(original.getexif())


def test_a_png_carries_its_caption_and_is_else_the_same() -> None:
    data = encoded(scene(), "PNG", dpi=(72, 72))
    copy = with_png_packet(data, CAPTION)
    assert descriptions_in(packet_in(copy)) == [CAPTION]
    assert pixels_of(copy) == pixels_of(data)
    at, names = 8, []
    while at < len(copy):
        (length,) = struct.unpack(">I", copy[at : at + 4])
        body = copy[at + 4 : at + 8 + length]
        assert struct.unpack(">I", copy[at + 8 + length : at + 12 + length])[0] == zlib.crc32(body)
        names.append(body[:4])
        at += 12 + length
    assert names[:2] == [b"IHDR", b"iTXt"]
    assert names[-1] == b"IEND"


def old_jpeg() -> bytes:
    return encoded(scene(), "JPEG", xmp=OLD_PACKET)


def old_png() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", OLD_PACKET.decode())
    return encoded(scene(), "PNG", pnginfo=text)


@pytest.mark.parametrize("which", ["jpeg", "png", "twice"])
def test_an_old_description_is_replaced_and_what_is_beside_it_stays(which: str) -> None:
    if which == "png":
        packet = packet_in(with_png_packet(old_png(), CAPTION))
    else:
        data = with_jpeg_packet(old_jpeg(), "words in between") if which == "twice" else old_jpeg()
        copy = with_jpeg_packet(data, CAPTION)
        assert copy.count(JPEG_KEY) == 1
        packet = packet_in(copy)
    assert descriptions_in(packet) == [CAPTION]
    (about,) = ElementTree.fromstring(packet).iter(f"{RDF}Description")
    assert about.get(f"{RDF}about") == "uuid:7"
    assert about.get("{urn:mine}stars") == "5"


def test_a_bare_rdf_is_taken_too() -> None:
    packet = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>'
    assert descriptions_in(described(packet, CAPTION)) == [CAPTION]


@pytest.mark.parametrize("packet", [b"<x", b"<a/>", b"<a/><b/>"])
def test_metadata_that_cannot_be_kept_are_no_reason_to_lose_them(packet: bytes) -> None:
    with pytest.raises(DescriptionError, match="the XMP metadata in it"):
        described(packet, CAPTION)


def test_a_cut_file_gets_no_description() -> None:
    jpeg, png = encoded(scene(), "JPEG"), encoded(scene(), "PNG")
    for cut in (3, 10, 30):
        with pytest.raises(DescriptionError):
            with_jpeg_packet(jpeg[:cut], CAPTION)
        with pytest.raises(DescriptionError):
            with_png_packet(png[: cut + 8], CAPTION)


def test_a_caption_that_no_segment_holds_is_refused() -> None:
    with pytest.raises(DescriptionError, match="more than a JPEG's segment holds"):
        with_jpeg_packet(encoded(scene(), "JPEG"), "word " * 20_000)


def test_another_type_of_picture_gets_a_file_beside_it(tmp_path: Path) -> None:
    original = tmp_path / "a.webp"
    original.write_bytes(encoded(scene(), "WEBP"))
    write_described_copy(original, tmp_path / "copies" / "a.webp", CAPTION)
    assert (tmp_path / "copies" / "a.webp").read_bytes() == original.read_bytes()
    assert descriptions_in((tmp_path / "copies" / "a.webp.xmp").read_bytes()) == [CAPTION]
    assert len(list((tmp_path / "copies").iterdir())) == 2


def test_copies_carry_the_captions_and_originals_stay_as_they_are(bulk: Bulk, folder: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*.jpeg")}
    assert bulk(folder, "--out", tmp_path / "a.jsonl", "--copies", tmp_path / "copies") == 0
    for name, row in rows_of(tmp_path / "a.jsonl").items():
        assert descriptions_in(packet_in((tmp_path / "copies" / name).read_bytes())) == [row["caption"]]
    assert {path: path.read_bytes() for path in folder.rglob("*.jpeg")} == before


@pytest.mark.parametrize("place", [".", "inside", ".."])
def test_copies_and_originals_do_not_share_a_folder(bulk: Bulk, folder: Path, tmp_path: Path, place: str) -> None:
    assert bulk(folder, "--out", tmp_path / "a.jsonl", "--copies", folder / place) == 1
    assert not (tmp_path / "a.jsonl").exists()


def test_a_copy_takes_no_originals_place(bulk: Bulk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.jpg").write_bytes(encoded(scene(1)))
    Path("b").mkdir()
    Path("b/a.jpg").write_bytes(encoded(scene(2)))
    Path("list").write_text("a.jpg\nb/a.jpg\n")
    before = Path("b/a.jpg").read_bytes()
    assert bulk("list", "--out", "a.jsonl", "--copies", "b") == 3
    rows = rows_of(Path("a.jsonl"))
    assert rows["a.jpg"]["error_code"] == "no_copy"
    assert rows["a.jpg"]["caption"]
    assert Path("b/a.jpg").read_bytes() == before
    assert Path("b/b/a.jpg").exists()
