"""From torch to OpenVINO: the two graphs that a CPU serves from, and the encoder alone for caching features."""

import copy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from openvino import opset13 as opset
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from shared.model import CaptionModel, EncoderCNN
from shared.openvino_engine import DECODER, ENCODER

INPUTS = ("values", "keys", "pooled", "words", "hidden", "cell")
OUTPUTS = ("log_probs", "ids", "attention", "hidden_after", "cell_after")
EIGHT_BIT_LAYERS = ("attention.query", "attention_lstm", "language_lstm", "lstm", "output")
"""The decoder's matrices that each step reads: nine tenths of its weights."""


class EightBit(NamedTuple):
    """A matrix as whole numbers from -127 to 127 and a scale per row."""

    codes: NDArray[np.int8]  # (rows, columns)
    scales: NDArray[np.float32]  # (rows, 1)


def fold_batch_norms(encoder: EncoderCNN, image_size: int) -> None:
    """Move each batch norm's scale into the convolution before it, in place; the norm keeps the bias.

    OpenVINO does so in any case; done before rounding, both engines compute with the same rounded numbers. A backbone
    whose norms do not follow their convolutions is left as it is.
    """
    folded = copy.deepcopy(encoder).eval()
    convolution: nn.Conv2d | None = None
    for module in folded.modules():
        if isinstance(module, nn.Conv2d):
            convolution = module
        elif isinstance(module, nn.BatchNorm2d) and convolution is not None:
            if convolution.out_channels == module.num_features:
                _fold(convolution, module)
            convolution = None
    images = torch.randint(0, 256, (2, image_size, image_size, 3), dtype=torch.uint8)
    with torch.no_grad():
        before, after = encoder.eval()(images), folded(images)
    if (before - after).abs().max() <= 1e-3 * before.abs().max():
        encoder.load_state_dict(folded.state_dict())


@torch.no_grad()
def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    fused = fuse_conv_bn_eval(convolution, norm)
    assert fused.bias is not None
    convolution.weight.copy_(fused.weight)
    if convolution.bias is not None:
        convolution.bias.zero_()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0 - norm.eps)  # below 1 half precision is twice as fine as above
    norm.weight.fill_(1.0)
    norm.bias.copy_(fused.bias)


def round_weights(model: CaptionModel, *, eight_bit: bool) -> dict[str, EightBit]:
    """Round every weight to half precision, in place, and with `eight_bit` the decoder's large matrices to 8 bits.

    Scales have 4 significant bits, so that code x scale fits a half-precision number exactly: the weights file and the
    8-bit graph then hold the same numbers. Returns the 8-bit matrices by parameter name.
    """
    found: dict[str, EightBit] = {}
    with torch.no_grad():
        for name, parameter in model.decoder.named_parameters():
            if eight_bit and parameter.dim() == 2 and name.startswith(EIGHT_BIT_LAYERS):
                found[name] = _eight_bit(parameter)
                parameter.copy_(torch.from_numpy(found[name].codes * found[name].scales))
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())
    return found


def _eight_bit(matrix: Tensor) -> EightBit:
    smallest = matrix.abs().amax(dim=1, keepdim=True).clamp(min=1e-6) / 127
    mantissa, exponent = torch.frexp(smallest)
    scales = torch.ldexp(torch.ceil(mantissa * 16) / 16, exponent)
    codes = torch.round(matrix / scales).clamp(-127, 127)
    return EightBit(codes.to(torch.int8).numpy(), scales.float().numpy())


def export_graphs(model: CaptionModel, image_size: int, folder: Path, eight_bit: Mapping[str, EightBit]) -> None:
    """Write encoder and decoder as OpenVINO IR, constants in half precision or, those of `eight_bit`, in 8 bits."""
    model = model.cpu().eval()
    images = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    encoder = _convert(_Encode(model), images, [("images", [-1, *images.shape[1:]])])
    openvino.save_model(encoder, folder / ENCODER, compress_to_fp16=True)
    with torch.no_grad():
        seen = model.encode(images)
        state = model.decoder.start(seen, 3)
    example = (seen.values, seen.keys, seen.pooled, torch.ones(2, 3, dtype=torch.int64), *state)
    beams = [-1, -1, *state.hidden.shape[2:]]
    shapes = [[-1, *part.shape[1:]] for part in example[:3]] + [[-1, -1], beams, beams]
    decoder = _convert(_Step(model), example, list(zip(INPUTS, shapes, strict=True)))
    for output, name in zip(decoder.outputs, OUTPUTS, strict=True):
        output.get_tensor().set_names({name})
    _use_eight_bit(decoder, list(eight_bit.values()))
    openvino.save_model(decoder, folder / DECODER, compress_to_fp16=True)


def _convert(module: nn.Module, example: Any, inputs: list[Any]) -> Any:
    with warnings.catch_warnings():
        # OpenVINO converts by tracing; torch would rather have everybody compile.
        warnings.filterwarnings("ignore", r"`torch.jit.\w+` is deprecated")
        return openvino.convert_model(module, example_input=example, input=inputs)


class _Encode(nn.Module):
    def __init__(self, model: CaptionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.encode(images))


class _Step(nn.Module):
    def __init__(self, model: CaptionModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, values: Tensor, keys: Tensor, pooled: Tensor, words: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, ...]:
        return self.model.step(values, keys, pooled, words, hidden, cell)


def _use_eight_bit(graph: Any, matrices: list[EightBit]) -> None:
    """Put code x scale in the place of each matrix that a product in the graph reads."""
    for product in [op for op in graph.get_ops() if op.get_type_name() == "MatMul"]:
        constant = product.input_value(1).get_node()
        if constant.get_type_name() != "Constant":
            continue
        for codes, scales in matrices:
            if constant.data.shape == codes.shape and np.array_equal(constant.data, codes * scales):
                whole = opset.convert(opset.constant(codes, dtype=np.int8), "f32")
                product.input(1).replace_source_output(opset.multiply(whole, opset.constant(scales)).output(0))


def compile_encoder(encoder: nn.Module, image_size: int) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """What `encoder`, or a trunk of one, makes of uint8 images (B, S, S, 3): by torch on a GPU, else by OpenVINO."""
    encoder = encoder.eval()
    if torch.cuda.is_available():
        on_gpu = encoder.cuda()

        @torch.inference_mode()
        def encode_on_gpu(images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return on_gpu(torch.from_numpy(images).cuda()).float().cpu().numpy()

        return encode_on_gpu
    example = torch.zeros(1, image_size, image_size, 3, dtype=torch.uint8)
    graph = _convert(encoder, example, [("images", [-1, *example.shape[1:]])])
    compiled = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: compiled(images)[0].copy()
