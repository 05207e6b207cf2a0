import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.download.coco_mirror import COUNTS, karpathy_dataset, write_karpathy_zip, write_mirror
from tests.trainer.download.file_server import Fault, FileServer, serving
from trainer.coco import read_split
from trainer.download import Archive, download
from trainer.download.archive import ArchiveError
from trainer.download.disk import DiskError
from trainer.download.fetch import Patience
from trainer.download.karpathy import MIRRORS, SOURCE, download_karpathy, link

HURRIED = Patience(timeout_s=2, attempts=2, first_wait_s=0.001)
SIZES = {"train": COUNTS["train"] + COUNTS["val"] - 2, "val": 1, "test": 1}


@dataclass(frozen=True)
class Scene:
    """The photos of 2014 in place, and a server of the split."""

    server: FileServer
    archives: tuple[Archive, ...]
    root: Path

    def download(self, *, photos: bool = True) -> None:
        download_karpathy(self.root, photos=photos, mirrors=[self.server.url], patience=HURRIED)

    def serve(self, dataset: object) -> None:
        write_karpathy_zip(self.server.root / "caption_datasets.zip", dataset)

    def dataset(self) -> Any:
        return karpathy_dataset(self.server.root / "pictures" / "2014")


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Archive, ...]]:
    folder = tmp_path_factory.mktemp("mirror")
    return folder, write_mirror(folder, "2014", size=48)


