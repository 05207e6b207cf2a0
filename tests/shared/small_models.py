"""Models so small that a test of their arithmetic takes no time, and what they may look at and say."""

import numpy as np
import torch

from shared.image import Preprocessing
from shared.model import CaptionModel, ModelConfig
from shared.vocabulary import END_ID, PAD_ID, START_ID

PIXELS = Preprocessing(64, "squash", (127.0, 120.0, 110.0), (128.0, 100.0, 90.0))
WORDS, EMBED, HIDDEN, ATTENTION, FEATURES = 30, 24, 32, 16, 96


def made(decoder: str, *, seed: int = 0) -> CaptionModel:
    torch.manual_seed(seed)
    config = ModelConfig(WORDS, "test_resnet", EMBED, HIDDEN, ATTENTION, decoder=decoder)
    return CaptionModel(config, PIXELS).eval()


def images(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def grids(count: int, cells: int = 4) -> torch.Tensor:
    """Features (B, P, F) as different as random numbers are."""
    return torch.randn(count, cells, FEATURES, generator=torch.Generator().manual_seed(2))


def drawn_captions(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Captions (N, T) of random words, padded, the longest first, and their lengths."""
    rng = np.random.default_rng(0)
    lengths = torch.tensor(sorted(rng.integers(3, 12, size=count).tolist(), reverse=True))
    captions = torch.full((count, int(lengths[0])), PAD_ID)
    for row, length in enumerate(lengths.tolist()):
        captions[row, :length] = torch.tensor([START_ID, *rng.integers(4, WORDS, size=length - 2).tolist(), END_ID])
    return captions, lengths
