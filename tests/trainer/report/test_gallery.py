from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bundle import DecodeOptions
from shared.image import Preprocessing
from shared.vocabulary import Vocabulary
from tests.trainer.report.report_runs import made_model
from trainer.coco import Photo, read_split
from trainer.evaluate import score
from trainer.report import gallery
from trainer.report.gallery import Captioned, caption_with_attention, choose, cider_of_each, make_gallery

PIXELS = Preprocessing(64, "squash", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))


@pytest.fixture(scope="module")
def photos(drawn_data: Path) -> list[Photo]:
    return list(read_split(drawn_data / "val").photos[:20])


@pytest.fixture(scope="module")
def vocabulary(photos: list[Photo]) -> Vocabulary:
    return Vocabulary.from_captions([text for photo in photos for text in photo.captions], min_count=1)


@given(st.lists(st.floats(0, 1000), max_size=60), st.integers(0, 15))
def test_no_photo_is_chosen_twice_and_none_is_missing_that_there_is_room_for(scores: list[float], count: int) -> None:
    best, worst, spread = choose(scores, count)
    chosen = [*best, *worst, *spread]
    assert len(set(chosen)) == len(chosen) == min(len(scores), 2 * count + -(-count // 2))
    assert len(best) - len(worst) in (0, 1)
    assert spread == sorted(spread)
    if worst:
        assert min(scores[i] for i in best) >= max(scores[i] for i in worst)


@given(st.lists(st.floats(0, 1000), min_size=30, max_size=60), st.integers(1, 12))
def test_the_best_are_the_highest_and_the_worst_the_lowest(scores: list[float], count: int) -> None:
    best, worst, _ = choose(scores, count)
    ranked = sorted(scores)
    assert [scores[i] for i in best] == ranked[::-1][:count]
    assert [scores[i] for i in worst] == ranked[:count]


def test_the_others_are_spread_over_the_whole_split() -> None:
    _, _, spread = choose([float(n % 7) for n in range(1000)], 12)
    gaps = np.diff([0, *spread, 1000])
    assert len(spread) == 6
    assert gaps.min() > 50
    assert gaps.max() < 250


@pytest.fixture(scope="module")
def broken_photo(photos: list[Photo], tmp_path_factory: pytest.TempPathFactory) -> Photo:
    path = tmp_path_factory.mktemp("photos") / "broken.jpg"
    path.write_bytes(photos[0].path.read_bytes()[:300])
    return Photo(7, path, ("a star",))


@pytest.fixture(scope="module")
def said(photos: list[Photo], broken_photo: Photo, vocabulary: Vocabulary) -> list[Captioned]:
    model = made_model(vocabulary, PIXELS)
    return caption_with_attention(model, [broken_photo, *photos], vocabulary, PIXELS, DecodeOptions(2, 6))


def test_each_photo_has_words_with_probabilities_and_a_map_per_word(
    said: list[Captioned], vocabulary: Vocabulary
) -> None:
    for item in said:
        assert item.caption == vocabulary.decode([vocabulary.id_of(word) for word in item.words])
        assert len(item.words) == len(item.probabilities) == len(item.attention)
        assert all(0 < probability <= 1 for probability in item.probabilities)
        assert item.log_prob <= sum(np.log(item.probabilities)) + 1e-5, "the end has a probability too"
        assert item.attention.shape[1] == item.attention.shape[2]
        assert item.attention.sum(axis=(1, 2)) == pytest.approx(1, abs=0.01)


def test_a_broken_photo_is_left_out(said: list[Captioned], photos: list[Photo]) -> None:
    assert [item.photo for item in said] == photos


def test_a_photo_keeps_no_more_of_the_search_than_its_own_maps(said: list[Captioned]) -> None:
    assert all(item.attention.base is None for item in said)


def test_a_split_without_a_readable_photo_is_one_sentence(
    broken_photo: Photo, vocabulary: Vocabulary, caplog: pytest.LogCaptureFixture
) -> None:
    model = made_model(vocabulary, PIXELS)
    with pytest.raises(ValueError, match="no photo of val can be decoded"):
        make_gallery(model, [broken_photo], vocabulary, PIXELS, DecodeOptions(1, 6), split="val", count=1)
    assert f"{broken_photo.path}: " in caplog.text


def test_of_a_large_split_only_the_first_photos_are_captioned(
    photos: list[Photo], vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gallery, "LONGEST_SPLIT", 5)
    model = made_model(vocabulary, PIXELS)
    made = make_gallery(model, photos, vocabulary, PIXELS, DecodeOptions(1, 6), split="val", count=9)
    assert {item.photo for item in (*made.best, *made.worst, *made.spread)} == set(photos[:5])
    assert "val has 20 photos; only the first 5 are captioned" in caplog.text


def said_of(photos: list[Photo], captions: list[str]) -> list[Captioned]:
    maps = np.zeros((0, 2, 2), np.float16)
    return [Captioned(photo, text, (), (), 0.0, maps) for photo, text in zip(photos, captions, strict=True)]


def test_the_mean_of_the_scores_is_the_score_of_the_evaluation(photos: list[Photo]) -> None:
    captions = [photo.captions[0].upper() + "." if n % 3 else "a star" for n, photo in enumerate(photos)]
    expected = score(
        {photo.image_id: photo.captions for photo in photos},
        {photo.image_id: caption for photo, caption in zip(photos, captions, strict=True)},
    )
    scores = cider_of_each(said_of(photos, captions))
    assert sum(scores) / len(scores) == pytest.approx(expected["CIDEr-D"])
    assert max(scores[0::3]) < min(scores[1::3]), "one's own reference beats a guess"
