"""The network as two OpenVINO graphs: what a CPU serves from, without torch."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

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


class Part(NamedTuple):
    graph: Any
    precision: str
    """Of its arithmetic; sums and weights may have other ones."""


class Graphs(NamedTuple):
    """A bundle's two graphs, cut into the parts that are compiled. Engines of the same graphs share their numbers."""

    precision: str
    encoder: tuple[Part, ...]
    once: Part | None
    decoder: Part
    words: Part | None


def cut_graphs(encoder: Any, decoder: Any, precision: str) -> Graphs:
    """In bf16 the encoder's first part stays in fp32; in int8 the encoder comes quantized. In both the decoder is
    computed in bf16 where the processor has it, but for the weighing of words: a log-probability near -4 has two digits
    in bf16.

    The decoder is used up, and in bf16 the encoder.
    """
    parts: tuple[Part, ...] = (Part(encoder, "fp32"),)
    if precision == "fp32":
        return Graphs(precision, parts, None, Part(decoder, "fp32"), None)
    if precision == "bf16":
        first, rest = cut_encoder(encoder, PRECISE_SHARE)
        parts = Part(first, "fp32"), Part(rest, "bf16")
    once, each = split_step(decoder)
    if precision == "int8" and not computes("BF16"):
        return Graphs(precision, parts, Part(once, "fp32"), Part(each, "fp32"), None)
    thinking, words = cut_at_words(each)
    return Graphs(precision, parts, Part(once, "fp32"), Part(thinking, "bf16"), Part(words, "fp32"))


class OpenVINOEngine:
    """One request object per part of a graph; the arrays it returns are its caller's."""

    name = "openvino"
    device = "cpu"

    def __init__(self, graphs: Graphs, *, threads: int = 0) -> None:
        self.precision = graphs.precision
        # Where weights have 8 bits, OpenVINO can round activations to 8 bits as well, so many with one scale.
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(ROUNDED_TOGETHER if graphs.precision == "int8" else 0),
        }
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        if threads == 1:
            config["NUM_STREAMS"] = "0"  # the thread that asks does the work: as fast, and no thread is made for it
        core = openvino.Core()

        def compiled(part: Part) -> Any:
            hint = {"INFERENCE_PRECISION_HINT": HINTS[part.precision]}
            return core.compile_model(part.graph, "CPU", config | hint).create_infer_request()

        self._encoder = [compiled(part) for part in graphs.encoder]
        self._once = graphs.once and compiled(graphs.once)
        self._decoder = compiled(graphs.decoder)
        self._words = graphs.words and compiled(graphs.words)

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


def openvino_loader(bundle: Bundle, *, precision: str = "auto") -> Callable[..., OpenVINOEngine]:
    """Makes engines with so many `threads`, which share the bundle's numbers.

    int8 where the bundle has such an encoder, else bf16 where the processor computes in it, else fp32, unless
    `precision` says otherwise. Raises EngineError for one that is not to be had; it and the loader BundleError.
    """
    has_int8 = (bundle.path / INT8_ENCODER).exists()
    if precision == "auto":
        precision = "int8" if has_int8 else "bf16" if computes("BF16") else "fp32"
    if precision not in PRECISIONS:
        raise EngineError(f"unknown precision {precision!r}; the engine 'openvino' knows {', '.join(PRECISIONS)}")
    if precision == "int8" and not has_int8:
        raise EngineError(f"{bundle.path} has no {INT8_ENCODER}; ask for fp32 or bf16, or for 'auto'")
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # a mapped file that is overwritten takes the process with it
    with _graphs_of(bundle):
        encoder = core.read_model(bundle.path / (INT8_ENCODER if precision == "int8" else ENCODER))
        graphs = cut_graphs(encoder, core.read_model(bundle.path / DECODER), precision)

    def load(threads: int) -> OpenVINOEngine:
        with _graphs_of(bundle):
            return OpenVINOEngine(graphs, threads=threads)

    return load


@contextlib.contextmanager
def _graphs_of(bundle: Bundle) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise BundleError(
            f"{bundle.path} holds no graphs that OpenVINO can run: {str(error).splitlines()[-1]}"
        ) from error


def computes(capability: str) -> bool:
    """Whether this processor has it: BF16, say."""
    return capability in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
