"""The golden example: a drawn picture and the caption that every engine and precision gives it by a clear margin."""

import dataclasses
import logging
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from shared.bundle import Bundle, Golden
from shared.captioner import REDUCED_TOLERANCE, Candidate, Captioner
from shared.engine import EngineError
from shared.engine_loading import load_engine
from shared.image import to_array
from trainer.drawing import draw_scene

GOLDEN_SIZE = 256
DRAWINGS, AT_A_TIME = 256, 32
PRECISIONS = (
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("torch", "fp32"),
    ("torch", "bf16"),
)

logger = logging.getLogger(__name__)


def choose_golden(bundle: Bundle, path: Path) -> Golden:
    """Draw pictures; keep one that every precision agrees on: of some that are drawn at a time, the one with the widest
    margin over its second caption.
    """
    captioners = list(_every_precision(bundle))
    for begin in range(0, DRAWINGS, AT_A_TIME):
        drawn = [draw_scene(random.Random(begin + i), GOLDEN_SIZE)[0] for i in range(AT_A_TIME)]
        answers = [_two_best(captioner, drawn) for captioner in captioners]
        margins = [_margin([answer[i] for answer in answers]) for i in range(AT_A_TIME)]
        chosen = max(range(AT_A_TIME), key=margins.__getitem__)
        if margins[chosen] > 0:
            drawn[chosen].save(path)
            best = answers[0][chosen][0]
            return Golden(path.name, best.caption, best.log_probability)
    raise ValueError(f"none of {DRAWINGS} drawn pictures gets the same caption in every precision; train longer")


def _margin(answers: list[tuple[Candidate, ...]]) -> float:
    """The smallest lead of the best caption; 0 where precisions disagree on it or, clearly, on its log-probability.

    A search with one beam knows no second caption: there the surest one leads.
    """
    reference = answers[0][0]
    for best, *_ in answers:
        if best.words != reference.words:
            return 0.0
        if abs(best.log_probability - reference.log_probability) > REDUCED_TOLERANCE / 2:
            return 0.0
    if any(len(found) < 2 for found in answers):
        return math.exp(reference.log_probability)
    return min(best.log_probability - second.log_probability for best, second, *_ in answers)


def _every_precision(bundle: Bundle) -> Iterator[Captioner]:
    """The bundle on every engine and precision that this machine has, OpenVINO in fp32 first."""
    for engine, precision in PRECISIONS:
        try:
            yield Captioner(bundle, load_engine(engine, bundle, precision=precision))
        except EngineError as error:
            logger.info("golden example without %s in %s: %s", engine, precision, error)


def _two_best(captioner: Captioner, drawn: Sequence[Image.Image]) -> list[tuple[Candidate, ...]]:
    bundle = captioner.bundle
    images = [to_array(image, bundle.preprocessing) for image in drawn]
    found = captioner.caption(images, [dataclasses.replace(bundle.decode, n_best=2)] * len(images))
    return [caption.candidates for caption in found if caption]
