import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.trainer.download.coco_mirror import COUNTS, write_mirror
from tests.trainer.download.file_server import Fault, FileServer, serving
from trainer.coco import read_split
from trainer.download import COCO, MIRRORS, Archive, download
from trainer.download.archive import ArchiveError
from trainer.download.disk import DiskError
from trainer.download.fetch import DownloadError, Patience

HURRIED = Patience(timeout_s=2, attempts=2, first_wait_s=0.001)
TRAIN = "zips/train2017.zip"


@dataclass(frozen=True)
class Scene:
    """A mirror of drawn pictures, and an empty folder to download to."""

    server: FileServer
    archives: tuple[Archive, ...]
    root: Path

    def download(self, archives: Sequence[Archive] | None = None, *, keep_zips: bool = False) -> None:
        chosen = self.archives if archives is None else archives
        download(self.root, chosen, mirrors=[self.server.url], keep_zips=keep_zips, patience=HURRIED)

    def asked_for(self) -> list[str]:
        """Since the last time."""
        paths = [request.path for request in self.server.requests]
        self.server.requests.clear()
        return paths

    def is_whole(self) -> bool:
        pictures = self.server.root / "pictures" / "2017"
        files = [file for file in pictures.rglob("*") if file.is_file() and "instances" not in file.name]
        return len(files) == sum(COUNTS.values()) + 2 and all(
            (self.root / file.relative_to(pictures)).read_bytes() == file.read_bytes() for file in files
        )


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Archive, ...]]:
    folder = tmp_path_factory.mktemp("mirror")
    return folder, write_mirror(folder, "2017")


