"""The captioner: a CNN encoder, and a recurrent decoder that reads its grid of features and says words.

There are several decoders, `shared/decoder.py`; here is what they have in common.
Shapes: B images, K captions (or beams) of each, P grid cells, F channels, L layers of H hidden units, T words, V
vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.decoder import CORES, Core, Projected, State
from shared.image import Preprocessing
from shared.vocabulary import PAD_ID, START_ID, UNK_ID

CANDIDATES = 16
"""Continuations that a decoding step returns for each row: twice the widest beam, and some to forbid."""

ROWS = 10
"""Training drops finished captions in steps of so many: kernels are compiled for every number of rows they ever see."""


@dataclass(frozen=True)
class ModelConfig:
    """The network's architecture; a bundle carries it."""

    vocabulary_size: int
    backbone: str = "resnet50"
    embed_size: int = 512
    hidden_size: int = 512
    attention_size: int = 512
    dropout: float = 0.5
    decoder: str = "updown"
    """One of `shared.decoder.CORES`."""

    def __post_init__(self) -> None:
        if self.decoder not in CORES:
            raise ValueError(f"unknown decoder {self.decoder!r}; known are {', '.join(CORES)}")


class EncoderCNN(nn.Module):
    """Grid features of an image from any backbone of timm; normalisation is its first layer."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str, preprocessing: Preprocessing, *, pretrained: bool = False) -> None:
        super().__init__()
        network: Any = timm.create_model(backbone, pretrained=pretrained, num_classes=0, global_pool="")
        self.backbone = network
        self.num_features: int = network.num_features
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, P, F) of uint8 images (B, S, S, 3), cells row by row."""
        return grid(self.backbone(self.normalise(images)))

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 images (B, S, S, 3) -> what the backbone takes, (B, 3, S, S)."""
        return (images.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std


def grid(maps: Tensor) -> Tensor:
    """Feature maps (B, F, h, w) -> the grid's cells (B, P, F), row by row."""
    return maps.flatten(2).transpose(1, 2)


class Dropout(nn.Module):
    """Inverted dropout, its chance `p` in steps of 1/256: on a CPU a byte for each number costs a fifth of a float."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.kept = max(1, round(256 * (1 - p)))
        """Of 256 numbers."""

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or self.kept == 256:
            return inputs
        if inputs.is_cuda:
            return functional.dropout(inputs, 1 - self.kept / 256)
        words = torch.empty(-(-inputs.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        drawn = words.view(torch.uint8)[: inputs.numel()].view(inputs.shape)
        return inputs * ((drawn < self.kept).to(inputs.dtype) * (256 / self.kept))


class DecoderRNN(nn.Module):
    """Words from features. Training and decoding run the same `advance`."""

    def __init__(self, config: ModelConfig, num_features: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(config.vocabulary_size, config.embed_size, padding_idx=PAD_ID)
        self.project = nn.Linear(num_features, config.hidden_size)
        self._core: Core = CORES[config.decoder](config.embed_size, config.hidden_size, config.attention_size)
        # The core is no module: its layers are named beside those that all decoders have.
        for name, layer in vars(self._core).items():
            self.add_module(name, layer)
        self.output = nn.Linear(config.hidden_size, config.vocabulary_size)
        self.dropout = Dropout(config.dropout)

    def look(self, features: Tensor) -> Projected:
        """Project features (B, P, F) for the decoder."""
        values = self.dropout(functional.relu(self.project(features)))
        pooled = values.mean(dim=1)
        return Projected(values, self._core.keys(values), pooled, *self._core.initial(pooled))

    def start(self, seen: Projected, beams: int) -> State:
        """The memory before the first word, the same for every beam."""
        return State(*(part.unsqueeze(1).expand(-1, beams, -1, -1) for part in (seen.hidden, seen.cell)))

    def advance(self, seen: Projected, embedded: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """One word on: `embedded` words (B, K, E) -> output (B, K, H), attention (B, K, P), state."""
        return self._core.advance(seen, embedded, state)

    def forward(
        self, features: Tensor, captions: Tensor, lengths: Tensor, images: Tensor, *, own_words: float = 0.0
    ) -> Tensor:
        """Teacher forcing: logits (W, V) for every word after `<start>`, in the order of `pack_padded_sequence`.

        `features` (B, P, F); `captions` (N, T), padded, the longest first, with their `lengths` (N) on the CPU;
        `images` (N): which of the B images a caption is of. Each image is projected once for all of its captions.
        `own_words` is the chance that a word read is the model's own (scheduled sampling, Bengio et al. 2015).
        """
        seen = Projected(*(part.index_select(0, images) for part in self.look(features)))
        state = self.start(seen, 1)
        outputs: list[Tensor] = []
        for t in range(int(lengths[0]) - 1):
            going = int((lengths > t + 1).sum())
            rows = -(-going // ROWS) * ROWS
            if rows < len(state.hidden):  # a cut costs a copy on the way back
                seen, state = Projected(*(part[:rows] for part in seen)), State(*(part[:rows] for part in state))
            words = captions[:rows, t : t + 1]
            if own_words and t:
                own = self._draw(state)
                words = torch.where(torch.rand(own.shape, device=own.device) < own_words, own, words)
            output, _, state = self.advance(seen, self.dropout(self.embed(words)), state)
            outputs.append(output[:going, 0])
        return self.output(self.dropout(torch.cat(outputs)))

    @torch.no_grad()
    def _draw(self, state: State) -> Tensor:
        """A word for each row (B, 1), drawn as the model would say it."""
        return self.output(state.hidden[:, 0, -1]).float().softmax(dim=-1).multinomial(1)


class CaptionModel(nn.Module):
    """Encoder and decoder, and the two graphs that an engine runs: `encode` and `step`."""

    unsaid: Tensor

    def __init__(self, config: ModelConfig, preprocessing: Preprocessing, *, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        self.encoder = EncoderCNN(config.backbone, preprocessing, pretrained=pretrained)
        self.decoder = DecoderRNN(config, self.encoder.num_features)
        unsaid = torch.zeros(config.vocabulary_size)
        unsaid[[PAD_ID, START_ID, UNK_ID]] = float("-inf")
        self.register_buffer("unsaid", unsaid, persistent=False)

    def encode(self, images: Tensor) -> Projected:
        """uint8 images (B, S, S, 3) -> what the decoder looks at."""
        return self.decoder.look(self.encoder(images))

    def step(
        self, values: Tensor, keys: Tensor, pooled: Tensor, words: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The best continuations of each row, best first.

        `words` (B, K): the last word of each beam. Returns log-probabilities (B, K, C) under the softmax over all
        words, their ids (B, K, C), attention (B, K, P), hidden and cell (B, K, L, H). `<pad>`, `<start>` and `<unk>`
        come with minus infinity: nobody wants to read them.
        """
        embedded = self.decoder.embed(words)
        seen = Projected(values, keys, pooled, hidden[:, 0], cell[:, 0])  # no step asks for the first memory
        output, weights, state = self.decoder.advance(seen, embedded, State(hidden, cell))
        log_probs = self.decoder.output(output.to(self.decoder.output.weight.dtype)).log_softmax(dim=-1)
        best = (log_probs + self.unsaid).topk(min(CANDIDATES, self.config.vocabulary_size), dim=-1)
        return best.values, best.indices, weights, state.hidden, state.cell
