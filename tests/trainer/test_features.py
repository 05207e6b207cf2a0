import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.image import Preprocessing
from shared.model import EncoderCNN
from trainer.coco import Photo, read_photo, read_split
from trainer.features import cache_features

PIXELS = Preprocessing(64, "squash", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))


@pytest.fixture
def encoder() -> EncoderCNN:
    torch.manual_seed(0)
    return EncoderCNN("test_resnet", PIXELS).eval()


@pytest.fixture
def photos(drawn_data: Path, tmp_path: Path) -> list[Photo]:
    shutil.copytree(drawn_data, tmp_path / "data")
    return list(read_split(tmp_path / "data" / "val").photos[:20])


def test_cached_features_are_the_encoders(photos: list[Photo], encoder: EncoderCNN, tmp_path: Path) -> None:
    cache = cache_features(photos, encoder, PIXELS, tmp_path / "cache", mirror=True)
    for photo in photos:
        image = torch.from_numpy(read_photo(photo.path, PIXELS))
        with torch.inference_mode():
            expected = encoder(torch.stack([image, image.flip(1)])).numpy()
        for mirrored in (False, True):
            np.testing.assert_allclose(cache.features(photo, mirrored), expected[int(mirrored)], atol=0.02, rtol=0.01)


def test_features_are_computed_once(photos: list[Photo], encoder: EncoderCNN, tmp_path: Path) -> None:
    cache_features(photos, encoder, PIXELS, tmp_path / "cache", mirror=False)
    [folder] = (tmp_path / "cache").iterdir()
    written = (folder / "original.npy").stat().st_mtime_ns
    cache_features(photos, encoder, PIXELS, tmp_path / "cache", mirror=False)
    assert list((tmp_path / "cache").iterdir()) == [folder]
    assert (folder / "original.npy").stat().st_mtime_ns == written


def test_other_weights_pixels_or_photos_are_another_cache(
    photos: list[Photo], encoder: EncoderCNN, tmp_path: Path
) -> None:
    cache_features(photos, encoder, PIXELS, tmp_path / "cache", mirror=False)
    torch.manual_seed(1)
    cache_features(photos, EncoderCNN("test_resnet", PIXELS).eval(), PIXELS, tmp_path / "cache", mirror=False)
    smaller = Preprocessing(48, "squash", PIXELS.mean, PIXELS.std)
    cache_features(photos, encoder, smaller, tmp_path / "cache", mirror=False)
    cache_features(photos[1:], encoder, PIXELS, tmp_path / "cache", mirror=False)
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_a_photo_that_cannot_be_decoded_is_told_and_the_others_stay_right(
    photos: list[Photo], encoder: EncoderCNN, tmp_path: Path
) -> None:
    broken = photos[3].path
    broken.write_bytes(broken.read_bytes()[:400])
    cache = cache_features(photos, encoder, PIXELS, tmp_path / "cache", mirror=False)
    assert list(cache.problems) == [broken]
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(read_photo(photos[4].path, PIXELS))[None])[0].numpy()
    np.testing.assert_allclose(cache.features(photos[4], False), expected, atol=0.02, rtol=0.01)


def test_an_interrupted_run_leaves_no_cache_that_could_be_read(
    photos: list[Photo], encoder: EncoderCNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("trainer.features._read_batches", fail)
    with pytest.raises(OSError, match="no space left"):
        cache_features(photos, encoder, PIXELS, tmp_path / "cache", mirror=False)
    assert list((tmp_path / "cache").iterdir()) == []
