"""Looks a data set over before a training, and says what would hurt it.

Every photo that training would use is decoded and every caption cut into words. Leakage counts most: a photo on both
sides makes every score too good, and nothing in the training itself shows it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shared.vocabulary import UNK_ID, Vocabulary
from trainer.coco import Photo, annotations_of, is_outside, read_coco
from trainer.doctor.captions import CAPTIONS_PER_PHOTO, Text, count_captions, split_numbers, unknown_words
from trainer.doctor.findings import Diagnosis, Finding, SplitNumbers, Symptom, by_gravity, finding, findings_of
from trainer.doctor.photos import PhotoFacts, examine_photos, find_twins

MUCH = 0.05
"""The share of a split over which its unusable photos, unknown words or cut captions are told."""
SPECIALS = UNK_ID + 1

TWIN_CODES = {
    (False, True): "repeated_photo",
    (False, False): "similar_photo",
    (True, True): "leaked_photo",
    (True, False): "leaked_similar_photo",
}
"""Whether they are on different sides, and whether byte for byte."""

Role = Literal["train", "val"]


@dataclass(frozen=True)
class Listing:
    """A split as its captions file lists it: photos that training would open, and what is wrong with the rest."""

    name: str
    role: Role
    folder: Path
    listed: int
    photos: tuple[Photo, ...]
    symptoms: tuple[Symptom, ...]

    def place(self, photo: Photo) -> str:
        return f"{self.name}/{photo.path.relative_to(self.folder)}"


def examine(
    data: Path,
    *,
    train: Sequence[str],
    val: Sequence[str] = (),
    min_count: int = 5,
    max_words: int = 20,
    workers: int = 2,
    examples: int = 5,
) -> Diagnosis:
    """The splits are folders below `data`, each named once. Raises DataError where one cannot be read at all."""
    listings = [
        *(read_listing(data / name, name, "train") for name in train),
        *(read_listing(data / name, name, "val") for name in val),
    ]
    facts = examine_photos([photo.path for _, photo in _placed(listings)], workers=workers)
    photos = _usable_photos(listings, facts)
    texts = {name: count_captions(usable) for name, usable in photos.items()}
    said = (caption for name in train for photo in photos[name] for caption in photo.captions)
    vocabulary = Vocabulary.from_captions(said, min_count=min_count)
    numbers = [split_numbers(x.name, x.listed, texts[x.name], vocabulary, max_words) for x in listings]
    symptoms = _symptoms(listings, facts, texts)
    findings = [found for name, where in symptoms.items() for found in findings_of(name, where, examples)]
    for listing, figures in zip(listings, numbers, strict=True):
        findings += _findings_of_figures(figures)
        findings += _findings_of_words(listing, texts[listing.name], vocabulary, examples)
    if len(vocabulary) == SPECIALS:
        findings.append(finding("empty_vocabulary", ", ".join(train), 0))
    return Diagnosis(
        findings=by_gravity(findings),
        splits=tuple(numbers),
        vocabulary_size=len(vocabulary) - SPECIALS,
        min_count=min_count,
        max_words=max_words,
        captions_by_length=sum((texts[name].captions_by_length for name in train), Counter[int]()),
        words=sum((texts[name].words for name in train), Counter[str]()),
    )


def read_listing(folder: Path, name: str, role: Role) -> Listing:
    content = read_coco(annotations_of(folder)).dataset
    names, of_images = _file_names(content)
    captions, of_captions = _captions(content)
    photos = [Photo(image_id, folder / names[image_id], tuple(captions.get(image_id, ()))) for image_id in names]
    unlisted = sorted(_files(folder) - set(names.values()))
    symptoms = {photo.image_id: _entry_symptom(photo, folder) for photo in photos}
    return Listing(
        name,
        role,
        folder,
        listed=len(content.get("images", ())),
        photos=tuple(photo for photo in photos if not symptoms[photo.image_id]),
        symptoms=(
            *of_images,
            *of_captions,
            *((code, f"{name}/{names[image_id]}") for image_id, code in symptoms.items() if code),
            *(("unlisted_file", f"{name}/{path}") for path in unlisted),
        ),
    )


def _file_names(content: Mapping[str, Any]) -> tuple[dict[int, str], list[Symptom]]:
    """By image id; of images with the same id the last counts, as pycocotools has it."""
    names: dict[int, str] = {}
    symptoms: list[Symptom] = []
    for image in content.get("images", ()):
        file_name = image.get("file_name")
        if not isinstance(file_name, str) or not file_name:
            symptoms.append(("malformed_entry", f"image {image['id']}"))
            continue
        if image["id"] in names:
            symptoms.append(("repeated_image_id", f"image {image['id']}: {names[image['id']]} and {file_name}"))
        names[image["id"]] = file_name
    return names, symptoms


def _captions(content: Mapping[str, Any]) -> tuple[dict[int, list[str]], list[Symptom]]:
    """By image id; of annotations with the same id the last counts, as pycocotools has it."""
    listed = {image["id"] for image in content.get("images", ())}
    last: dict[Any, tuple[int, str]] = {}
    symptoms: list[Symptom] = []
    for annotation in content.get("annotations", ()):
        annotation_id, image_id, caption = annotation["id"], annotation["image_id"], annotation.get("caption")
        place = f"annotation {annotation_id} of image {image_id}"
        if not isinstance(caption, str):
            symptoms.append(("malformed_entry", place))
            continue
        if image_id not in listed:
            symptoms.append(("caption_of_unknown_photo", place))
        if annotation_id in last:
            symptoms.append(("repeated_caption_id", place))
        last[annotation_id] = image_id, caption
    captions: dict[int, list[str]] = {}
    for image_id, caption in last.values():
        captions.setdefault(image_id, []).append(caption)
    return captions, symptoms


def _entry_symptom(photo: Photo, folder: Path) -> str | None:
    if not photo.captions:
        return "photo_without_caption"
    if is_outside(photo.path, folder):
        return "outside_photo"
    return None


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _shared_ids(listing: Listing, listings: Sequence[Listing]) -> Iterator[Symptom]:
    """Ids name photos within a data set only: splits that keep their captions in one folder."""
    if listing.role == "val":
        ids = {photo.image_id for photo in listing.photos}
        for other in listings:
            if other.role == "train" and other.folder.parent == listing.folder.parent:
                shared = sorted(ids.intersection(photo.image_id for photo in other.photos))
                yield from (("shared_image_id", f"image {image_id} of {other.name}") for image_id in shared)


def _placed(listings: Sequence[Listing]) -> list[tuple[Listing, Photo]]:
    """The photos in the order in which they were examined."""
    return [(listing, photo) for listing in listings for photo in listing.photos]


def _usable_photos(listings: Sequence[Listing], facts: Sequence[PhotoFacts]) -> dict[str, list[Photo]]:
    photos: dict[str, list[Photo]] = {listing.name: [] for listing in listings}
    for (listing, photo), fact in zip(_placed(listings), facts, strict=True):
        if fact.is_readable:
            photos[listing.name].append(photo)
    return photos


def _symptoms(
    listings: Sequence[Listing], facts: Sequence[PhotoFacts], texts: Mapping[str, Text]
) -> dict[str, list[Symptom]]:
    """All that shows at single places, by split."""
    symptoms = {
        listing.name: [*listing.symptoms, *_shared_ids(listing, listings), *texts[listing.name].symptoms]
        for listing in listings
    }
    for name, symptom in (*_photo_symptoms(listings, facts), *_twin_symptoms(listings, facts)):
        symptoms[name].append(symptom)
    return symptoms


def _photo_symptoms(listings: Sequence[Listing], facts: Sequence[PhotoFacts]) -> Iterator[tuple[str, Symptom]]:
    for (listing, photo), fact in zip(_placed(listings), facts, strict=True):
        for code, detail in fact.symptoms:
            yield listing.name, (code, f"{listing.place(photo)}: {detail}" if detail else listing.place(photo))


def _twin_symptoms(listings: Sequence[Listing], facts: Sequence[PhotoFacts]) -> Iterator[tuple[str, Symptom]]:
    placed = _placed(listings)
    for twin in find_twins(facts, [listing.role for listing, _ in placed]):
        (listing, photo), (other, first) = placed[twin.later], placed[twin.earlier]
        code = TWIN_CODES[listing.role != other.role, twin.is_exact]
        yield listing.name, (code, f"{listing.place(photo)} and {other.place(first)}")


def _findings_of_figures(figures: SplitNumbers) -> Iterator[Finding]:
    unusable = figures.photos_listed - figures.photos_usable
    if not figures.photos_usable:
        yield finding("no_usable_photo", figures.split, figures.photos_listed)
    elif unusable > MUCH * figures.photos_listed:
        yield finding("many_unusable_photos", figures.split, unusable)
    if figures.unknown_words > MUCH * figures.words:
        yield finding("many_unknown_words", figures.split, figures.unknown_words)
    if figures.cut_captions > MUCH * figures.captions:
        yield finding("many_cut_captions", figures.split, figures.cut_captions)


def _findings_of_words(listing: Listing, text: Text, vocabulary: Vocabulary, examples: int) -> Iterator[Finding]:
    uneven = {count: photos for count, photos in text.photos_by_captions.items() if count != CAPTIONS_PER_PHOTO}
    if uneven:
        shown = [f"{photos:,} with {count}" for count, photos in sorted(text.photos_by_captions.items())]
        yield finding("uneven_captions", listing.name, sum(uneven.values()), shown[:examples])
    unknown = unknown_words(text, vocabulary)
    if unknown and listing.role == "val":
        shown = [f"{word!r}, {count} times" for word, count in unknown.most_common(examples)]
        yield finding("unknown_validation_words", listing.name, len(unknown), shown)
