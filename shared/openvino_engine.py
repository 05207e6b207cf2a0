"""The network as two OpenVINO graphs: what a CPU serves from, without torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from shared.beam_search import Arrays, Step
from shared.bundle import Bundle, BundleError
from shared.engine import EngineError
from shared.openvino_graphs import cut_at_words, cut_encoder
from shared.openvino_step import split_step

PRECISIONS = ("fp32", "bf16", "int8")
HINTS = {"fp32": "f32", "bf16": "bf16"}
ENCODER, INT8_ENCODER, DECODER = "encoder.xml", "encoder_int8.xml", "decoder.xml"
PRECISE_SHARE = 0.75
"""Of the encoder's convolutions, the first ones, that are computed in full. EfficientNet-Lite's features err by 7 % in
bf16, and a sixth of all captions with them; so they err by 1.4 %, and one caption in 25 comes out in other words."""

ROUNDED_TOGETHER = 128
"""Of the decoder's activations in int8. On the default model it costs nothing, and a step takes two thirds of its time;
one caption in 40 comes out in other words."""


class OpenVINOEngine:
    """One request object per part of a graph; the arrays it returns are its caller's.

    In bf16 the encoder's first part stays in fp32; in int8 the encoder comes quantized. In both the decoder is computed
    in bf16 where the processor has it, but for the weighing of words: a log-probability near -4 has two digits in bf16.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, encoder: Any, decoder: Any, *, precision: str, threads: int = 0) -> None:
        self.precision = precision
        config = {"PERFORMANCE_HINT": "LATENCY"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        if threads == 1:
            config["NUM_STREAMS"] = "0"  # the thread that asks does the work: as fast, and no thread is made for it
        core = openvino.Core()

        # Where weights have 8 bits, OpenVINO can round activations to 8 bits as well, so many with one scale.
        group = ROUNDED_TOGETHER if precision == "int8" else 0

        def compiled(graph: Any, precision: str) -> Any:
            hint = {"INFERENCE_PRECISION_HINT": HINTS[precision], "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(group)}
            return core.compile_model(graph, "CPU", {**config, **hint}).create_infer_request()

        if precision == "bf16":
            first, rest = cut_encoder(encoder, PRECISE_SHARE)
            self._encoder = [compiled(first, "fp32"), compiled(rest, "bf16")]
        else:
            self._encoder = [compiled(encoder, "fp32")]
        self._once = None
        if precision != "fp32":
            once, decoder = split_step(decoder)
            self._once = compiled(once, "fp32")
        if precision == "bf16" or (precision == "int8" and computes("BF16")):
            decoder, words = cut_at_words(decoder)
            self._decoder, self._words = compiled(decoder, "bf16"), compiled(words, "fp32")
        else:
            self._decoder, self._words = compiled(decoder, "fp32"), None

    def encode(self, images: NDArray[np.uint8]) -> Arrays:
        arrays: list[NDArray[Any]] = [images]
        for part in self._encoder:
            arrays = _computed(part, arrays)
        if self._once:
            arrays[1:3] = _computed(self._once, arrays[1:3])
        return tuple(arrays)

    def start(self, features: Arrays, beam_size: int) -> Arrays:
        *_, hidden, cell = features
        return np.repeat(hidden[:, None], beam_size, axis=1), np.repeat(cell[:, None], beam_size, axis=1)

    def step(self, features: Arrays, words: NDArray[np.int64], state: Arrays) -> Step:
        values, keys, pooled, *_ = features
        said = _computed(self._decoder, [values, keys, pooled, words, *state])
        if self._words:
            self._words.set_input_tensor(0, self._decoder.get_output_tensor(0))
            said[:1] = self._words.infer().values()
        log_probs, ids, attention, *after = said
        return Step(log_probs, ids, attention, tuple(after))


def _computed(request: Any, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """The outputs, copied. Handed to `infer` the arrays would cost a picture alone a sixth of each step, in Python."""
    kept = [np.ascontiguousarray(array) for array in arrays]  # a tensor does not keep the array that it shows
    for place, array in enumerate(kept):
        request.set_input_tensor(place, openvino.Tensor(array, shared_memory=True))
    return list(request.infer().values())


def load_openvino_engine(bundle: Bundle, *, precision: str = "auto", threads: int = 0) -> OpenVINOEngine:
    """int8 where the bundle has such an encoder, else bf16 where the processor computes in it, else fp32.

    Unless `precision` says otherwise. Raises EngineError for one that is not to be had.
    """
    has_int8 = (bundle.path / INT8_ENCODER).exists()
    if precision == "auto":
        precision = "int8" if has_int8 else "bf16" if computes("BF16") else "fp32"
    if precision not in PRECISIONS:
        raise EngineError(f"unknown precision {precision!r}; the engine 'openvino' knows {', '.join(PRECISIONS)}")
    if precision == "int8" and not has_int8:
        raise EngineError(f"{bundle.path} has no {INT8_ENCODER}; ask for fp32 or bf16, or for 'auto'")
    names = (INT8_ENCODER if precision == "int8" else ENCODER, DECODER)
    try:
        core = openvino.Core()
        core.set_property({"ENABLE_MMAP": False})  # a mapped file that is overwritten takes the process with it
        encoder, decoder = (core.read_model(bundle.path / name) for name in names)
        return OpenVINOEngine(encoder, decoder, precision=precision, threads=threads)
    except RuntimeError as error:
        raise BundleError(
            f"{bundle.path} holds no graphs that OpenVINO can run: {str(error).splitlines()[-1]}"
        ) from error


def computes(capability: str) -> bool:
    """Whether this processor has it: BF16, say."""
    return capability in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
