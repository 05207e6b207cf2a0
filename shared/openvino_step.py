"""The decoder's step without what it would compute anew at each word though nothing of it has changed.

Two identities of the graph, neither an approximation:

    W [a; b; c] = Wa a + Wb b + Wc c    where b is the picture, its part is computed once a picture; where c is a word,
                                        its part is looked up in a table of all words
    tanh(k + q) = 1 - 2 / (1 + exp 2k exp 2q)    exp 2k is computed once a picture, and softmax ignores the 1

What is not recognised stays as it is.
"""

from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as opset

LARGEST_EXPONENT = 80.0
"""Products of two such powers are finite, and above zero, in bf16 as well; tanh is 1 long before."""


class SplitStep(NamedTuple):
    """`once` makes keys and pooled of the pictures into what `each` takes in their place."""

    once: Any
    each: Any


def split_step(decoder: Any) -> SplitStep:
    """The decoder itself is used up."""
    given = {parameter.get_friendly_name(): parameter for parameter in decoder.get_parameters()}
    keys, pooled = (opset.parameter(given[name].get_partial_shape(), np.float32) for name in ("keys", "pooled"))
    once = [keys.output(0), pooled.output(0)]
    for operation in decoder.get_ordered_ops():
        if _compares(operation, given["keys"]):
            once[0] = _power_of(keys)
            _compare_powers(operation)
        elif any(_is_word(part) or _shows(part, given["pooled"]) for part in _joined(operation)):
            split = _split(operation, given["pooled"])
            _replace(operation, split.layer)
            if split.of_pooled is not None:
                once[1] = opset.matmul(pooled, split.of_pooled, False, True).output(0)
                given["pooled"] = split.pooled
    outputs = [result.input_value(0) for result in decoder.get_results()]
    return SplitStep(openvino.Model(once, [keys, pooled]), openvino.Model(outputs, list(given.values())))


class _Split(NamedTuple):
    """A layer over joined inputs as a sum."""

    layer: Any
    pooled: Any = None
    """What it takes of the picture instead, if it takes anything, ..."""
    of_pooled: NDArray[np.float32] | None = None
    """... and the matrix (outputs, inputs) that makes it."""


def _split(layer: Any, pooled: Any) -> _Split:
    weights = layer.input_value(1)
    outputs = weights.get_partial_shape()[0].get_length()
    terms, taken, of_pooled, start = [], None, None, 0
    for part in _joined(layer):
        end = start + part.get_partial_shape()[-1].get_length()
        if _is_word(part):
            terms.append(_looked_up(part.get_node(), _numbers(weights)[:, start:end]))
        elif _shows(part, pooled):
            taken, of_pooled = opset.parameter([-1, outputs], np.float32), _numbers(weights)[:, start:end].copy()
            terms.append(opset.unsqueeze(taken, 1))
        else:
            terms.append(opset.matmul(part, _columns(weights, start, end), False, True))
        start = end
    return _Split(opset.reshape(reduce(opset.add, terms), [-1, outputs], False), taken, of_pooled)


def _joined(operation: Any) -> list[Any]:
    """What a layer takes side by side, each (B, K, numbers); nothing where it takes one thing."""
    if operation.get_type_name() != "MatMul" or operation.input_value(0).get_node().get_type_name() != "Reshape":
        return []
    source = operation.input_value(0).get_node().input_value(0).get_node()
    return source.input_values() if source.get_type_name() == "Concat" else []


def _is_word(part: Any) -> bool:
    """A row of a table, by the number of a word."""
    return part.get_node().get_type_name() == "Gather" and _is_constant(part.get_node().input_value(0))


def _shows(part: Any, pooled: Any) -> bool:
    """The picture, once for each beam."""
    node = part.get_node()
    return node.get_type_name() == "Broadcast" and _is_unsqueezed(node.input_value(0), pooled)


def _looked_up(embedding: Any, weights: NDArray[np.float32]) -> Any:
    table, words, axis = embedding.input_values()
    rows = (_numbers(table) @ weights.T).astype(np.float16)
    return opset.gather(opset.convert(opset.constant(rows), np.float32), words, axis)


def _compares(tanh: Any, keys: Any) -> bool:
    """The tanh(keys + query) of additive attention, which one layer takes."""
    if tanh.get_type_name() != "Tanh" or tanh.input_value(0).get_node().get_type_name() != "Add":
        return False
    takers = [taker.get_node().get_type_name() for taker in tanh.output(0).get_target_inputs()]
    return takers == ["MatMul"] and _is_unsqueezed(tanh.input_value(0).get_node().input_value(0), keys)


def _compare_powers(tanh: Any) -> None:
    key_powers, query = tanh.input_value(0).get_node().input_values()
    (taker,) = tanh.output(0).get_target_inputs()
    layer = taker.get_node()
    fraction = opset.power(opset.add(opset.multiply(key_powers, _power_of(query)), np.float32(1)), np.float32(-1))
    _replace(layer, opset.matmul(fraction, -2 * _numbers(layer.input_value(1)), False, True))


def _power_of(numbers: Any) -> Any:
    """exp 2x."""
    return opset.exp(opset.clamp(opset.multiply(numbers, np.float32(2)), -LARGEST_EXPONENT, LARGEST_EXPONENT)).output(0)


def _replace(operation: Any, by: Any) -> None:
    for taker in list(operation.output(0).get_target_inputs()):
        taker.replace_source_output(by.output(0))


def _is_unsqueezed(output: Any, parameter: Any) -> bool:
    node = output.get_node()
    return node.get_type_name() == "Unsqueeze" and node.input_value(0).get_node() == parameter


def _is_constant(output: Any) -> bool:
    node = output.get_node()
    return node.get_type_name() == "Constant" or (
        node.get_type_name() in ("Convert", "Multiply") and all(map(_is_constant, node.input_values()))
    )


def _numbers(constant: Any) -> NDArray[np.float32]:
    """Whatever it is stored as: codes and scales, or half precision."""
    node = constant.get_node()
    match node.get_type_name():
        case "Multiply":
            codes, scales = map(_numbers, node.input_values())
            return codes * scales
        case "Convert":
            return _numbers(node.input_value(0))
        case _:
            return node.data.astype(np.float32)


def _columns(weights: Any, start: int, end: int) -> Any:
    """A matrix (outputs, inputs) of some inputs alone, stored as it was."""
    node = weights.get_node()
    match node.get_type_name():
        case "Multiply":
            codes, scales = node.input_values()
            return opset.multiply(_columns(codes, start, end), scales)
        case "Convert":
            return opset.convert(_columns(node.input_value(0), start, end), node.get_element_type())
        case _:
            return opset.constant(node.data[:, start:end].copy())
