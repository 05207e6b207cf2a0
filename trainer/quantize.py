"""An encoder in 8 bits: NNCF's post-training quantization of a bundle's graph, offered where it costs little.

The first convolutions stay as they are: few channels of a wide range go through them, and a third of the error that
8 bits make in EfficientNet-Lite's features comes from there.
"""

import dataclasses
import logging
import os
import random
from collections.abc import Sequence
from typing import Any

import openvino

from shared.bundle import Bundle, write_bundle
from shared.captioner import Captioner, check_golden
from shared.engine_loading import load_engine
from shared.image import Preprocessing
from shared.openvino_engine import DECODER, ENCODER, INT8_ENCODER, OpenVINOEngine, cut_graphs
from shared.openvino_graphs import convolutions_of
from trainer.card import CARD, with_scores
from trainer.coco import Photo, read_photo
from trainer.evaluate import caption_photos, has_java, references_of, score
from trainer.golden import choose_golden

INT8_COST = 0.5
"""CIDEr-D that an encoder in 8 bits may cost."""
LEFT_ALONE = 6
"""Convolutions, counted from the picture."""
CALIBRATION = 200
"""Photos that tell the range of every layer."""

logger = logging.getLogger(__name__)


def offer_int8(bundle: Bundle, learned: Sequence[Photo], photos: Sequence[Photo], split: str) -> Bundle:
    """Put an encoder in 8 bits into the bundle's folder if it costs less than INT8_COST on the `photos` of `split`.

    `learned` are photos of the training splits, for calibration. The bundle has been scored on `split` in fp32.
    """
    before, core = bundle.metrics[split], openvino.Core()
    graph = quantize_encoder(core.read_model(bundle.path / ENCODER), learned, bundle.preprocessing)
    engine = OpenVINOEngine(cut_graphs(graph, core.read_model(bundle.path / DECODER), "int8"))
    said = caption_photos(Captioner(bundle, engine), photos, bundle.decode)
    scores = score(references_of(photos), said, meteor=has_java())
    cost = before["CIDEr-D"] - scores["CIDEr-D"]
    logger.info("an encoder in 8 bits costs %.2f CIDEr-D; %.1f is allowed", cost, INT8_COST)
    if cost >= INT8_COST:
        return bundle
    openvino.save_model(graph, bundle.path / INT8_ENCODER, compress_to_fp16=False)  # as it was scored
    metrics = {**bundle.metrics, f"{split}, int8": {**scores, "photos": len(photos), "use": before["use"]}}
    golden = choose_golden(bundle, bundle.path / bundle.golden.image)
    card = bundle.path / CARD
    card.write_text(with_scores(card.read_text(), metrics))
    sealed = {field.name: getattr(bundle, field.name) for field in dataclasses.fields(bundle) if field.name != "path"}
    offered = write_bundle(bundle.path, **{**sealed, "metrics": metrics, "golden": golden})
    check_golden(Captioner(offered, load_engine("openvino", offered)))
    return offered


def quantize_encoder(graph: Any, learned: Sequence[Photo], preprocessing: Preprocessing) -> Any:
    """The same graph with 8-bit weights and activations, their ranges from CALIBRATION of the photos."""
    chosen = random.Random(0).sample(list(learned), min(CALIBRATION, len(learned)))
    images = [read_photo(photo.path, preprocessing)[None] for photo in chosen]
    spared = [convolution.get_friendly_name() for convolution in convolutions_of(graph)[:LEFT_ALONE]]
    nncf = _nncf()
    return nncf.quantize(
        graph,
        nncf.Dataset(images),
        preset=nncf.QuantizationPreset.MIXED,  # activations may lie around any middle
        subset_size=len(images),
        ignored_scope=nncf.IgnoredScope(names=spared),
    )


def _nncf() -> Any:
    """Imported where it is used: it takes seconds."""
    os.environ.setdefault("NNCF_CI", "1")  # or it would report its use to its makers
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)  # its own function would set the levels of every handler, too
    return nncf
