from pathlib import Path

import numpy as np
import torch

from shared.image import Preprocessing
from shared.vocabulary import END_ID, PAD_ID, START_ID, Vocabulary
from trainer.coco import Photo, read_split
from trainer.data_loader import Batch, get_loader, set_epoch

PIXELS = Preprocessing(32, "squash", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))


def photos_of(data: Path) -> tuple[tuple[Photo, ...], Vocabulary]:
    photos = read_split(data / "val").photos
    return photos, Vocabulary.from_captions((c for photo in photos for c in photo.captions), min_count=1)


def epoch(data: Path, number: int, *, seed: int = 3, mirror: bool = True, captions_per_image: int = 3) -> list[Batch]:
    photos, vocabulary = photos_of(data)
    loader = get_loader(
        photos, PIXELS, vocabulary, images_per_batch=16, captions_per_image=captions_per_image, mirror=mirror, seed=seed
    )
    set_epoch(loader, number)
    return list(loader)


def test_every_photo_comes_once_an_epoch(drawn_data: Path) -> None:
    batches = epoch(drawn_data, 0)
    assert [len(batch.inputs) for batch in batches] == [16, 16, 16, 12]
    assert all(torch.equal(torch.unique(batch.images), torch.arange(len(batch.inputs))) for batch in batches)
    assert sum(len(batch.captions) for batch in batches) == 60 * 3


def test_captions_are_padded_and_the_longest_comes_first(drawn_data: Path) -> None:
    for batch in epoch(drawn_data, 0):
        assert batch.lengths.tolist() == sorted(batch.lengths.tolist(), reverse=True)
        for caption, length in zip(batch.captions, batch.lengths, strict=True):
            assert caption[0] == START_ID
            assert caption[length - 1] == END_ID
            assert (caption[length:] == PAD_ID).all()
            assert (caption[:length] != PAD_ID).all()


def test_seed_and_epoch_fix_every_batch(drawn_data: Path) -> None:
    first, again, other_epoch, other_seed = (
        epoch(drawn_data, 1),
        epoch(drawn_data, 1),
        epoch(drawn_data, 2),
        epoch(drawn_data, 1, seed=4),
    )
    for one, two in zip(first, again, strict=True):
        assert one.draws == two.draws
        assert all(torch.equal(getattr(one, part), getattr(two, part)) for part in ("inputs", "captions", "images"))
    assert not torch.equal(first[0].inputs, other_epoch[0].inputs)
    assert not torch.equal(first[0].inputs, other_seed[0].inputs)


def test_an_epoch_can_begin_at_any_of_its_batches(drawn_data: Path) -> None:
    photos, vocabulary = photos_of(drawn_data)
    loader = get_loader(photos, PIXELS, vocabulary, images_per_batch=16, mirror=True, seed=3)
    set_epoch(loader, 4)
    whole = [batch.draws for batch in loader]
    set_epoch(loader, 4, first_batch=2)
    assert len(loader) == 2
    assert [batch.draws for batch in loader] == whole[2:]


def test_half_of_the_photos_are_mirrored_and_their_captions_with_them(drawn_data: Path) -> None:
    photos, vocabulary = photos_of(drawn_data)
    loader = get_loader(photos, PIXELS, vocabulary, images_per_batch=1, mirror=True, seed=0)
    from trainer.coco import read_photo, swap_sides

    originals = {read_photo(photo.path, PIXELS).tobytes(): photo for photo in photos}
    mirrors = {np.ascontiguousarray(read_photo(p.path, PIXELS)[:, ::-1]).tobytes(): p for p in photos}
    mirrored = 0
    for batch in loader:
        pixels = batch.inputs[0].numpy().tobytes()
        said = {tuple(caption[:length].tolist()) for caption, length in zip(batch.captions, batch.lengths, strict=True)}
        if pixels in originals:
            texts = originals[pixels].captions
        else:
            mirrored += 1
            texts = tuple(swap_sides(text) for text in mirrors[pixels].captions)
        assert said == {tuple(vocabulary.encode(text)) for text in texts}
    assert 15 < mirrored < 45


def test_without_mirroring_every_photo_is_as_it_is(drawn_data: Path) -> None:
    from trainer.coco import read_photo

    photos, _ = photos_of(drawn_data)
    originals = {read_photo(photo.path, PIXELS).tobytes() for photo in photos}
    seen = {image.numpy().tobytes() for batch in epoch(drawn_data, 5, mirror=False) for image in batch.inputs}
    assert seen == originals


def test_long_captions_are_cut_before_their_end(drawn_data: Path) -> None:
    photos, vocabulary = photos_of(drawn_data)
    for batch in get_loader(photos, PIXELS, vocabulary, images_per_batch=16, max_words=4):
        assert int(batch.lengths.max()) <= 6
        assert all(caption[length - 1] == END_ID for caption, length in zip(batch.captions, batch.lengths, strict=True))
