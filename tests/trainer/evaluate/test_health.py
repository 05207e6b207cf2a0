import pytest

from shared.captioner import BAD_ENDINGS
from trainer.evaluate.health import caption_health


def test_health_tells_shares_counts_and_length() -> None:
    captions = ["A dog runs on the.", "a dog runs", "A dog runs!", "two <unk> play with the", ""]
    assert caption_health(captions) == {
        "dangling_endings": 3 / 5,
        "unknown_words": 1 / 5,
        "unique_captions": 4,
        "distinct_words": 8,
        "mean_length": 16 / 5,
    }


@pytest.mark.parametrize("word", sorted(BAD_ENDINGS))
def test_every_bad_ending_dangles(word: str) -> None:
    assert caption_health([f"a dog {word}"])["dangling_endings"] == 1
    assert caption_health([f"A dog {word}."])["dangling_endings"] == 1, "also where `a.` is read as a letter"
    assert caption_health([f"{word} dog"])["dangling_endings"] == 0


def test_no_captions_have_no_health() -> None:
    with pytest.raises(ValueError, match="there are 0 captions"):
        caption_health([])
