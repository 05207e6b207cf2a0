from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray

from shared.bundle import Bundle
from shared.openvino_engine import DECODER, ENCODER, OpenVINOEngine, cut_graphs
from shared.openvino_graphs import cut_at_words, cut_encoder

Arrays = list[NDArray[Any]]


def run(model: Any, arrays: Arrays) -> Arrays:
    return list(openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(arrays).values())


def images(bundle: Path) -> NDArray[np.uint8]:
    size = Bundle.load(bundle).preprocessing.size
    return np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)


def convolutions(model: Any) -> int:
    return sum("Convolution" in operation.get_type_name() for operation in model.get_ops())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.75, 1.0])
def test_the_parts_of_an_encoder_compute_what_the_whole_does(tiny_bundle: Path, share: float) -> None:
    whole = openvino.Core().read_model(tiny_bundle / ENCODER)
    expected, count = run(whole, [images(tiny_bundle)]), convolutions(whole)
    first, rest = cut_encoder(whole, share)
    assert convolutions(first) == pytest.approx(share * count, abs=3)
    assert convolutions(first) + convolutions(rest) == count
    for part, array in zip(run(rest, run(first, [images(tiny_bundle)])), expected, strict=True):
        np.testing.assert_allclose(part, array, atol=1e-4)


def test_the_parts_of_a_decoder_compute_what_the_whole_does(tiny_bundle: Path) -> None:
    encoder, decoder = (openvino.Core().read_model(tiny_bundle / name) for name in (ENCODER, DECODER))
    values, keys, pooled, *memory = run(encoder, [images(tiny_bundle)])
    state = [np.repeat(part[:, None], 3, axis=1) for part in memory]
    taken = [values, keys, pooled, np.ones((2, 3), np.int64), *state]
    log_probs, ids, *others = run(decoder, taken)
    thinking, weighing = cut_at_words(openvino.Core().read_model(tiny_bundle / DECODER))
    output, *same = run(thinking, taken)
    found = run(weighing, [output])
    np.testing.assert_allclose(found[0], log_probs, atol=1e-4)
    np.testing.assert_array_equal(found[1], ids)
    for part, array in zip(same, others, strict=True):
        np.testing.assert_allclose(part, array, atol=1e-4)


def test_in_bf16_log_probabilities_keep_their_digits(tiny_bundle: Path) -> None:
    encoder, decoder = (openvino.Core().read_model(tiny_bundle / name) for name in (ENCODER, DECODER))
    engine = OpenVINOEngine(cut_graphs(encoder, decoder, "bf16"))
    features = engine.encode(images(tiny_bundle))
    step = engine.step(features, np.ones((2, 3), np.int64), engine.start(features, 3))
    told = step.log_probs[np.isfinite(step.log_probs)]
    assert (told.view(np.uint32) & 0xFFFF).any(), "what was rounded to bf16 ends in 16 zero bits"