@pytest.fixture
def scene(mirror: tuple[Path, tuple[Archive, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("no_proxy", "*")
    folder, archives = mirror
    with serving(folder) as server:
        yield Scene(server, archives, tmp_path / "coco")


def test_what_was_downloaded_can_be_read_as_splits(scene: Scene) -> None:
    scene.download()
    for split, count in COUNTS.items():
        read = read_split(scene.root / f"{split}2017")
        assert (len(read.photos), read.problems) == (count, ())
    assert scene.is_whole()
    assert scene.asked_for() == [archive.path for archive in scene.archives]


def test_only_what_training_reads_is_left_behind(scene: Scene) -> None:
    scene.download()
    assert sorted(path.name for path in scene.root.iterdir()) == [".download", "annotations", "train2017", "val2017"]
    captions = sorted(path.name for path in (scene.root / "annotations").iterdir())
    assert captions == ["captions_train2017.json", "captions_val2017.json"]


def test_a_second_run_asks_nobody_and_opens_no_photo(scene: Scene) -> None:
    scene.download()
    scene.asked_for()
    photos = list(scene.root.glob("*2017/*.jpg"))
    for photo in photos:
        os.utime(photo, (1, 1))  # relatime: any reading would move the time of access
    scene.download()
    assert scene.asked_for() == []
    assert {photo.stat().st_atime for photo in photos} == {1}


def test_a_whole_data_set_needs_no_lock_so_its_disk_may_be_read_only(scene: Scene) -> None:
    scene.download()
    (scene.root / ".download" / "lock").unlink()
    scene.download()
    assert not (scene.root / ".download" / "lock").exists()


def test_a_photo_that_has_gone_brings_its_archive_again_and_no_other(scene: Scene) -> None:
    scene.download()
    scene.asked_for()
    next((scene.root / "val2017").iterdir()).unlink()
    scene.download()
    assert scene.asked_for() == ["zips/val2017.zip"]
    assert scene.is_whole()


def test_photos_of_another_edition_are_not_taken_for_these(scene: Scene) -> None:
    scene.download([dataclasses.replace(archive, md5=None) for archive in scene.archives])
    scene.asked_for()
    scene.download()
    assert len(scene.asked_for()) == 3


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": 3}', '{"files": {"train2017/*.jpg": "many"}}'])
def test_a_marker_that_makes_no_sense_is_no_marker(scene: Scene, content: str) -> None:
    scene.download()
    scene.asked_for()
    (scene.root / ".download" / "train2017.zip.json").write_text(content)
    scene.download()
    assert scene.asked_for() == [TRAIN]


def test_a_cut_connection_is_resumed(scene: Scene) -> None:
    scene.server.faults[TRAIN] = [Fault(cut_after=10_000)]
    scene.download()
    assert scene.is_whole()
    assert "bytes=10000-" in scene.server.ranges()


def test_kept_zips_are_used_again(scene: Scene) -> None:
    scene.download(keep_zips=True)
    scene.asked_for()
    for archive in scene.archives:
        assert (scene.root / "zips" / archive.name).read_bytes() == (scene.server.root / archive.path).read_bytes()
    shutil.rmtree(scene.root / "train2017")
    scene.download(keep_zips=True)
    assert scene.is_whole()
    assert scene.asked_for() == []


def test_a_kept_zip_that_has_been_damaged_is_fetched_again(scene: Scene) -> None:
    scene.download(keep_zips=True)
    scene.asked_for()
    kept = scene.root / "zips" / "train2017.zip"
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    shutil.rmtree(scene.root / "train2017")
    scene.download()
    assert scene.is_whole()
    assert scene.asked_for() == [TRAIN]


def test_a_damaged_zip_makes_room_before_it_is_fetched_again(scene: Scene) -> None:
    (scene.root / "zips").mkdir(parents=True)
    (scene.root / "zips" / "train2017.zip").write_bytes(b"damaged")
    scene.server.always[TRAIN] = Fault(status=404)
    with pytest.raises(DownloadError, match="404"):
        scene.download()
    assert not (scene.root / "zips" / "train2017.zip").exists()


def test_the_second_mirror_has_what_the_first_has_not(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with serving(tmp_path / "empty") as empty:
        mirrors = [empty.url, scene.server.url]
        download(scene.root, scene.archives, mirrors=mirrors, patience=HURRIED)
        assert len(empty.requests) == 3
    assert scene.is_whole()
    assert scene.asked_for() == [archive.path for archive in scene.archives]


def test_a_mirror_may_end_with_a_slash(scene: Scene) -> None:
    folder = scene.server.root
    with serving(folder.parent) as parent:
        download(scene.root, scene.archives, mirrors=[f"{parent.url}/{folder.name}/"], patience=HURRIED)
        asked_for = [request.path for request in parent.requests]
    assert asked_for == [f"{folder.name}/{archive.path}" for archive in scene.archives]


def test_a_data_set_that_does_not_fit_is_refused_before_anything_is_asked_for(scene: Scene) -> None:
    captions, photos, _ = scene.archives
    large = dataclasses.replace(photos, size=10**18)
    with pytest.raises(DiskError, match=r"coco needs 2,020,000,000,\d{3},\d{3},\d{3} bytes .* free, but its disk has"):
        scene.download([captions, large])
    assert scene.asked_for() == []


def test_what_is_there_already_needs_no_room(scene: Scene) -> None:
    """A disk that holds the photos but for the last need not hold them a second time."""
    free = shutil.disk_usage(scene.root.parent).free
    photos = Archive("zips/photos.zip", free + 2_000_000_000, None, "photos/*.jpg")
    (scene.root / "photos").mkdir(parents=True)
    (scene.root / "zips").mkdir()
    for path in ("photos/1.jpg", "zips/photos.zip.part"):
        with (scene.root / path).open("wb") as sparse:
            sparse.truncate(free * 2)
    with pytest.raises(DownloadError, match="404"):
        scene.download([photos])
    (scene.root / "photos" / "1.jpg").unlink()
    with pytest.raises(DiskError, match="free, but its disk has"):
        scene.download([photos])


def test_zips_that_are_kept_need_room_together(scene: Scene) -> None:
    third = shutil.disk_usage(scene.root.parent).free * 3 // 10
    archives = [Archive(f"zips/{name}.zip", third, None, f"{name}/*.jpg") for name in ("first", "second")]
    with pytest.raises(DownloadError, match="404"):
        scene.download(archives)
    with pytest.raises(DiskError, match="free, but its disk has"):
        scene.download(archives, keep_zips=True)


def test_local_zips_are_unpacked_and_nothing_is_asked_for(scene: Scene) -> None:
    download(scene.root, scene.archives, mirrors=[scene.server.url], zips=scene.server.root)
    assert scene.is_whole()
    assert scene.asked_for() == []
    assert all((scene.server.root / archive.path).exists() for archive in scene.archives)


def test_local_zips_may_lie_side_by_side(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for archive in scene.archives:
        shutil.copy(scene.server.root / archive.path, tmp_path / "mine")
    download(scene.root, scene.archives, zips=tmp_path / "mine")
    assert scene.is_whole()
    assert len(list((tmp_path / "mine").iterdir())) == 3


def test_a_wrong_local_zip_is_refused_and_left_alone(scene: Scene, tmp_path: Path) -> None:
    shutil.copytree(scene.server.root, tmp_path / "mine")
    damaged = tmp_path / "mine" / TRAIN
    content = damaged.read_bytes()[:-1] + b"?"
    damaged.write_bytes(content)
    with pytest.raises(DownloadError, match=f"MD5 {hashlib.md5(content).hexdigest()}; {scene.archives[2].md5} would"):
        download(scene.root, scene.archives, zips=tmp_path / "mine")
    damaged.write_bytes(content[:-1])
    with pytest.raises(DownloadError, match=f"has {len(content) - 1} bytes; {len(content)} would be right"):
        download(scene.root, scene.archives, zips=tmp_path / "mine")
    assert damaged.read_bytes() == content[:-1]


def test_a_local_zip_that_is_missing_is_named(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="annotations_trainval2017.zip does not exist; without --zips"):
        download(scene.root, scene.archives, zips=tmp_path / "nowhere")


def test_an_archive_with_something_else_inside_leaves_no_marker(scene: Scene) -> None:
    captions, photos, _ = scene.archives
    wrong = dataclasses.replace(photos, pattern="val2014/*.jpg")
    with pytest.raises(ArchiveError, match=r"holds no val2014/\*.jpg"):
        scene.download([captions, wrong])
    assert sorted(path.name for path in (scene.root / ".download").glob("*.json")) == [f"{captions.name}.json"]


def test_a_folder_that_cannot_be_written_is_one_sentence(scene: Scene) -> None:
    scene.root.write_text("a file")
    with pytest.raises(DiskError, match=r"lock cannot be written: Not a directory"):
        scene.download()


def test_the_archives_are_those_that_coco_publishes() -> None:
    published = [dataclasses.astuple(archive) for year in ("2017", "2014") for archive in COCO[year]]
    assert [[path, size, md5] for path, size, md5, _ in published] == [
        ["annotations/annotations_trainval2017.zip", 252907541, "f4bbac642086de4f52a3fdda2de5fa2c"],
        ["zips/val2017.zip", 815585330, "442b8da7639aecaf257c1dceb8ba8c80"],
        ["zips/train2017.zip", 19336861798, "cced6f7f71b7629ddf16f17bbcfab6b2"],
        ["annotations/annotations_trainval2014.zip", 252872794, "0a379cfc70b0e71301e0f377548639bd"],
        ["zips/val2014.zip", 6645013297, "a3d79f5ed8d289b7a7554ce06a5782b3"],
        ["zips/train2014.zip", 13510573713, "0da8c0bd3d6becc4dcb32757491aca88"],
    ]
    assert MIRRORS == ("https://s3.amazonaws.com/images.cocodataset.org", "http://images.cocodataset.org")


def test_the_marker_says_what_was_unpacked(scene: Scene) -> None:
    scene.download()
    archive = scene.archives[2]
    marker = json.loads((scene.root / ".download" / "train2017.zip.json").read_text())
    assert marker == {"size": archive.size, "md5": archive.md5, "files": {"train2017/*.jpg": COUNTS["train"]}}
