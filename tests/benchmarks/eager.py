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
from shared.vocabulary import END_ID, START_ID


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
            self.bundle.vocabulary.decode(search(Projected(*(part[i : i + 1] for part in seen))))
            for i in range(len(images))
        ]

    def _beams_together(self, seen: Projected) -> list[int]:
        """`seen` is of one picture (1, ...)."""
        size, decoder = self.bundle.decode.beam_size, self.model.decoder
        state = decoder.start(seen, 1)
        captions, scores = torch.tensor([[START_ID]]), torch.zeros(1)
        ended: list[tuple[float, list[int]]] = []
        for _ in range(self.bundle.decode.max_length + 1):
            output, _, state = decoder.advance(seen, decoder.embed(captions[None, :, -1]), state)
            totals = scores[:, None] + decoder.output(output)[0].log_softmax(dim=-1)
            scores, places = totals.flatten().topk(size)
            parents, words = places // totals.shape[1], places % totals.shape[1]
            captions = torch.cat([captions[parents], words[:, None]], dim=1)
            is_end = words == END_ID
            ended += zip(scores[is_end].tolist(), captions[is_end].tolist(), strict=True)
            scores, captions, parents = scores[~is_end], captions[~is_end], parents[~is_end]
            if not len(scores) or (ended and max(ended)[0] >= float(scores.max())):
                break
            state = State(*(part[:, parents] for part in state))
        return _words(max([*ended, *zip(scores.tolist(), captions.tolist(), strict=True)]))

    def _beam_by_beam(self, seen: Projected) -> list[int]:
        size, decoder = self.bundle.decode.beam_size, self.model.decoder
        beams: list[tuple[float, list[int], State]] = [(0.0, [START_ID], decoder.start(seen, 1))]
        for _ in range(self.bundle.decode.max_length + 1):
            grown: list[tuple[float, list[int], State]] = []
            for score, caption, state in beams:
                if caption[-1] == END_ID:
                    grown.append((score, caption, state))
                    continue
                embedded = decoder.embed(torch.tensor([[caption[-1]]]))
                output, _, after = decoder.advance(seen, embedded, state)
                best = decoder.output(output)[0, 0].log_softmax(dim=-1).topk(size)
                pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
                grown += [(score + log_prob, [*caption, word], after) for log_prob, word in pairs]
            beams = sorted(grown, key=lambda beam: -beam[0])[:size]
            if beams[0][1][-1] == END_ID:
                break
        return _words(beams[0][:2])


def _words(found: tuple[float, list[int]]) -> list[int]:
    return [word for word in found[1] if word not in (START_ID, END_ID)]