@pytest.fixture
def scene(mirror: tuple[Path, tuple[Archive, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("no_proxy", "*")
    folder, archives = mirror
    download(tmp_path / "coco", archives, zips=folder)
    with serving(folder) as server:
        scene = Scene(server, archives, tmp_path / "coco")
        scene.serve(scene.dataset())
        yield scene


def test_the_three_splits_can_be_read(scene: Scene) -> None:
    scene.download()
    for split, count in SIZES.items():
        read = read_split(scene.root / f"karpathy_{split}")
        assert (len(read.photos), read.problems) == (count, ())
        assert all(len(photo.captions) == 5 for photo in read.photos)


def test_every_photo_keeps_its_number_and_captions_and_is_in_one_split(scene: Scene) -> None:
    scene.download()
    before = [photo for split in COUNTS for photo in read_split(scene.root / f"{split}2014").photos]
    after = [photo for split in SIZES for photo in read_split(scene.root / f"karpathy_{split}").photos]
    assert sorted((p.image_id, sorted(p.captions)) for p in after) == sorted(
        (p.image_id, sorted(p.captions)) for p in before
    )
    assert [photo.path.read_bytes() for photo in sorted(after, key=lambda photo: photo.image_id)] == [
        photo.path.read_bytes() for photo in sorted(before, key=lambda photo: photo.image_id)
    ]


def test_photos_are_linked_and_take_no_room(scene: Scene) -> None:
    scene.download()
    linked = [photo for split in SIZES for photo in (scene.root / f"karpathy_{split}").iterdir()]
    assert {photo.stat().st_nlink for photo in linked} == {2}


def test_what_cannot_be_linked_hard_is_linked_symbolically(tmp_path: Path) -> None:
    elsewhere = Path("/proc/version")  # another file system on every Linux
    link(elsewhere, tmp_path / "photo.jpg")
    assert (tmp_path / "photo.jpg").is_symlink()
    assert (tmp_path / "photo.jpg").read_bytes() == elsewhere.read_bytes()


def test_a_link_to_nothing_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "here.jpg").write_bytes(b"here")
    link(tmp_path / "here.jpg", tmp_path / "photo.jpg")
    assert (tmp_path / "photo.jpg").read_bytes() == b"here"


def test_the_hash_of_the_zip_is_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    content = (scene.server.root / "caption_datasets.zip").read_bytes()
    with caplog.at_level("INFO"):
        scene.download()
    assert f"caption_datasets.zip has the sha256 {hashlib.sha256(content).hexdigest()}" in caplog.text


def test_a_second_run_asks_nobody(scene: Scene) -> None:
    scene.download()
    scene.download()
    assert [request.path for request in scene.server.requests] == ["caption_datasets.zip"]


def test_of_two_at_once_one_downloads(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.server.faults["caption_datasets.zip"] = [Fault(hang_after=100)]
    with caplog.at_level("INFO"), ThreadPoolExecutor() as pool:
        both = [pool.submit(scene.download) for _ in range(2)]
        while "another process holds" not in caplog.text:
            time.sleep(0.01)
        scene.server.ended.set()
        for one in both:
            one.result()
    assert len(scene.server.requests) == 2
    assert len(read_split(scene.root / "karpathy_train").photos) == SIZES["train"]


def test_a_link_that_has_gone_is_made_again(scene: Scene) -> None:
    scene.download()
    next((scene.root / "karpathy_train").iterdir()).unlink()
    scene.download()
    assert len(read_split(scene.root / "karpathy_train").photos) == SIZES["train"]


def test_captions_can_come_first_and_photos_later(scene: Scene) -> None:
    scene.download(photos=False)
    assert not (scene.root / "karpathy_train").exists()
    assert len(list((scene.root / "annotations").glob("captions_karpathy_*.json"))) == 3
    scene.download()
    assert len(read_split(scene.root / "karpathy_train").photos) == SIZES["train"]


def test_the_split_does_not_disturb_the_rest(scene: Scene) -> None:
    scene.download()
    download(scene.root, scene.archives, mirrors=[scene.server.url], patience=HURRIED)
    assert len(scene.server.requests) == 1


def test_a_local_zip_is_used_and_kept(scene: Scene) -> None:
    download_karpathy(scene.root, zips=scene.server.root)
    assert scene.server.requests == []
    assert (scene.server.root / "caption_datasets.zip").exists()
    assert len(read_split(scene.root / "karpathy_val").photos) == 1


def without(key: str) -> Callable[[Any], Any]:
    def damage(dataset: Any) -> Any:
        del dataset["images"][3][key]
        return dataset

    return damage


def saying(key: str, value: object) -> Callable[[Any], Any]:
    def damage(dataset: Any) -> Any:
        dataset["images"][3][key] = value
        return dataset

    return damage


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda dataset: [], "is not the Karpathy split: TypeError"),
        (lambda dataset: {"images": []}, "lacks one of the splits"),
        (lambda dataset: {"images": ["photo"]}, "is not the Karpathy split: TypeError"),
        (without("cocoid"), "KeyError 'cocoid'"),
        (without("sentences"), "KeyError 'sentences'"),
        (saying("split", "dev"), "KeyError 'dev'"),
        (saying("cocoid", "seven"), "has the number 'seven'"),
        (saying("filename", "../../etc/passwd"), "the photo train2014/../../etc/passwd is in neither of"),
        (saying("filename", 7), "TypeError"),
        (saying("filepath", "/etc"), "the photo /etc/"),
        (saying("sentences", []), r"has the captions \[\]"),
        (saying("sentences", [{"sentid": 1, "raw": None}]), r"has the captions \[\(1, None\)\]"),
    ],
)
def test_a_zip_with_something_else_is_refused_and_not_kept(
    scene: Scene, damage: Callable[[Any], Any], reason: str
) -> None:
    scene.serve(damage(scene.dataset()))
    with pytest.raises(ArchiveError, match=reason):
        scene.download()
    assert not list(scene.root.glob("karpathy_*"))
    assert not list(scene.root.glob("annotations/*karpathy*"))
    assert not (scene.root / "zips").exists()


def test_a_page_instead_of_the_zip_is_refused(scene: Scene) -> None:
    (scene.server.root / "caption_datasets.zip").write_text("moved")
    with pytest.raises(ArchiveError, match="is not a whole zip"):
        scene.download()


def test_a_photo_that_is_missing_is_named(scene: Scene) -> None:
    gone = next((scene.root / "train2014").iterdir())
    gone.unlink()
    with pytest.raises(DiskError, match=f"train2014/{gone.name} is missing, but the Karpathy split names it"):
        scene.download()
    shutil.copy(scene.server.root / "pictures" / "2014" / "train2014" / gone.name, gone)
    scene.download()
    assert len(read_split(scene.root / "karpathy_train").photos) == SIZES["train"]


def test_captions_have_coco_shape(scene: Scene) -> None:
    scene.download()
    content = json.loads((scene.root / "annotations" / "captions_karpathy_val.json").read_text())
    assert set(content["images"][0]) == {"id", "file_name"}
    assert set(content["annotations"][0]) == {"id", "image_id", "caption"}


def test_the_address_is_the_authors() -> None:
    assert f"{MIRRORS[0]}/{SOURCE.path}" == (
        "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"
    )
