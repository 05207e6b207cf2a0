"""Scores as papers report them: COCO's metrics, on captions that the model said by itself."""

import logging
import shutil
from collections.abc import Mapping, Sequence

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge

from shared.bundle import DecodeOptions
from shared.captioner import Captioner
from shared.image import InvalidImageError
from shared.vocabulary import tokenize
from trainer.coco import Photo, read_photo

logger = logging.getLogger(__name__)


def score(
    references: Mapping[int, Sequence[str]], hypotheses: Mapping[int, str], *, meteor: bool = False
) -> dict[str, float]:
    """BLEU-1..4, ROUGE-L and CIDEr-D, and METEOR (which needs Java) if asked for; all times 100.

    Every image of `references` needs a hypothesis. CIDEr-D takes its document frequencies from these references, as
    COCO's evaluation does, so scores of different splits do not compare.
    """
    if set(references) != set(hypotheses):
        raise ValueError(
            f"{len(references)} images have references, {len(hypotheses)} have captions; they must be the same"
        )
    said = {image_id: [" ".join(tokenize(text))] for image_id, text in hypotheses.items()}
    right = {image_id: [" ".join(tokenize(text)) for text in references[image_id]] for image_id in said}
    bleu, _ = Bleu(4).compute_score(right, said, verbose=0)
    scores = {f"BLEU-{n}": value for n, value in enumerate(bleu, start=1)}
    if meteor:
        scores["METEOR"] = _meteor(right, said)
    scores["ROUGE-L"], _ = Rouge().compute_score(right, said)
    scores["CIDEr-D"], _ = Cider().compute_score(right, said)
    return {name: 100 * float(value) for name, value in scores.items()}


def has_java() -> bool:
    return shutil.which("java") is not None


def _meteor(references: dict[int, list[str]], hypotheses: dict[int, list[str]]) -> float:
    scorer = Meteor()
    try:
        return float(scorer.compute_score(references, hypotheses)[0])
    finally:
        process = scorer.meteor_p
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def caption_photos(
    captioner: Captioner, photos: Sequence[Photo], options: DecodeOptions, *, batch_size: int = 16
) -> dict[int, str]:
    """What the model says of each photo, from the file on; a photo that cannot be decoded gets the empty caption."""
    said: dict[int, str] = {}
    for begin in range(0, len(photos), batch_size):
        readable = {}
        for photo in photos[begin : begin + batch_size]:
            try:
                readable[photo.image_id] = read_photo(photo.path, captioner.bundle.preprocessing)
            except InvalidImageError as error:
                logger.warning("%s: %s", photo.path, error)
                said[photo.image_id] = ""
        captions = captioner.caption(list(readable.values()), [options] * len(readable)) if readable else []
        said |= {image_id: c.caption if c else "" for image_id, c in zip(readable, captions, strict=True)}
    return said


def references_of(photos: Sequence[Photo]) -> dict[int, Sequence[str]]:
    return {photo.image_id: photo.captions for photo in photos}
