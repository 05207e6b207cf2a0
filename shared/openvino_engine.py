"""The network as two OpenVINO graphs: what a CPU serves from, without torch."""

from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from shared.beam_search import Arrays, Step
from shared.bundle import Bundle, BundleError
from shared.engine import EngineError
from shared.openvino_graphs import cut_at_words, cut_encoder

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
ENCODER, DECODER = "encoder.xml", "decoder.xml"
PRECISE_SHARE = 0.75
"""Of the encoder's convolutions, the first ones, that are computed in full. EfficientNet-Lite's features err by 7 % in
bf16, and a sixth of all captions with them; so they err by 1.4 %, and one caption in 25 comes out in other words."""


class OpenVINOEngine:
    """One request object per part of a graph; the arrays it returns are its caller's.

    Below full precision the encoder's first part stays in it, and so does the weighing of words: a log-probability near
    -4 has two digits in bf16.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, encoder: Any, decoder: Any, *, precision: str, threads: int = 0) -> None:
        self.precision = precision
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            # Where weights have 8 bits OpenVINO would round activations to 8 bits as well, in fp32 too.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        }
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        core = openvino.Core()

        def compiled(graph: Any, precision: str) -> Any:
            hint = {"INFERENCE_PRECISION_HINT": PRECISIONS[precision]}
            return core.compile_model(graph, "CPU", {**config, **hint}).create_infer_request()

        if precision == "fp32":
            self._encoder, self._decoder, self._words = (
                [compiled(encoder, precision)],
                compiled(decoder, precision),
                None,
            )
            return
        first, rest = cut_encoder(encoder, PRECISE_SHARE)
        decoder, words = cut_at_words(decoder)
        self._encoder = [compiled(first, "fp32"), compiled(rest, precision)]
        self._decoder, self._words = compiled(decoder, precision), compiled(words, "fp32")

    def encode(self, images: NDArray[np.uint8]) -> Arrays:
        arrays = [images]
        for part in self._encoder:
            arrays = list(part.infer(arrays, share_inputs=True).values())
        return tuple(arrays)

    def start(self, features: Arrays, beam_size: int) -> Arrays:
        *_, hidden, cell = features
        return np.repeat(hidden[:, None], beam_size, axis=1), np.repeat(cell[:, None], beam_size, axis=1)

    def step(self, features: Arrays, words: NDArray[np.int64], state: Arrays) -> Step:
        values, keys, pooled, *_ = features
        said = list(self._decoder.infer([values, keys, pooled, words, *state], share_inputs=True).values())
        if self._words:
            said[:1] = self._words.infer(said[:1], share_inputs=True).values()
        log_probs, ids, attention, *after = said
        return Step(log_probs, ids, attention, tuple(after))


def load_openvino_engine(bundle: Bundle, *, precision: str = "auto", threads: int = 0) -> OpenVINOEngine:
    """bf16 where the processor computes in it, else fp32, unless `precision` says otherwise."""
    if precision == "auto":
        precision = "bf16" if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "fp32"
    if precision not in PRECISIONS:
        raise EngineError(f"unknown precision {precision!r}; the engine 'openvino' knows {', '.join(PRECISIONS)}")
    try:
        core = openvino.Core()
        core.set_property({"ENABLE_MMAP": False})  # a mapped file that is overwritten takes the process with it
        encoder, decoder = (core.read_model(bundle.path / name) for name in (ENCODER, DECODER))
        return OpenVINOEngine(encoder, decoder, precision=precision, threads=threads)
    except RuntimeError as error:
        raise BundleError(
            f"{bundle.path} holds no graphs that OpenVINO can run: {str(error).splitlines()[-1]}"
        ) from error
