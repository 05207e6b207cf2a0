"""Graphs cut in two, so that each part can be computed in the precision that it needs."""

from typing import Any, NamedTuple

import numpy as np
import openvino
from openvino import opset13 as opset


class Parts(NamedTuple):
    """The first output of `first` is the only input of `rest`."""

    first: Any
    rest: Any


def cut_at_words(decoder: Any) -> Parts:
    """The decoder up to what its output layer takes, (B, K, H), its first output; and from there to the best words."""
    log_probs, ids, *others = (output.get_node().input_value(0) for output in decoder.outputs)
    layer = log_probs.get_node()
    while layer.get_type_name() != "MatMul":
        layer = layer.input_value(0).get_node()
    output = layer.input_value(0)
    taken = opset.parameter(output.get_partial_shape(), np.float32)
    layer.input(0).replace_source_output(taken.output(0))
    return Parts(openvino.Model([output, *others], decoder.get_parameters()), openvino.Model([log_probs, ids], [taken]))


def cut_encoder(encoder: Any, share: float) -> Parts:
    """The encoder cut where a single array passes, with about `share` of its convolutions in the first part."""
    operations = _computed(encoder)
    places = {operation.get_friendly_name(): i for i, operation in enumerate(operations)}
    convolutions = [i for i, operation in enumerate(operations) if "Convolution" in operation.get_type_name()]
    wanted = convolutions[min(int(share * len(convolutions)), len(convolutions) - 1)]
    until: dict[str, int] = {}
    """The last operation that takes what an operation gives."""
    for i, operation in enumerate(operations):
        until |= {name: i for name in _sources(operation) if name in places}
    narrow = [
        (abs(i - wanted), going[0])
        for i in range(1, len(operations))
        if len(going := [name for name, last in until.items() if places[name] < i <= last]) == 1
    ]
    passed = operations[places[min(narrow)[1]]].output(0)
    taken = opset.parameter(passed.get_partial_shape(), np.float32)
    for target in list(passed.get_target_inputs()):
        target.replace_source_output(taken.output(0))
    given = [result.input_value(0) for result in encoder.get_results()]
    return Parts(openvino.Model([passed], encoder.get_parameters()), openvino.Model(given, [taken]))


def convolutions_of(model: Any) -> list[Any]:
    """The operations that convolve, in order."""
    return [operation for operation in model.get_ordered_ops() if "Convolution" in operation.get_type_name()]


def _computed(model: Any) -> list[Any]:
    """The operations that depend on an input, in order."""
    found: dict[str, Any] = {}
    for operation in model.get_ordered_ops():
        if operation.get_type_name() == "Parameter" or any(name in found for name in _sources(operation)):
            found[operation.get_friendly_name()] = operation
    return list(found.values())


def _sources(operation: Any) -> list[str]:
    return [taken.get_source_output().get_node().get_friendly_name() for taken in operation.inputs()]
