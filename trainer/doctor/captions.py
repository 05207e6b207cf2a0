"""The captions of a split, counted, and what is wrong with single ones.

"Not language" is what no sentence could be: one word alone, one word said over and over, or a text in which letters,
without those of web addresses, are less than half of what is written. Grammar and taste are left to people.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from shared.vocabulary import UNK_ID, Vocabulary, tokenize
from trainer.coco import Photo
from trainer.doctor.findings import SplitNumbers, Symptom

HUGE_CAPTION = 50
"""Words; more than that is no caption of one picture."""
OFTEN_REPEATED = 10
"""Photos of which the same words are said, from which on that is told."""
CAPTIONS_PER_PHOTO = 5
SHOWN = 100
"""Characters of a caption that are shown as an example."""

_ADDRESS = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_NOT_LETTERS = re.compile(r"[\W\d_]+")


@dataclass
class Text:
    """How often things are said in a split, and what is wrong with single captions."""

    captions_by_length: Counter[int] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    photos_by_captions: Counter[int] = field(default_factory=Counter)
    """How many photos have how many captions."""
    symptoms: list[Symptom] = field(default_factory=list)


def count_captions(photos: Iterable[Photo]) -> Text:
    text = Text()
    photos_by_sentence: Counter[str] = Counter()
    for photo in photos:
        sentences = {caption: tokenize(caption) for caption in photo.captions}
        for caption in photo.captions:
            words = sentences[caption]
            place = f"{photo.path.name}: {_shown(caption)}"
            text.symptoms += [(code, place) for code in caption_symptoms(caption, words)]
            text.captions_by_length[len(words)] += 1
            text.words.update(words)
        text.photos_by_captions[len(photo.captions)] += 1
        photos_by_sentence.update({" ".join(words) for words in sentences.values() if words})
    text.symptoms += _repeated(photos_by_sentence)
    return text


def caption_symptoms(caption: str, words: Sequence[str]) -> Iterator[str]:
    """Codes of what is wrong with a caption; `words` are what `tokenize` makes of it."""
    if not caption.strip():
        yield "empty_caption"
    elif not any(character.isalnum() for character in caption):
        yield "wordless_caption"
    elif len(set(words)) < 2 or 2 * _letters(caption) < len("".join(caption.split())):
        yield "not_language_caption"
    if len(words) > HUGE_CAPTION:
        yield "huge_caption"
    if not caption.isprintable() or "\N{REPLACEMENT CHARACTER}" in caption:
        yield "odd_characters_caption"


def _letters(caption: str) -> int:
    return len(_NOT_LETTERS.sub("", _ADDRESS.sub("", caption)))


def _repeated(photos_by_sentence: Counter[str]) -> Iterator[Symptom]:
    for sentence, photos in photos_by_sentence.most_common():
        if photos < OFTEN_REPEATED:
            return
        yield "repeated_caption", f"{_shown(sentence)} of {photos} photos"


def _shown(caption: str) -> str:
    return repr(caption if len(caption) <= SHOWN else caption[:SHOWN] + "...")


def split_numbers(name: str, listed: int, text: Text, vocabulary: Vocabulary, max_words: int) -> SplitNumbers:
    """The split's row of the table. `listed` photos were named; those that `text` is of can be used."""
    unknown, lengths = unknown_words(text, vocabulary), text.captions_by_length
    return SplitNumbers(
        split=name,
        photos_listed=listed,
        photos_usable=text.photos_by_captions.total(),
        captions=lengths.total(),
        captions_per_photo=_percentiles(text.photos_by_captions, (0, 50, 100)),
        words_per_caption=_percentiles(lengths, (0, 5, 50, 95, 100)),
        cut_captions=sum(count for length, count in lengths.items() if length > max_words),
        words=text.words.total(),
        unknown_words=unknown.total(),
        different_words=len(text.words),
        different_unknown_words=len(unknown),
    )


def unknown_words(text: Text, vocabulary: Vocabulary) -> Counter[str]:
    """Words that become <unk>, by how often they are said."""
    return Counter({word: count for word, count in text.words.items() if vocabulary.id_of(word) <= UNK_ID})


def _percentiles(counts: Counter[int], percents: Sequence[int]) -> tuple[int, ...]:
    """The smallest value that so many percent are not above; all zero where nothing was counted."""
    total, values = counts.total(), sorted(counts)
    return tuple(next((v for v in values if 100 * _up_to(counts, v) >= percent * total), 0) for percent in percents)


def _up_to(counts: Counter[int], most: int) -> int:
    return sum(count for value, count in counts.items() if value <= most)
