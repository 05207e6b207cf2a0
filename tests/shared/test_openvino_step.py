"""The step with what is computed once a picture taken out of it, against the whole one, for every decoder."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openvino
import pytest
import torch
from numpy.typing import NDArray

from shared.decoder import CORES
from shared.openvino_engine import DECODER
from shared.openvino_step import split_step
from tests.shared.small_models import EMBED, HIDDEN, WORDS, made
from trainer.export import export_graphs, round_weights

Arrays = list[NDArray[Any]]
PICTURES, BEAMS = 2, 3


class Case(NamedTuple):
    kind: str
    path: Path


@pytest.fixture(scope="module", params=[(kind, bits) for kind in CORES for bits in (8, 16)], ids=str)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    kind, bits = request.param
    model, folder = made(kind), tmp_path_factory.mktemp("graphs")
    model.encoder.backbone = torch.nn.Conv2d(3, model.encoder.num_features, 32, stride=32)
    export_graphs(model, 64, folder, round_weights(model, eight_bit=bits == 8))
    return Case(kind, folder / DECODER)


def read(case: Case) -> Any:
    return openvino.Core().read_model(case.path)


def run(model: Any, arrays: Arrays) -> Arrays:
    exactly = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    return list(openvino.compile_model(model, "CPU", exactly)(arrays).values())


def taken(model: Any) -> Arrays:
    """Numbers for every input of a decoder."""
    dice = np.random.default_rng(0)

    def numbers(shape: Any) -> NDArray[np.float32]:
        sizes = [size.get_length() if size.is_static else None for size in shape]
        free = iter((PICTURES, BEAMS))
        return dice.normal(size=[next(free) if size is None else size for size in sizes]).astype(np.float32)

    values, keys, pooled, _, *state = (numbers(each.get_partial_shape()) for each in model.inputs)
    return [values, keys, pooled, dice.integers(4, WORDS, (PICTURES, BEAMS)), *state]


def said_in_two(model: Any, arrays: Arrays) -> Arrays:
    values, keys, pooled, *others = arrays
    once, each = split_step(model)
    return run(each, [values, *run(once, [keys, pooled]), *others])


def matrices(model: Any) -> int:
    """Numbers of all matrices that are multiplied by."""
    layers = [operation for operation in model.get_ops() if operation.get_type_name() == "MatMul"]
    shapes = [layer.input_value(1).get_partial_shape() for layer in layers]
    return sum(int(np.prod(shape.to_shape())) for shape in shapes if shape.is_static)


def test_both_parts_together_say_what_the_whole_step_says(case: Case) -> None:
    arrays = taken(read(case))
    whole, parts = run(read(case), arrays), said_in_two(read(case), arrays)
    for part, array in zip(parts, whole, strict=True):
        np.testing.assert_allclose(part, array, atol=1e-3)  # the table of words is in half precision


def test_attention_on_huge_numbers_stays_what_it_was(case: Case) -> None:
    values, keys, *others = taken(read(case))
    arrays = [values, 1000 * keys, *others]
    attention, expected = (found[2] for found in (said_in_two(read(case), arrays), run(read(case), arrays)))
    np.testing.assert_allclose(attention, expected, atol=1e-3)


def test_a_step_multiplies_by_nothing_that_belongs_to_the_picture_or_the_last_word(case: Case) -> None:
    whole, part = matrices(read(case)), matrices(split_step(read(case)).each)
    spared = {"show_tell": 0, "show_attend_tell": EMBED, "updown": EMBED + HIDDEN}
    assert whole - part == 4 * HIDDEN * spared[case.kind]


def test_a_step_takes_no_tanh_for_each_cell(case: Case) -> None:
    def of_cells(model: Any) -> int:
        kinds = [op for op in model.get_ops() if op.get_type_name() == "Tanh"]
        return sum(len(op.get_output_partial_shape(0)) == 4 for op in kinds)

    assert of_cells(read(case)) == (case.kind != "show_tell")
    assert of_cells(split_step(read(case)).each) == 0
