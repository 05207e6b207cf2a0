"""What the doctor can find, how grave each thing is, and how it tells them: as a table or as JSON.

Errors say that a training should not start, warnings that it would suffer, notes what is good to know. Codes stay.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

Symptom = tuple[str, str]
"""A code of RULES, and where it shows."""


class Rule(NamedTuple):
    severity: Severity
    what: str
    """What is counted."""
    advice: str


RULES = {
    "malformed_entry": Rule(
        "error",
        "entries of the captions file without a file name or a caption",
        "Give every image a file_name and every annotation a caption, both as text; training fails on such an entry.",
    ),
    "no_usable_photo": Rule(
        "error",
        "photos listed, and none that can be used",
        "Check that the photos lie in the split's folder under the names that the captions file gives them.",
    ),
    "many_unusable_photos": Rule(
        "error",
        "photos that cannot be used, more than 5% of the split",
        "Get the data again; so much is rarely lost by chance.",
    ),
    "leaked_photo": Rule(
        "error",
        "validation photos that are training photos too, byte for byte",
        "Take them out of one side; scores on photos that were learned tell nothing.",
    ),
    "leaked_similar_photo": Rule(
        "error",
        "validation photos that look the same as a training photo",
        "Look at the pairs and take the copies out of one side; scores on photos that were learned tell nothing.",
    ),
    "empty_vocabulary": Rule(
        "error",
        "words in the vocabulary",
        "Lower --min-count or train on more captions; as it is, the model would know no word.",
    ),
    "missing_photo": Rule(
        "warning", "photos listed but not there", "Get the files or take the entries out; they are left out."
    ),
    "corrupt_photo": Rule(
        "warning",
        "photos that cannot be decoded",
        "Replace them or take their entries out; training leaves them out or, without cached features, stops at them.",
    ),
    "outside_photo": Rule(
        "warning", "file names that leave the split's folder", "Move the files into the folder; they are left out."
    ),
    "photo_without_caption": Rule(
        "warning", "photos without a caption", "Describe them or take their entries out; they are left out."
    ),
    "caption_of_unknown_photo": Rule(
        "warning",
        "captions of photos that are not listed",
        "List the photos or take the captions out; they are left out.",
    ),
    "repeated_image_id": Rule(
        "warning",
        "entries of images whose id came before",
        "Give every image an id of its own; of those that share one only the last is used, with the captions of all.",
    ),
    "repeated_caption_id": Rule(
        "warning",
        "captions whose id came before",
        "Give every annotation an id of its own; of those that share one only the last is used.",
    ),
    "shared_image_id": Rule(
        "warning",
        "image ids of the same data set in training and validation",
        "Check that they are different photos, and number the images of a data set through all its splits.",
    ),
    "tiny_photo": Rule(
        "warning", "photos with a side under 64 pixels", "Get them larger or take them out; blown up they show little."
    ),
    "empty_caption": Rule("warning", "empty captions", "Take them out; they teach the model to say nothing."),
    "wordless_caption": Rule(
        "warning", "captions of signs alone", "Take them out; they teach the model to say nothing."
    ),
    "not_language_caption": Rule(
        "warning",
        "captions that are no sentence (one word, one word repeated, or mostly no letters)",
        "Write them anew or take them out.",
    ),
    "huge_caption": Rule(
        "warning", "captions of more than 50 words", "Shorten them; what is over --max-words is cut off."
    ),
    "many_unknown_words": Rule(
        "warning",
        "running words outside the vocabulary, more than 5% of the split",
        "Lower --min-count, mend the spelling or add captions; each of these becomes <unk>.",
    ),
    "many_cut_captions": Rule(
        "warning", "captions over --max-words, more than 5% of the split", "Raise --max-words; their ends are cut off."
    ),
    "greyscale_photo": Rule("note", "photos without colour", "Nothing to do unless their captions name colours."),
    "cmyk_photo": Rule("note", "photos in CMYK", "Nothing to do if they look right in RGB; they are converted."),
    "alpha_photo": Rule("note", "photos with transparency", "Nothing to do if they look right on white."),
    "rotated_photo": Rule(
        "note", "photos that EXIF turns", "Nothing to do if the captions are of the upright photos; they are turned."
    ),
    "extreme_aspect_photo": Rule(
        "note",
        "photos more than three times as long as wide",
        "Crop them; `squash` distorts them and `crop` shows the middle only.",
    ),
    "unlisted_file": Rule(
        "note", "files in the folder that no entry names", "Nothing to do unless their captions got lost."
    ),
    "repeated_photo": Rule(
        "note", "photos that came before, byte for byte", "Merge their captions, unless they should weigh more."
    ),
    "similar_photo": Rule(
        "note", "photos that look the same as one before", "Merge their captions, unless they should weigh more."
    ),
    "odd_characters_caption": Rule(
        "note",
        "captions with line breaks, control characters or odd spaces",
        "Nothing to do; they separate words. Many of them may mean a wrong encoding.",
    ),
    "repeated_caption": Rule(
        "note",
        "captions that ten photos or more share",
        "Read them; a placeholder for a missing description should go.",
    ),
    "uneven_captions": Rule(
        "note", "photos with more or fewer than 5 captions", "Nothing to do; scores with fewer references are lower."
    ),
    "unknown_validation_words": Rule(
        "note", "words of the validation captions outside the vocabulary", "Nothing to do; the model cannot say them."
    ),
}


@dataclass(frozen=True)
class Finding:
    severity: Severity
    code: str
    split: str
    count: int
    what: str
    advice: str
    examples: tuple[str, ...]


@dataclass(frozen=True)
class SplitNumbers:
    """A split in figures; of captions and words only those count that belong to photos that can be used."""

    split: str
    photos_listed: int
    photos_usable: int
    captions: int
    captions_per_photo: tuple[int, ...]
    """Least, median, most."""
    words_per_caption: tuple[int, ...]
    """Least, 5%, median, 95%, most."""
    cut_captions: int
    """Longer than max_words."""
    words: int
    """Running words, and those of them that become <unk>."""
    unknown_words: int
    different_words: int
    different_unknown_words: int


@dataclass(frozen=True)
class Diagnosis:
    """`captions_by_length` and `words` are those of all training splits together; `findings` the gravest first."""

    findings: tuple[Finding, ...]
    splits: tuple[SplitNumbers, ...]
    vocabulary_size: int
    """Words, without <pad> and its like."""
    min_count: int
    max_words: int
    captions_by_length: Counter[int]
    words: Counter[str]

    @property
    def may_train(self) -> bool:
        return not any(finding.severity == "error" for finding in self.findings)


def finding(code: str, split: str, count: int, examples: Iterable[str] = ()) -> Finding:
    rule = RULES[code]
    return Finding(rule.severity, code, split, count, rule.what, rule.advice, tuple(examples))


def findings_of(split: str, symptoms: Iterable[Symptom], examples: int) -> list[Finding]:
    """One finding for each code, with the first few places."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for code, place in symptoms:
        places[code].append(_printable(place))
    return [finding(code, split, len(where), where[:examples]) for code, where in places.items()]


