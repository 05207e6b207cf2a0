"""What training changes, on top of what it leaves frozen: the decoder, and on demand the encoder's last stages.

The frozen part, the trunk, runs without gradients and can be cached; batch norms keep their statistics and weights
everywhere, as the little data of a caption set would only spoil them.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from shared.model import CaptionModel, EncoderCNN, grid


class StageError(ValueError):
    """More of an encoder to fine-tune than can be told apart; says what can be."""


class Trunk(nn.Module):
    """uint8 images (B, S, S, 3) -> the maps (B, C, h, w) that the tuned stages take."""

    def __init__(self, encoder: EncoderCNN, stages: list[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.Sequential(*stages)
        self._normalise = encoder.normalise

    def forward(self, images: Tensor) -> Tensor:
        return self.stages(self._normalise(images))


class Learner(nn.Module):
    """A captioner in training. Its `model` holds all weights; the other parts are views of it."""

    def __init__(self, model: CaptionModel, *, tuned_stages: int = 0, double: bool = False) -> None:
        """With `double` what is learned is computed in double precision, to compare runs exactly."""
        super().__init__()
        self.model = model
        trunk, tail = split_encoder(model.encoder, tuned_stages)
        self._parts = (trunk, tail)  # in a tuple, so that they are not registered once more
        model.requires_grad_(False).eval()
        model.decoder.requires_grad_(True)
        if double:
            model.decoder.double()
            tail.double()
        for module in tail.modules():
            frozen = isinstance(module, nn.modules.batchnorm._BatchNorm)
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(not frozen)

    @property
    def trunk(self) -> nn.Module:
        """uint8 images -> what `features` takes instead of images: its output is what a cache keeps."""
        return self._parts[0]

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return (p for p in self.model.encoder.parameters() if p.requires_grad)

    def features(self, inputs: Tensor) -> Tensor:
        """Encoder features (B, P, F) of images (B, S, S, 3) or of what the trunk made of them."""
        if inputs.dtype == torch.uint8:
            with torch.no_grad():
                inputs = self.trunk(inputs)
        kind, dtype = inputs.device.type, self.model.decoder.project.weight.dtype
        inputs = inputs.to(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else dtype)
        return grid(self._parts[1](inputs)) if len(self._parts[1]) else inputs

    def forward(
        self, inputs: Tensor, captions: Tensor, lengths: Tensor, images: Tensor, own_words: float = 0.0
    ) -> Tensor:
        """Logits of teacher forcing; see `DecoderRNN.forward`."""
        return self.model.decoder(self.features(inputs), captions, lengths, images, own_words=own_words)


def split_encoder(encoder: EncoderCNN, tuned_stages: int) -> tuple[nn.Module, nn.Sequential]:
    """The encoder as a trunk and its last `tuned_stages` stages; the whole encoder and nothing for 0."""
    if not tuned_stages:
        return encoder, nn.Sequential()
    stages = encoder_stages(encoder.backbone)
    if tuned_stages >= len(stages):
        raise StageError(
            f"{tuned_stages} stages are to be fine-tuned; of this backbone it can be 0 to {len(stages) - 1}"
        )
    return Trunk(encoder, stages[:-tuned_stages]), nn.Sequential(*stages[-tuned_stages:])


def encoder_stages(backbone: nn.Module) -> list[nn.Module]:
    """Modules that are the backbone when run one after another; the backbone alone for a family not known here."""
    parts = dict(backbone.named_children())
    if {"conv_stem", "blocks", "conv_head"} <= set(parts):  # EfficientNet and kin
        ends = [nn.Sequential(parts["conv_stem"], parts["bn1"]), nn.Sequential(parts["conv_head"], parts["bn2"])]
        return [ends[0], *parts["blocks"].children(), ends[1]]
    if {"conv1", "bn1", "act1", "maxpool", "layer4"} <= set(parts):  # ResNet and kin
        stem = nn.Sequential(*(parts[name] for name in ("conv1", "bn1", "act1", "maxpool")))
        return [stem, *(parts[f"layer{n}"] for n in range(1, 5))]
    return [backbone]
