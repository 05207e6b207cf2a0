"""Scores as papers report them: COCO's metrics, on captions that the model said by itself.

What is scored is a bundle, which captions the photos, or a file of captions as they are.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from shared.bundle import DecodeOptions, resolve_bundle
from shared.captioner import Captioner, load_captioner
from shared.image import InvalidImageError
from trainer.coco import DataError, Photo, Split, read_photo, read_split, subset_of
from trainer.evaluate.health import caption_health
from trainer.evaluate.leakage import check_leakage
from trainer.evaluate.meteor import has_java as has_java
from trainer.evaluate.metrics import Scores, score_captions
from trainer.evaluate.results import read_results, write_per_image, write_results
from trainer.evaluate.significance import compare
from trainer.evaluate.spice import check_spice

COMPARED = ("CIDEr-D", "BLEU-4")
TOLD_PROBLEMS = 20

logger = logging.getLogger(__name__)


class Said(NamedTuple):
    """Captions by image id, and what the report tells of where they come from."""

    captions: dict[int, str]
    source: dict[str, Any]


def evaluate_split(
    source: Path,
    split: Path,
    *,
    other: Path | None = None,
    engine: str = "openvino",
    precision: str = "auto",
    beam_size: int | None = None,
    subset: str = "all",
    force: bool = False,
    spice: bool = False,
    resamples: int = 1000,
    seed: int = 0,
    captions_file: Path | None = None,
    per_image_file: Path | None = None,
) -> dict[str, Any]:
    """The report on `source`, a bundle, a volume or a file of captions, and on its difference to `other`, another."""
    for path in (source, other):
        if path:
            _check_source(path)
    if spice:
        check_spice()
    whole = _read(split)
    photos = subset_of(whole.photos, subset)

    def captions_of(path: Path) -> Said:
        if path.is_file():
            return _said_in(path, whole.photos, photos)
        return _said_by(path, photos, engine=engine, precision=precision, beam_size=beam_size, force=force)

    said, others = captions_of(source), captions_of(other) if other else None
    if captions_file:
        write_results(captions_file, said.captions)
    scores = _score(photos, said, spice=spice)
    if per_image_file:
        write_per_image(per_image_file, photos, said.captions, scores.per_image)
    report = _figures(scores, said, resamples=resamples, seed=seed)
    report |= {"photos": len(photos), "subset": subset, "problems": len(whole.problems), **said.source}
    if others:
        compared = _compare(scores, others, references_of(photos), resamples=resamples, seed=seed)
        report["compare"] = {"with": str(other), **compared}
    return report


def _check_source(path: Path) -> None:
    if not path.exists():
        raise DataError(f"{path} does not exist; it must be a bundle, a volume, or a file of captions")
    if not path.is_file():
        resolve_bundle(path)


def _read(split: Path) -> Split:
    whole = read_split(split)
    for problem in whole.problems[:TOLD_PROBLEMS]:
        logger.warning("%s", problem)
    if whole.problems:
        logger.warning("%d problems in the data; what they touch is not scored", len(whole.problems))
    return whole


def _said_in(path: Path, images: Sequence[Photo], photos: Sequence[Photo]) -> Said:
    captions = read_results(path, [photo.image_id for photo in images], [photo.image_id for photo in photos])
    return Said(captions, {"leakage": "unknown"})


def _said_by(
    path: Path, photos: Sequence[Photo], *, engine: str, precision: str, beam_size: int | None, force: bool
) -> Said:
    bundle_path = resolve_bundle(path)
    captioner = load_captioner(bundle_path, engine=engine, precision=precision)
    leakage = check_leakage(bundle_path, photos, force=force)
    decode = captioner.bundle.decode
    if beam_size is not None:
        decode = dataclasses.replace(decode, beam_size=beam_size)
    source = {"engine": captioner.engine_name, "precision": captioner.precision, **leakage}
    return Said(caption_photos(captioner, photos, decode), source)


def _score(photos: Sequence[Photo], said: Said, *, spice: bool) -> Scores:
    if not has_java():
        logger.warning("no METEOR: it needs Java, which is not on the PATH")
    return score_captions(references_of(photos), said.captions, meteor=has_java(), spice=spice)


def _figures(scores: Scores, said: Said, *, resamples: int, seed: int) -> dict[str, Any]:
    intervals = scores.intervals(resamples=resamples, seed=seed)
    return {
        **scores.corpus,
        **({"untested": ["SPICE"]} if "SPICE" in scores.corpus else {}),
        "intervals": {name: interval._asdict() for name, interval in intervals.items()},
        "resamples": resamples,
        "seed": seed,
        "health": caption_health(list(said.captions.values())),
    }


def _compare(
    scores: Scores, other: Said, references: Mapping[int, Sequence[str]], *, resamples: int, seed: int
) -> dict[str, Any]:
    others = score_captions(references, other.captions)
    differences = {
        name: compare(scores.metrics[name], others.metrics[name], resamples=resamples, seed=seed)._asdict()
        for name in COMPARED
    }
    return {**other.source, "scores": others.corpus, "differences": differences}


def score(
    references: Mapping[int, Sequence[str]], hypotheses: Mapping[int, str], *, meteor: bool = False
) -> dict[str, float]:
    """BLEU-1..4, ROUGE-L and CIDEr-D, and METEOR (which needs Java) if asked for; all times 100."""
    return score_captions(references, hypotheses, meteor=meteor).corpus


def caption_photos(
    captioner: Captioner, photos: Sequence[Photo], options: DecodeOptions, *, batch_size: int = 16
) -> dict[int, str]:
    """What the model says of each photo, from the file on; a photo that cannot be decoded gets the empty caption."""
    said: dict[int, str] = {}
    with tqdm(total=len(photos), unit="photo", desc="captions", disable=None) as progress:
        for begin in range(0, len(photos), batch_size):
            batch = photos[begin : begin + batch_size]
            readable = {}
            for photo in batch:
                try:
                    readable[photo.image_id] = read_photo(photo.path, captioner.bundle.preprocessing)
                except InvalidImageError as error:
                    logger.warning("%s: %s", photo.path, error)
                    said[photo.image_id] = ""
            captions = captioner.caption(list(readable.values()), [options] * len(readable)) if readable else []
            said |= {image_id: c.caption if c else "" for image_id, c in zip(readable, captions, strict=True)}
            progress.update(len(batch))
    return said


def references_of(photos: Sequence[Photo]) -> dict[int, Sequence[str]]:
    return {photo.image_id: photo.captions for photo in photos}
