"""Three recurrent decoders that look at grid features; each is the core of a `DecoderRNN`, which has the rest.

A core says what attention compares, what the memory is before the first word, and how one word changes it.
Shapes: B images, K captions (or beams) of each, P grid cells, A numbers to compare of each, L layers of H hidden units,
E numbers of an embedded word.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn


class Projected(NamedTuple):
    """What the decoder needs of an image, computed once however many beams look at it."""

    values: Tensor  # (B, P, H) grid features in the decoder's size
    keys: Tensor  # (B, P, A) the same as the attention compares them
    pooled: Tensor  # (B, H) their mean
    hidden: Tensor  # (B, L, H) the memory before the first word
    cell: Tensor  # (B, L, H)


class State(NamedTuple):
    """The memory of all LSTM layers, the first layer first."""

    hidden: Tensor  # (B, K, L, H)
    cell: Tensor  # (B, K, L, H)


class Attention(nn.Module):
    """Additive soft attention (Bahdanau et al. 2015), K queries over each image's cells."""

    def __init__(self, hidden_size: int, attention_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(hidden_size, attention_size)
        self.query = nn.Linear(hidden_size, attention_size, bias=False)
        self.score = nn.Linear(attention_size, 1, bias=False)

    def forward(self, query: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Context (B, K, H) and weights (B, K, P), which sum to 1, for `query` (B, K, H)."""
        energy = (keys.unsqueeze(1) + self.query(query).unsqueeze(2)).tanh_()
        weights = self.score(energy).squeeze(-1).softmax(dim=-1)
        return weights @ values, weights


class Core(Protocol):
    """What differs between decoders. Every attribute of a core is a layer with weights."""

    def keys(self, values: Tensor) -> Tensor:
        """(B, P, H) -> (B, P, A)."""

    def initial(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H) -> hidden and cell (B, L, H) before the first word."""

    def advance(self, seen: Projected, embedded: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """One word on: `embedded` words (B, K, E) -> output (B, K, H), attention (B, K, P), state."""


class ShowTell:
    """Vinyals et al., "Show and Tell" (2015): the whole picture is the first word; after it no second look.

    Its attention is the same on all cells, so that whoever asks where it looked has an answer.
    """

    def __init__(self, embed_size: int, hidden_size: int, attention_size: int) -> None:
        self.image = nn.Linear(hidden_size, embed_size)
        self.lstm = nn.LSTMCell(embed_size, hidden_size)

    def keys(self, values: Tensor) -> Tensor:
        return torch.zeros_like(values[:, :, :1])

    def initial(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        hidden, cell = self.lstm(self.image(pooled))
        return hidden.unsqueeze(1), cell.unsqueeze(1)

    def advance(self, seen: Projected, embedded: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        told = _cell(self.lstm, [embedded], state, 0)
        weights = seen.keys.transpose(1, 2).softmax(dim=-1).expand(-1, embedded.shape[1], -1)
        return told[0], weights, _state(told)


class ShowAttendTell:
    """Xu et al., "Show, Attend and Tell" (2015), the soft attention: what was said so far decides where to look.

    Without that paper's gate on the context; words come from the hidden units alone.
    """

    def __init__(self, embed_size: int, hidden_size: int, attention_size: int) -> None:
        self.attention = Attention(hidden_size, attention_size)
        self.memory = nn.Linear(hidden_size, 2 * hidden_size)
        self.lstm = nn.LSTMCell(hidden_size + embed_size, hidden_size)

    def keys(self, values: Tensor) -> Tensor:
        return self.attention.key(values)

    def initial(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        hidden, cell = torch.tanh(self.memory(pooled)).unsqueeze(1).chunk(2, dim=-1)
        return hidden, cell

    def advance(self, seen: Projected, embedded: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        context, weights = self.attention(state.hidden[:, :, 0], seen.keys, seen.values)
        told = _cell(self.lstm, [context, embedded], state, 0)
        return told[0], weights, _state(told)


class UpDown:
    """Anderson et al., "Bottom-Up and Top-Down Attention" (2018), on grid cells: one layer looks, the other speaks.

    The attention LSTM takes the whole picture, the last word and what was said so far, and decides where to look; the
    language LSTM says the next word from what is seen there.
    """

    def __init__(self, embed_size: int, hidden_size: int, attention_size: int) -> None:
        self.attention = Attention(hidden_size, attention_size)
        self.attention_lstm = nn.LSTMCell(hidden_size + hidden_size + embed_size, hidden_size)
        self.language_lstm = nn.LSTMCell(hidden_size + hidden_size, hidden_size)

    def keys(self, values: Tensor) -> Tensor:
        return self.attention.key(values)

    def initial(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        shape = (pooled.shape[0], 2, self.language_lstm.hidden_size)
        return self.language_lstm.weight_hh.new_zeros(shape), self.language_lstm.weight_hh.new_zeros(shape)

    def advance(self, seen: Projected, embedded: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        pooled = seen.pooled.unsqueeze(1).expand(-1, embedded.shape[1], -1)
        attending = _cell(self.attention_lstm, [state.hidden[:, :, 1], pooled, embedded], state, 0)
        context, weights = self.attention(attending[0], seen.keys, seen.values)
        speaking = _cell(self.language_lstm, [context, attending[0]], state, 1)
        return speaking[0], weights, _state(attending, speaking)


CORES: dict[str, Callable[[int, int, int], Core]] = {
    "show_tell": ShowTell,
    "show_attend_tell": ShowAttendTell,
    "updown": UpDown,
}


def _cell(lstm: nn.LSTMCell, inputs: list[Tensor], state: State, layer: int) -> tuple[Tensor, Tensor]:
    """Hidden and cell (B, K, H) of `layer` after `inputs`, each (B, K, ...)."""
    hidden, cell = state.hidden[:, :, layer], state.cell[:, :, layer]
    rows, size = hidden.shape[:2], hidden.shape[2]
    new = lstm(torch.cat(inputs, dim=2).flatten(0, 1), (hidden.reshape(-1, size), cell.reshape(-1, size)))
    return new[0].view(*rows, size), new[1].view(*rows, size)


def _state(*layers: tuple[Tensor, Tensor]) -> State:
    return State(*(torch.stack(parts, dim=2) for parts in zip(*layers, strict=True)))
