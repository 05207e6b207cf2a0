"""The captioner: a CNN encoder, soft attention over its grid, and a decoder of two LSTM layers.

After Anderson et al., "Bottom-Up and Top-Down Attention" (2018): an attention LSTM looks at the whole picture, the last
word and what was said so far, and decides where to look; a language LSTM says the next word from what is seen there.
Shapes: B images, K captions (or beams) of each, P grid cells, F channels, H hidden units, T words, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.image import Preprocessing
from shared.vocabulary import PAD_ID, START_ID, UNK_ID

CANDIDATES = 16
"""Continuations that a decoding step returns for each row: twice the widest beam, and some to forbid."""

ROWS = 20
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


class Projected(NamedTuple):
    """What the decoder needs of an image, computed once however many beams look at it."""

    values: Tensor  # (B, P, H) grid features in the decoder's size
    keys: Tensor  # (B, P, A) the same as the attention compares them
    pooled: Tensor  # (B, H) their mean


class State(NamedTuple):
    """The memory of both LSTM layers, the attention layer first."""

    hidden: Tensor  # (B, K, 2, H)
    cell: Tensor  # (B, K, 2, H)


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
        pixels = (images.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std
        return self.backbone(pixels).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Additive soft attention (Bahdanau et al. 2015), K queries over each image's cells."""

    def __init__(self, hidden_size: int, attention_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(hidden_size, attention_size)
        self.query = nn.Linear(hidden_size, attention_size, bias=False)
        self.score = nn.Linear(attention_size, 1, bias=False)

    def forward(self, query: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Context (B, K, H) and weights (B, K, P), which sum to 1, for `query` (B, K, H)."""
        energy = torch.tanh(keys.unsqueeze(1) + self.query(query).unsqueeze(2))
        weights = self.score(energy).squeeze(-1).softmax(dim=-1)
        return weights @ values, weights


class DecoderRNN(nn.Module):
    """Words from features. Training and decoding run the same `advance`."""

    def __init__(self, config: ModelConfig, num_features: int) -> None:
        super().__init__()
        hidden, embed = config.hidden_size, config.embed_size
        self.hidden_size = hidden
        self.embed = nn.Embedding(config.vocabulary_size, embed, padding_idx=PAD_ID)
        self.project = nn.Linear(num_features, hidden)
        self.attention = Attention(hidden, config.attention_size)
        self.attention_lstm = nn.LSTMCell(hidden + hidden + embed, hidden)
        self.language_lstm = nn.LSTMCell(hidden + hidden, hidden)
        self.output = nn.Linear(hidden, config.vocabulary_size)
        self.dropout = nn.Dropout(config.dropout)

    def look(self, features: Tensor) -> Projected:
        """Project features (B, P, F) for the decoder."""
        values = self.dropout(functional.relu(self.project(features)))
        return Projected(values, self.attention.key(values), values.mean(dim=1))

    def start(self, batch_size: int, beams: int) -> State:
        zeros = self.output.weight.new_zeros(batch_size, beams, 2, self.hidden_size)
        return State(zeros, zeros)

    def advance(self, seen: Projected, embedded: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """One word on: `embedded` words (B, K, E) -> output (B, K, H), attention (B, K, P), state."""
        hidden, cell = state
        pooled = seen.pooled.unsqueeze(1).expand(-1, embedded.shape[1], -1)
        attending = self._cell(self.attention_lstm, [hidden[:, :, 1], pooled, embedded], hidden[:, :, 0], cell[:, :, 0])
        context, weights = self.attention(attending[0], seen.keys, seen.values)
        speaking = self._cell(self.language_lstm, [context, attending[0]], hidden[:, :, 1], cell[:, :, 1])
        return (
            speaking[0],
            weights,
            State(*(torch.stack(pair, dim=2) for pair in zip(attending, speaking, strict=True))),
        )

    @staticmethod
    def _cell(lstm: nn.LSTMCell, inputs: list[Tensor], hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        rows, size = hidden.shape[:2], hidden.shape[2]
        new = lstm(torch.cat(inputs, dim=2).flatten(0, 1), (hidden.reshape(-1, size), cell.reshape(-1, size)))
        return new[0].view(*rows, size), new[1].view(*rows, size)

    def forward(self, features: Tensor, captions: Tensor, lengths: Tensor, images: Tensor) -> Tensor:
        """Teacher forcing: logits (W, V) for every word after `<start>`, in the order of `pack_padded_sequence`.

        `features` (B, P, F); `captions` (N, T), padded, the longest first, with their `lengths` (N) on the CPU;
        `images` (N): which of the B images a caption is of. Each image is projected once for all of its captions.
        """
        seen = Projected(*(part[images] for part in self.look(features)))
        state = self.start(len(captions), 1)
        embedded = self.dropout(self.embed(captions)).unsqueeze(1)
        outputs = []
        for t in range(int(lengths[0]) - 1):
            going = int((lengths > t + 1).sum())
            rows = -(-going // ROWS) * ROWS
            seen, state = Projected(*(part[:rows] for part in seen)), State(*(part[:rows] for part in state))
            output, _, state = self.advance(seen, embedded[:rows, :, t], state)
            outputs.append(output[:going, 0])
        return self.output(self.dropout(torch.cat(outputs)))


class CaptionModel(nn.Module):
    """Encoder and decoder, and the two graphs that an engine runs: `encode` and `step`."""

    def __init__(self, config: ModelConfig, preprocessing: Preprocessing, *, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        self.encoder = EncoderCNN(config.backbone, preprocessing, pretrained=pretrained)
        self.decoder = DecoderRNN(config, self.encoder.num_features)

    def encode(self, images: Tensor) -> Projected:
        """uint8 images (B, S, S, 3) -> what the decoder looks at."""
        return self.decoder.look(self.encoder(images))

    def step(
        self, values: Tensor, keys: Tensor, pooled: Tensor, words: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The best continuations of each row, best first.

        `words` (B, K): the last word of each beam. Returns log-probabilities (B, K, C) under the softmax over all
        words, their ids (B, K, C), attention (B, K, P), hidden and cell (B, K, 2, H). `<pad>`, `<start>` and `<unk>`
        come with minus infinity: nobody wants to read them.
        """
        embedded = self.decoder.embed(words)
        output, weights, state = self.decoder.advance(Projected(values, keys, pooled), embedded, State(hidden, cell))
        log_probs = self.decoder.output(output).log_softmax(dim=-1)
        unsaid = torch.zeros_like(log_probs[0, 0])
        unsaid[[PAD_ID, START_ID, UNK_ID]] = float("-inf")
        best = (log_probs + unsaid).topk(min(CANDIDATES, self.config.vocabulary_size), dim=-1)
        return best.values, best.indices, weights, state.hidden, state.cell
