import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from shared.image import Preprocessing
from shared.model import ROWS, CaptionModel, EncoderCNN, ModelConfig
from shared.vocabulary import END_ID, PAD_ID, START_ID, UNK_ID

PIXELS = Preprocessing(64, "squash", (127.0, 120.0, 110.0), (128.0, 100.0, 90.0))
WORDS = 30


@pytest.fixture
def model() -> CaptionModel:
    torch.manual_seed(0)
    return CaptionModel(ModelConfig(WORDS, "test_resnet", 24, 32, 16), PIXELS).eval()


def images(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_resnet_50_is_the_default_backbone_and_gives_a_grid() -> None:
    encoder = EncoderCNN(ModelConfig(WORDS).backbone, PIXELS).eval()
    with torch.inference_mode():
        assert encoder(images(1)).shape == (1, 4, 2048)


def test_normalisation_is_the_encoders_first_layer(model: CaptionModel) -> None:
    seen = []
    model.encoder.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        model.encoder(images(2))
    expected = (images(2).float() - torch.tensor(PIXELS.mean)) / torch.tensor(PIXELS.std)
    assert torch.allclose(seen[0], expected.permute(0, 3, 1, 2))


def test_attention_weights_sum_to_one_over_the_grid(model: CaptionModel) -> None:
    with torch.inference_mode():
        seen = model.encode(images(2))
        words = torch.full((2, 3), START_ID)
        log_probs, ids, attention, hidden, cell = model.step(*seen, words, *model.decoder.start(2, 3))
    assert attention.shape == (2, 3, seen.values.shape[1])
    assert torch.allclose(attention.sum(dim=2), torch.ones(2, 3))
    assert log_probs.shape == ids.shape == (2, 3, 16)
    assert hidden.shape == cell.shape == (2, 3, 2, 32)


def test_a_step_never_offers_padding_start_or_unknown(model: CaptionModel) -> None:
    with torch.inference_mode():
        model.decoder.output.bias[[PAD_ID, START_ID, UNK_ID]] = 50.0
        seen = model.encode(images(1))
        log_probs, ids, *_ = model.step(*seen, torch.full((1, 1), START_ID), *model.decoder.start(1, 1))
    offered = ids[log_probs > -1e9].tolist()
    assert not {PAD_ID, START_ID, UNK_ID} & set(offered)


def test_teacher_forcing_and_decoding_agree_on_every_word(model: CaptionModel) -> None:
    rng = np.random.default_rng(0)
    lengths = torch.tensor(sorted(rng.integers(3, 12, size=ROWS + 7).tolist(), reverse=True))
    captions = torch.full((len(lengths), int(lengths[0])), PAD_ID)
    for row, length in enumerate(lengths.tolist()):
        captions[row, :length] = torch.tensor([START_ID, *rng.integers(4, WORDS, size=length - 2).tolist(), END_ID])
    owners = torch.from_numpy(rng.integers(0, 4, size=len(lengths)))
    with torch.inference_mode():
        logits = model.decoder(model.encoder(images(4)), captions, lengths, owners)
        targets = pack_padded_sequence(captions[:, 1:], lengths - 1, batch_first=True)
        forced = logits.log_softmax(dim=1).gather(1, targets.data[:, None])[:, 0]
        seen = model.encode(images(4))
        for row, length in enumerate(lengths.tolist()):
            state, total = model.decoder.start(1, 1), 0.0
            one = [part[owners[row]][None] for part in seen]
            for t in range(length - 1):
                output, _, state = model.decoder.advance(
                    type(seen)(*one), model.decoder.embed(captions[row, t].view(1, 1)), state
                )
                total += model.decoder.output(output).log_softmax(dim=-1)[0, 0, captions[row, t + 1]].item()
            steps = torch.cumsum(torch.tensor([0, *targets.batch_sizes.tolist()]), dim=0)[: length - 1] + row
            assert forced[steps].sum().item() == pytest.approx(total, abs=1e-4)
