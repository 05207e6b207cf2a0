"""What a trained model says of its photos, word by word, and which of them are worth a look: best, worst and any."""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pycocoevalcap.cider.cider import Cider
from tqdm import tqdm

from shared.beam_search import Hypothesis, beam_search
from shared.bundle import DecodeOptions
from shared.captioner import caption_rules
from shared.image import InvalidImageError, Preprocessing
from shared.model import CaptionModel
from shared.torch_engine import TorchEngine
from shared.vocabulary import Vocabulary, tokenize
from trainer.coco import Photo, read_photo
from trainer.export import compile_encoder

BATCH_SIZE = 16
LONGEST_SPLIT = 5000
"""Photos that are captioned at most."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Captioned:
    """A photo and the best caption that the model finds for it."""

    photo: Photo
    caption: str
    words: tuple[str, ...]
    probabilities: tuple[float, ...]
    """Of each word, after those before it."""
    log_prob: float
    attention: NDArray[np.float16]
    """(words, rows, columns): where the model looked as it said each word."""
    cider: float = 0.0
    """CIDEr-D times 100, of this photo alone."""


@dataclass(frozen=True)
class Gallery:
    """The photos to show, and of how many they were chosen."""

    split: str
    best: tuple[Captioned, ...]
    worst: tuple[Captioned, ...]
    spread: tuple[Captioned, ...]
    total: int
    cider: float
    """CIDEr-D times 100 of all captioned photos."""


def make_gallery(
    model: CaptionModel,
    photos: Sequence[Photo],
    vocabulary: Vocabulary,
    preprocessing: Preprocessing,
    options: DecodeOptions,
    *,
    split: str,
    count: int,
) -> Gallery:
    """Caption all photos (of a large split the first), then choose `count` best, as many worst and half as many any."""
    if len(photos) > LONGEST_SPLIT:
        logger.warning("%s has %d photos; only the first %d are captioned", split, len(photos), LONGEST_SPLIT)
    said = caption_with_attention(model, photos[:LONGEST_SPLIT], vocabulary, preprocessing, options)
    if not said:
        raise ValueError(f"no photo of {split} can be decoded, so there is nothing to show; --photos 0 shows none")
    scores = cider_of_each(said)
    said = [dataclasses.replace(item, cider=score) for item, score in zip(said, scores, strict=True)]
    best, worst, spread = choose(scores, count)
    return Gallery(
        split=split,
        best=tuple(said[i] for i in best),
        worst=tuple(said[i] for i in worst),
        spread=tuple(said[i] for i in spread),
        total=len(said),
        cider=sum(scores) / len(scores),
    )


def caption_with_attention(
    model: CaptionModel,
    photos: Sequence[Photo],
    vocabulary: Vocabulary,
    preprocessing: Preprocessing,
    options: DecodeOptions,
) -> list[Captioned]:
    """Every photo that can be decoded, in order, with its caption."""
    engine = TorchEngine(model, device="cuda" if torch.cuda.is_available() else "cpu")
    encode = compile_encoder(model.encoder, preprocessing.size)
    rules = caption_rules(vocabulary, options)
    captioned: list[Captioned] = []
    with tqdm(total=len(photos), unit="photo", desc="captions", disable=None) as progress:
        for begin in range(0, len(photos), BATCH_SIZE):
            batch = photos[begin : begin + BATCH_SIZE]
            if images := _read(batch, preprocessing):
                seen = engine.look(torch.from_numpy(encode(np.stack(list(images.values())))))
                found = beam_search(engine.step, engine.start(seen, options.beam_size), tuple(seen), rules=rules)
                captioned += [_captioned(photo, best[0], vocabulary) for photo, best in zip(images, found, strict=True)]
            progress.update(len(batch))
    return captioned


def _read(photos: Sequence[Photo], preprocessing: Preprocessing) -> dict[Photo, NDArray[np.uint8]]:
    images = {}
    for photo in photos:
        try:
            images[photo] = read_photo(photo.path, preprocessing)
        except InvalidImageError as error:
            logger.warning("%s: %s", photo.path, error)
    return images


def _captioned(photo: Photo, best: Hypothesis, vocabulary: Vocabulary) -> Captioned:
    side = round(best.attention.shape[1] ** 0.5)
    return Captioned(
        photo=photo,
        caption=vocabulary.decode(best.words),
        words=tuple(vocabulary.words[word] for word in best.words),
        probabilities=tuple(float(np.exp(log_prob)) for log_prob in best.word_log_probs),
        log_prob=best.log_prob,
        # a copy: what the hypothesis holds is a view of all that its batch looked at
        attention=best.attention.reshape(len(best.words), side, -1).astype(np.float16),
    )


def cider_of_each(said: Sequence[Captioned]) -> list[float]:
    """CIDEr-D times 100 of each; document frequencies are those of all the references given, as in the evaluation."""
    hypotheses = {i: [" ".join(tokenize(item.caption))] for i, item in enumerate(said)}
    references = {i: [" ".join(tokenize(text)) for text in item.photo.captions] for i, item in enumerate(said)}
    _, scores = Cider().compute_score(references, hypotheses)
    return [100 * float(score) for score in scores]


def choose(scores: Sequence[float], count: int) -> tuple[list[int], list[int], list[int]]:
    """Indices of the best (best first), the worst (worst first), and half as many evenly spread over the others.

    None twice: where there are few, half of them are best and half worst.
    """
    ranked = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    best = ranked[: min(count, -(-len(ranked) // 2))]
    worst = ranked[len(best) :][::-1][:count]
    others = [i for i in range(len(scores)) if i not in {*best, *worst}]
    wanted = min(-(-count // 2), len(others))
    return best, worst, [others[(2 * i + 1) * len(others) // (2 * wanted)] for i in range(wanted)]