def _printable(text: str) -> str:
    """File names may hold what no terminal should get, or what no encoding has."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def by_gravity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    order = {code: position for position, code in enumerate(RULES)}
    return tuple(sorted(findings, key=lambda found: (SEVERITIES.index(found.severity), order[found.code])))


def to_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Plain values; what training words and lengths there are is told by the figures of the splits."""
    counts = Counter(found.severity for found in diagnosis.findings)
    return {
        "may_train": diagnosis.may_train,
        **{f"{severity}s": counts[severity] for severity in SEVERITIES},
        "findings": [dataclasses.asdict(found) for found in diagnosis.findings],
        "splits": [dataclasses.asdict(numbers) for numbers in diagnosis.splits],
        "vocabulary_size": diagnosis.vocabulary_size,
        "min_count": diagnosis.min_count,
        "max_words": diagnosis.max_words,
    }


def to_text(diagnosis: Diagnosis) -> str:
    counts = Counter(found.severity for found in diagnosis.findings)
    told = ", ".join(_plural(counts[severity], severity) for severity in SEVERITIES)
    verdict = "Training may start" if diagnosis.may_train else "Training should not start"
    return "\n".join([*_table(diagnosis), "", *_findings(diagnosis.findings), f"{verdict}: {told}."])


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    for found in findings:
        yield f"{found.severity.upper():<8} {found.code}: {found.count:,} in {found.split}"
        yield f"         {found.what[0].upper()}{found.what[1:]}. {found.advice}"
        yield from (f"         - {example}" for example in found.examples)
        yield ""


def _table(diagnosis: Diagnosis) -> list[str]:
    rows = _rows(diagnosis)
    columns = [list(rows), *zip(*rows.values(), strict=True)]
    widths = [max(map(len, column)) for column in columns]
    return [
        "  ".join([name.ljust(widths[0]), *(value.rjust(width) for value, width in zip(row, widths[1:], strict=True))])
        for name, row in rows.items()
    ]


def _rows(diagnosis: Diagnosis) -> Mapping[str, list[str]]:
    splits = diagnosis.splits
    return {
        f"vocabulary: {diagnosis.vocabulary_size:,} words": [s.split for s in splits],
        "photos listed": [f"{s.photos_listed:,}" for s in splits],
        "photos to use": [f"{s.photos_usable:,}" for s in splits],
        "captions": [f"{s.captions:,}" for s in splits],
        "captions per photo: least, median, most": [" ".join(map(str, s.captions_per_photo)) for s in splits],
        "words per caption: least, 5%, median, 95%, most": [" ".join(map(str, s.words_per_caption)) for s in splits],
        f"captions cut at {diagnosis.max_words} words": [_percent(s.cut_captions, s.captions) for s in splits],
        "different words": [f"{s.different_words:,}" for s in splits],
        "of them outside the vocabulary": [f"{s.different_unknown_words:,}" for s in splits],
        "running words that become <unk>": [_percent(s.unknown_words, s.words) for s in splits],
    }


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
