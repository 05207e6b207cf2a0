import random
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.download.archive import ArchiveError, extract, read_member

PHOTOS = {f"train2017/{number:06d}.jpg": random.Random(number).randbytes(5_000) for number in range(8)}
PATTERN = "train2017/*.jpg"


def write_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def unpacked(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if not path.is_dir()}


def test_what_matches_is_unpacked_and_nothing_else(tmp_path: Path) -> None:
    others = {"train2017/": b"", "train2017/notes.txt": b"n", "train2017/more/x.jpg": b"x", "val2017/1.jpg": b"v"}
    path = write_zip(tmp_path / "photos.zip", {**PHOTOS, **others}, zipfile.ZIP_DEFLATED)
    assert extract(path, tmp_path / "data", PATTERN) == len(PHOTOS)
    assert unpacked(tmp_path / "data") == PHOTOS


def test_unpacking_again_writes_only_what_is_missing_or_damaged(tmp_path: Path) -> None:
    path, root = write_zip(tmp_path / "photos.zip", PHOTOS), tmp_path / "data"
    extract(path, root, PATTERN)
    gone, cut, flipped, *whole = (root / name for name in PHOTOS)
    inodes = [photo.stat().st_ino for photo in whole]
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-1])
    flipped.write_bytes(bytes([flipped.read_bytes()[0] ^ 1]) + flipped.read_bytes()[1:])
    extract(path, root, PATTERN)
    assert unpacked(root) == PHOTOS
    assert [photo.stat().st_ino for photo in whole] == inodes


def unusual(name: str, **attributes: int) -> zipfile.ZipInfo:
    """A member such as ZipFile would not write by itself."""
    member = zipfile.ZipInfo("placeholder")
    member.filename = member.orig_filename = name
    for attribute, value in attributes.items():
        setattr(member, attribute, value)
    return member


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (unusual("/etc/cron.d/evil"), "is not a relative path"),
        (unusual("C:/evil.jpg"), "is not a relative path"),
        (unusual("train2017\\evil.jpg"), "is not a relative path"),
        (unusual("../evil.jpg"), "leaves the folder"),
        (unusual("train2017/../../evil.jpg"), "leaves the folder"),
        (unusual("train2017/evil.jpg", external_attr=(stat.S_IFLNK | 0o777) << 16), "is a link or a device"),
        (unusual("train2017/evil.jpg", external_attr=(stat.S_IFIFO | 0o666) << 16), "is a link or a device"),
        (unusual("train2017/evil.jpg", compress_type=zipfile.ZIP_LZMA), "packed in a way unknown here"),
    ],
)
def test_a_zip_with_a_member_that_reaches_out_is_refused_whole(
    tmp_path: Path, member: zipfile.ZipInfo, reason: str
) -> None:
    path = write_zip(tmp_path / "photos.zip", PHOTOS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, b"../../etc/passwd")
    with pytest.raises(ArchiveError, match=reason) as caught:
        extract(path, tmp_path / "data", PATTERN)
    assert repr(member.orig_filename) in str(caught.value)
    assert unpacked(tmp_path) == {"photos.zip": path.read_bytes()}


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "photos.zip", PHOTOS)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flags of the first entry of the directory
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="is encrypted"):
        extract(path, tmp_path / "data", PATTERN)


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "photos.zip", {"train2017/1.jpg": bytes(10_000_000)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ArchiveError, match=r"would unpack to 10000000 bytes; .* taken for a bomb"):
        extract(path, tmp_path / "data", PATTERN)
    assert not (tmp_path / "data").exists()


def test_a_bomb_that_lies_about_its_size_writes_no_more_than_it_says(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "photos.zip", {"train2017/1.jpg": bytes(10_000_000)}, zipfile.ZIP_DEFLATED)
    size, lie = (10_000_000).to_bytes(4, "little"), (1_000).to_bytes(4, "little")
    assert path.read_bytes().count(size) == 2
    path.write_bytes(path.read_bytes().replace(size, lie))
    with pytest.raises(ArchiveError, match="is not a whole zip: Bad CRC-32"):
        extract(path, tmp_path / "data", PATTERN)
    assert unpacked(tmp_path / "data") == {}


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "photos.zip", PHOTOS)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("train2017/000001.jpg", b"another")
    with pytest.raises(ArchiveError, match="two files of the same name"):
        extract(path, tmp_path / "data", PATTERN)


def test_a_zip_without_what_is_wanted_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "photos.zip", {"val2017/1.jpg": b"v"})
    with pytest.raises(ArchiveError, match=r"photos.zip holds no train2017/\*.jpg"):
        extract(path, tmp_path / "data", PATTERN)


def test_a_photo_with_a_wrong_checksum_gets_no_name(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "photos.zip", PHOTOS)
    first, second, *_ = PHOTOS
    content = path.read_bytes()
    path.write_bytes(content.replace(PHOTOS[second][:50], bytes(50)))
    with pytest.raises(ArchiveError, match="Bad CRC-32 for file 'train2017/000001.jpg'"):
        extract(path, tmp_path / "data", PATTERN)
    assert unpacked(tmp_path / "data") == {first: PHOTOS[first]}


def cut(content: bytes, place: int) -> bytes:
    return content[:place]


def flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [cut, flip])
def test_any_damage_is_one_sentence_or_no_damage_at_all(tmp_path: Path, damage: Callable[[bytes, int], bytes]) -> None:
    photos = dict(list(PHOTOS.items())[:3])
    whole = write_zip(tmp_path / "whole.zip", photos, zipfile.ZIP_DEFLATED).read_bytes()
    rng = random.Random(3)
    refused = 0
    for place in [rng.randrange(len(whole)) for _ in range(30)] + list(range(len(whole) - 400, len(whole), 3)):
        (tmp_path / "damaged.zip").write_bytes(damage(whole, place))
        root = tmp_path / str(place)
        try:
            extract(tmp_path / "damaged.zip", root, PATTERN)
        except ArchiveError:
            refused += 1
        assert set(unpacked(root).values()) <= set(photos.values())
    assert refused > 80


def test_a_full_disk_leaves_whole_photos_only(tmp_path: Path) -> None:
    large = {"train2017/large.jpg": random.Random(0).randbytes(500_000)}
    path = write_zip(tmp_path / "photos.zip", {**PHOTOS, **large})
    program = f"""
import resource, sys
from pathlib import Path
from trainer.download.archive import extract
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    extract(Path({str(path)!r}), Path({str(tmp_path / "data")!r}), {PATTERN!r})
except ValueError as error:
    sys.exit(str(error))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "large.jpg cannot be written: File too large; make room" in done.stderr
    assert "Traceback" not in done.stderr
    assert unpacked(tmp_path / "data") == PHOTOS
    extract(path, tmp_path / "data", PATTERN)
    assert unpacked(tmp_path / "data") == {**PHOTOS, **large}


def test_one_member_is_read_whole(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "captions.zip", {"a.json": b"[1]", "b.json": b"[2]"})
    assert read_member(path, "b.json") == b"[2]"


def test_a_file_that_is_no_zip_is_named(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_text("<html>sign in to the hotel's network</html>")
    with pytest.raises(ArchiveError, match="photos.zip is not a whole zip"):
        extract(tmp_path / "photos.zip", tmp_path, PATTERN)
