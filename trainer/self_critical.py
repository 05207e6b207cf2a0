"""Self-critical training (Rennie et al. 2017): captions that a model says by chance, and what each is worth.

A caption's worth is its reward less the mean reward of the other samples of its picture (Luo 2020), so what is better
than usual gets likelier and what is worse less likely.

Below a temperature of 1 likely words are drawn more often. Label smoothing and dropout leave a tenth of the chance
to words that fit nowhere; a caption that one of them spoils says little of the other words, and as short captions are
spoilt less often, samples like that teach shortness.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from shared.model import CaptionModel
from shared.vocabulary import END_ID, PAD_ID, START_ID, UNK_ID
from trainer.data_loader import Batch, Caption, CocoCaptions, batch_of
from trainer.learner import Learner
from trainer.reward import CiderReward, advantages


class SelfCritic:
    """Judges what a learner says of the photos of `dataset`: CIDEr-D against their captions, `<end>` included."""

    def __init__(self, dataset: CocoCaptions, *, samples: int, max_words: int, temperature: float = 1.0) -> None:
        self.samples, self.max_words, self.temperature = samples, max_words, temperature
        self._photos = len(dataset)
        whole = [[caption[1:] for caption in captions] for captions in dataset.encoded]
        mirrored = [[dataset.mirrored(caption) for caption in captions] for captions in whole]
        self._reward = CiderReward(whole + mirrored)

    def lesson(self, learner: Learner, batch: Batch, *, cross_entropy_share: float = 0.0) -> tuple[Batch, float]:
        """The batch with samples for captions, each weighed by its advantage; and their mean reward.

        With a `cross_entropy_share` the batch's own captions are learned beside them, at that weight.
        """
        with torch.no_grad():
            features = learner.features(batch.inputs)
            said = sample_captions(
                learner.model,
                features,
                samples=self.samples,
                max_words=self.max_words,
                temperature=self.temperature,
            )
        photos = [draw.photo + draw.mirrored * self._photos for draw in batch.draws for _ in range(self.samples)]
        rewards = self._reward(photos, [caption[1:] for caption in said]).reshape(-1, self.samples)
        gains = advantages(rewards).tolist()
        captions = [
            Caption(image, said[image * self.samples + i], gain * draw.counts)
            for image, draw in enumerate(batch.draws)
            for i, gain in enumerate(gains[image])
        ]
        if cross_entropy_share:
            captions += _own_captions(batch, cross_entropy_share)
        return batch_of(batch.inputs, batch.draws, captions), float(rewards.mean())


def _own_captions(batch: Batch, share: float) -> list[Caption]:
    rows = zip(batch.images.tolist(), batch.captions.tolist(), batch.lengths.tolist(), batch.weights, strict=True)
    return [Caption(image, words[:length], share * float(weight)) for image, words, length, weight in rows]


@torch.no_grad()
def sample_captions(
    model: CaptionModel, features: Tensor, *, samples: int, max_words: int, temperature: float = 1.0
) -> Sequence[list[int]]:
    """`samples` captions of each image of `features` (B, P, F), drawn word by word as the model would say them.

    The logits are divided by the temperature, as they must be where the samples are learned from.

    Word ids with `<start>`, and with `<end>` where it came within `max_words`; an image's samples stand together.
    """
    decoder = model.decoder
    seen = decoder.look(features)
    state = decoder.start(seen, samples)
    words = torch.full((len(features), samples), START_ID, device=features.device)
    drawn, going = [words], torch.ones_like(words, dtype=torch.bool)
    while going.any() and len(drawn) < max_words + 2:
        output, _, state = decoder.advance(seen, decoder.embed(words), state)
        logits = decoder.output(output).float() / temperature
        logits[:, :, [PAD_ID, START_ID, UNK_ID]] = float("-inf")
        words = logits.softmax(dim=-1).flatten(0, 1).multinomial(1).view_as(words)
        words = torch.where(going, words, PAD_ID)
        drawn.append(words)
        going = going & (words != END_ID)
    table = torch.stack(drawn, dim=2).flatten(0, 1).tolist()
    return [[word for word in caption if word != PAD_ID] for caption in table]
