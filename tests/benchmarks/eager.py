"""A captioner in eager PyTorch, as one would write it at first: the same weights, one picture after another."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from shared.bundle import WEIGHTS, Bundle
from shared.decoder import Projected, State
from shared.model import CaptionModel, ModelConfig
from shared.vocabulary import END_ID, PAD_ID, START_ID, UNK_ID

Beam = tuple[float, list[int]]
"""The log-probability of a caption, and its words from `<start>` on."""


class EagerCaptioner:
    def __init__(self, folder: Path) -> None:
        self.bundle = Bundle.load(folder)
        self.model = CaptionModel(ModelConfig(**self.bundle.architecture), self.bundle.preprocessing)
        self.model.load_state_dict(load_file(folder / WEIGHTS))
        self.model.eval()

    def read(self, jpeg: bytes) -> Tensor:
        """uint8 (S, S, 3)."""
        size = self.bundle.preprocessing.size
        image = Image.open(io.BytesIO(jpeg)).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(image))

    @torch.inference_mode()
    def caption(self, images: Tensor, *, beams_together: bool = True) -> list[str]:
        """Of pictures (B, S, S, 3). `beams_together` runs the beams of a picture as one batch, else one by one."""
        seen = self.model.encode(images)
        search = self._beams_together if beams_together else self._beam_by_beam
        return [
            self.bundle.vocabulary.decode(self._best(search(Projected(*(part[i : i + 1] for part in seen)))))
            for i in range(len(images))
        ]

    def _beams_together(self, seen: Projected) -> list[Beam]:
        """`seen` is of one picture (1, ...). A caption that ends leaves the beam, which is the narrower for it."""
        options, decoder = self.bundle.decode, self.model.decoder
        state, captions, scores = decoder.start(seen, 1), torch.tensor([[START_ID]]), torch.zeros(1)
        ended: list[Beam] = []
        for _ in range(options.max_length + 1):
            output, _, state = decoder.advance(seen, decoder.embed(captions[None, :, -1]), state)
            totals = scores[:, None] + self._log_probs(output)
            scores, places = totals.flatten().topk(options.beam_size - len(ended))
            parents, words = places // totals.shape[1], places % totals.shape[1]
            captions = torch.cat([captions[parents], words[:, None]], dim=1)
            is_end = words == END_ID
            ended += zip(scores[is_end].tolist(), captions[is_end].tolist(), strict=True)
            scores, captions, parents = scores[~is_end], captions[~is_end], parents[~is_end]
            if not len(scores):
                break
            state = State(*(part[:, parents] for part in state))
        return ended or list(zip(scores.tolist(), captions.tolist(), strict=True))

    def _beam_by_beam(self, seen: Projected) -> list[Beam]:
        """The same with a step for each caption."""
        options, decoder = self.bundle.decode, self.model.decoder
        going: list[tuple[float, list[int], State]] = [(0.0, [START_ID], decoder.start(seen, 1))]
        ended: list[Beam] = []
        for _ in range(options.max_length + 1):
            grown: list[tuple[float, list[int], State]] = []
            for score, caption, state in going:
                output, _, after = decoder.advance(seen, decoder.embed(torch.tensor([[caption[-1]]])), state)
                best = self._log_probs(output)[0].topk(options.beam_size)
                pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
                grown += [(score + log_prob, [*caption, word], after) for log_prob, word in pairs]
            chosen = sorted(grown, key=lambda beam: -beam[0])[: options.beam_size - len(ended)]
            ended += [(score, caption) for score, caption, _ in chosen if caption[-1] == END_ID]
            going = [beam for beam in chosen if beam[1][-1] != END_ID]
            if not going:
                break
        return ended or [(score, caption) for score, caption, _ in going]

    def _log_probs(self, output: Tensor) -> Tensor:
        """Of the words (K, V) after what the decoder gave (1, K, H)."""
        logits = self.model.decoder.output(output)[0]
        logits[:, [PAD_ID, START_ID, UNK_ID]] = float("-inf")
        return logits.log_softmax(dim=-1)

    def _best(self, found: list[Beam]) -> list[int]:
        penalty = self.bundle.decode.length_penalty
        _, caption = max(found, key=lambda beam: beam[0] / (len(beam[1]) - 1) ** penalty)
        return [word for word in caption if word not in (START_ID, END_ID)]
