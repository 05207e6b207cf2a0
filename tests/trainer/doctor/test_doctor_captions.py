from pathlib import Path

import pytest

from shared.vocabulary import Vocabulary, tokenize
from trainer.coco import Photo
from trainer.doctor.captions import caption_symptoms, count_captions, split_numbers, unknown_words


def symptoms_of(caption: str) -> list[str]:
    return list(caption_symptoms(caption, tokenize(caption)))


def photo(image_id: int, *captions: str) -> Photo:
    return Photo(image_id, Path(f"{image_id}.jpg"), captions)


@pytest.mark.parametrize(
    "caption",
    [
        "A man.",
        "two dogs",
        "Three men in 1920s suits stand by a No. 7 tram, at 10:45.",
        "ein Hund läuft über die Straße",
        "собака бежит по снегу",
        "A sign that reads www.example.com above a shop door",
        "a dog, a dog and a dog",
        "It's a girl's birthday!",
        "an" + " old" * 49,
    ],
)
def test_sentences_are_left_alone(caption: str) -> None:
    assert symptoms_of(caption) == []


@pytest.mark.parametrize(
    ("caption", "code"),
    [
        ("", "empty_caption"),
        ("\t \n", "empty_caption"),
        (".", "wordless_caption"),
        ("?!?! ---", "wordless_caption"),
        ("\u200b", "wordless_caption"),
        ("dog", "not_language_caption"),
        ("Dog.", "not_language_caption"),
        ("dog dog Dog dog", "not_language_caption"),
        ("2513260012 03 33305 a", "not_language_caption"),
        ("https://example.com/pictures/of/dogs see this", "not_language_caption"),
        ("1 2 3 4", "not_language_caption"),
        ("== ** == a b", "not_language_caption"),
        ("a red dog " * 17, "huge_caption"),
        ("a dog\nruns", "odd_characters_caption"),
        ("a dog\xa0runs", "odd_characters_caption"),
        ("a dog\u2028runs", "odd_characters_caption"),
        ("a \x07dog runs", "odd_characters_caption"),
        ("a caf\N{REPLACEMENT CHARACTER} table", "odd_characters_caption"),
    ],
)
def test_what_is_wrong_with_a_caption_is_named(caption: str, code: str) -> None:
    assert code in symptoms_of(caption)


@pytest.mark.parametrize("caption", ["", "...", "dog"])
def test_a_caption_is_empty_or_wordless_or_no_language_but_only_one_of_them(caption: str) -> None:
    assert len(symptoms_of(caption)) == 1


def test_a_sentence_is_repeated_when_ten_photos_share_it_whatever_its_case_and_stops() -> None:
    nine = [photo(index, "A dog runs.", "a dog runs", f"number {index} of a row") for index in range(9)]
    assert count_captions(nine).symptoms == []
    ten = [*nine, photo(9, "a DOG runs !", "another one stands")]
    assert count_captions(ten).symptoms == [("repeated_caption", "'a dog runs' of 10 photos")]


def test_words_lengths_and_captions_are_counted() -> None:
    text = count_captions([photo(1, "A dog runs.", "a dog"), photo(2, "the dog, the dog")])
    assert text.words == {"a": 2, "dog": 4, "runs": 1, "the": 2}
    assert text.captions_by_length == {3: 1, 2: 1, 4: 1}
    assert text.photos_by_captions == {2: 1, 1: 1}
    vocabulary = Vocabulary.from_captions(["a dog the dog a"], min_count=2)
    assert unknown_words(text, vocabulary) == {"runs": 1, "the": 2}
    numbers = split_numbers("split", 3, text, vocabulary, 3)
    assert (numbers.photos_listed, numbers.photos_usable, numbers.captions, numbers.words) == (3, 2, 3, 9)
    assert (numbers.unknown_words, numbers.different_words, numbers.different_unknown_words) == (3, 4, 2)
    assert numbers.cut_captions == 1


def test_percentiles_are_lengths_that_occur() -> None:
    photos = [photo(index, " ".join(["word"] * length)) for index, length in enumerate([*range(1, 100), 1000])]
    numbers = split_numbers("split", 100, count_captions(photos), Vocabulary.from_captions([], min_count=1), 20)
    assert numbers.words_per_caption == (1, 5, 50, 95, 1000)
    assert numbers.captions_per_photo == (1, 1, 1)


def test_nothing_gives_zeros() -> None:
    numbers = split_numbers("split", 0, count_captions([]), Vocabulary.from_captions([], min_count=1), 20)
    assert numbers.words_per_caption == (0, 0, 0, 0, 0)
    assert numbers.captions == numbers.words == numbers.cut_captions == 0


def test_a_long_caption_is_shown_by_its_beginning_and_a_photo_by_its_name() -> None:
    [(code, place)] = count_captions([photo(7, "a very long caption " * 20)]).symptoms
    assert code == "huge_caption"
    assert place.startswith("7.jpg: 'a very long caption")
    assert place.endswith("...'")
    assert len(place) < 130
