"""Both engines, every precision and every batch must tell the same story of a photo."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.bundle import Bundle, DecodeOptions
from shared.captioner import Caption, Captioner
from shared.engine import EngineError
from shared.engine_loading import load_engine
from trainer.coco import Photo, read_photo, read_split
from trainer.evaluate import references_of, score
from trainer.evaluate.health import caption_health

Images = Sequence[NDArray[np.uint8]]


def captioner(bundle: Path, engine: str, precision: str) -> Captioner:
    loaded = Bundle.load(bundle)
    return Captioner(loaded, load_engine(engine, loaded, precision=precision))


def photos_and_images(split: Path, bundle: Path) -> tuple[Sequence[Photo], Images]:
    photos = read_split(split).photos
    return photos, [read_photo(photo.path, Bundle.load(bundle).preprocessing) for photo in photos]


def captions(captioner: Captioner, images: Images, batch_size: int) -> list[Caption]:
    found: list[Caption | None] = []
    for begin in range(0, len(images), batch_size):
        batch = images[begin : begin + batch_size]
        found += captioner.caption(batch, [captioner.bundle.decode] * len(batch))
    assert None not in found
    return [caption for caption in found if caption]


def share_of_equal(first: Sequence[Caption], second: Sequence[Caption]) -> float:
    return sum(a.caption == b.caption for a, b in zip(first, second, strict=True)) / len(first)


def assert_equal_but_for_ties(first: Sequence[Caption], second: Sequence[Caption], *, at_least: float) -> None:
    assert share_of_equal(first, second) >= at_least
    for a, b in zip(first, second, strict=True):
        assert a.log_probability == pytest.approx(b.log_probability, abs=0.02)


def test_both_engines_say_the_same(tiny_bundle: Path, drawn_data: Path) -> None:
    _, images = photos_and_images(drawn_data / "val", tiny_bundle)
    openvino, torch = (captions(captioner(tiny_bundle, name, "fp32"), images, 16) for name in ("openvino", "torch"))
    assert_equal_but_for_ties(openvino, torch, at_least=0.98)


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_a_picture_gets_its_caption_alone_and_in_any_company(engine: str, tiny_bundle: Path, drawn_data: Path) -> None:
    _, images = photos_and_images(drawn_data / "val", tiny_bundle)
    speaker = captioner(tiny_bundle, engine, "fp32")
    alone = captions(speaker, images, 1)
    for batch_size in (2, 5, 16, 60):
        assert_equal_but_for_ties(alone, captions(speaker, images, batch_size), at_least=0.98)
    backwards = captions(speaker, images[::-1], 7)[::-1]
    assert_equal_but_for_ties(alone, backwards, at_least=0.98)


def test_callers_with_other_wishes_share_a_batch(tiny_bundle: Path, drawn_data: Path) -> None:
    _, images = photos_and_images(drawn_data / "val", tiny_bundle)
    speaker = captioner(tiny_bundle, "openvino", "fp32")
    wishes = [DecodeOptions(1, 20), DecodeOptions(5, 20, n_best=3), DecodeOptions(3, 4), DecodeOptions(5, 20, n_best=3)]
    together = speaker.caption(images[:4], wishes)
    for image, wish, caption in zip(images[:4], wishes, together, strict=True):
        [alone] = speaker.caption([image], [wish])
        assert alone is not None
        assert caption is not None
        assert len(caption.candidates) == wish.n_best
        assert [c.caption for c in caption.candidates] == [c.caption for c in alone.candidates]
        assert all(len(c.words) <= wish.max_length for c in caption.candidates)


def test_a_caller_who_has_left_gets_none_and_the_others_theirs(tiny_bundle: Path, drawn_data: Path) -> None:
    _, images = photos_and_images(drawn_data / "val", tiny_bundle)
    speaker = captioner(tiny_bundle, "openvino", "fp32")
    options = [speaker.bundle.decode] * 3
    whole, without = speaker.caption(images[:3], options), speaker.caption(images[:3], options, lambda i: i == 1)
    assert [caption is None for caption in without] == [False, True, False]
    assert [c.caption for c in without if c] == [c.caption for i, c in enumerate(whole) if c and i != 1]


def test_every_word_says_where_the_model_looked(tiny_bundle: Path, drawn_data: Path) -> None:
    _, images = photos_and_images(drawn_data / "val", tiny_bundle)
    [caption] = captions(captioner(tiny_bundle, "openvino", "fp32"), images[:1], 1)
    best = caption.candidates[0]
    assert best.attention.shape[0] == len(best.words) == len(best.word_log_probabilities)
    np.testing.assert_allclose(best.attention.sum(axis=(1, 2)), 1, atol=1e-5)
    assert sum(best.word_log_probabilities) >= best.log_probability


def test_both_engines_look_at_the_same_places(tiny_bundle: Path, drawn_data: Path) -> None:
    _, images = photos_and_images(drawn_data / "val", tiny_bundle)
    openvino, torch = (captions(captioner(tiny_bundle, name, "fp32"), images[:20], 4) for name in ("openvino", "torch"))
    compared = [(a, b) for a, b in zip(openvino, torch, strict=True) if a.caption == b.caption]
    assert len(compared) >= 19
    for a, b in compared:
        np.testing.assert_allclose(a.candidates[0].attention, b.candidates[0].attention, atol=1e-3)
        np.testing.assert_allclose(
            a.candidates[0].word_log_probabilities, b.candidates[0].word_log_probabilities, atol=0.01
        )


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("tensorflow", "auto", "unknown engine 'tensorflow'; use 'auto', 'openvino' or 'torch'"),
        ("openvino", "fp64", "unknown precision 'fp64'; the engine 'openvino' knows fp32, bf16"),
        ("torch", "fp64", "unknown precision 'fp64'; the engine 'torch' knows fp32, bf16, fp16"),
    ],
)
def test_an_engine_that_is_not_to_be_had_is_refused(
    engine: str, precision: str, message: str, tiny_bundle: Path
) -> None:
    with pytest.raises(EngineError, match=message):
        captioner(tiny_bundle, engine, precision)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_default_model_keeps_its_promises_on_real_photos(default_bundle: Path, real_data: Path) -> None:
    photos, images = photos_and_images(real_data / "flickr8k" / "val", default_bundle)
    references = references_of(photos)

    def scores(found: Sequence[Caption]) -> dict[str, float]:
        return score(references, {photo.image_id: c.caption for photo, c in zip(photos, found, strict=True)})

    exact = captioner(default_bundle, "openvino", "fp32")
    expected = captions(exact, images, 16)
    assert scores(expected)["CIDEr-D"] >= 58
    assert scores(expected)["BLEU-4"] >= 24
    assert caption_health([c.caption for c in expected])["dangling_endings"] < 0.01
    assert_equal_but_for_ties(expected, captions(exact, images, 1), at_least=0.999)
    assert_equal_but_for_ties(expected, captions(exact, images[::-1], 11)[::-1], at_least=0.999)
    assert share_of_equal(expected, captions(captioner(default_bundle, "torch", "fp32"), images, 16)) >= 0.995
    rounded = captions(captioner(default_bundle, "openvino", "bf16"), images, 16)
    assert share_of_equal(expected, rounded) >= 0.95
    assert scores(rounded)["CIDEr-D"] == pytest.approx(scores(expected)["CIDEr-D"], abs=0.5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_serves_by_default_costs_no_quality_and_says_the_same_in_any_batch(
    default_bundle: Path, real_data: Path
) -> None:
    photos, images = photos_and_images(real_data / "flickr8k" / "val", default_bundle)
    served = captioner(default_bundle, "openvino", "auto")
    expected = captions(served, images, 16)
    assert_equal_but_for_ties(expected, captions(served, images, 1), at_least=0.99)
    assert_equal_but_for_ties(expected, captions(served, images[::-1], 11)[::-1], at_least=0.99)
    found = score(references_of(photos), {p.image_id: c.caption for p, c in zip(photos, expected, strict=True)})
    assert found["CIDEr-D"] > served.bundle.metrics["flickr8k/val"]["CIDEr-D"] - 0.5
