import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from shared.beam_search import Rules, beam_search
from shared.decoder import CORES, Projected
from shared.model import ROWS, CaptionModel, Dropout, EncoderCNN, ModelConfig
from shared.torch_engine import TorchEngine
from shared.vocabulary import END_ID, PAD_ID, START_ID, UNK_ID
from tests.shared.small_models import (
    ATTENTION,
    EMBED,
    HIDDEN,
    PIXELS,
    WORDS,
    drawn_captions,
    grids,
    images,
    made,
)

LAYERS = {"show_tell": 1, "show_attend_tell": 1, "updown": 2}
ATTENDING = ["show_attend_tell", "updown"]
REMEMBERING = ["show_tell", "show_attend_tell"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices so small give several threads nothing but each other to wait for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=CORES)
def model(request: pytest.FixtureRequest) -> CaptionModel:
    return made(request.param)


def first_words(model: CaptionModel, seen: Projected) -> torch.Tensor:
    """The distribution (B, V) of the word after `<start>`."""
    decoder = model.decoder
    words = torch.full((len(seen.values), 1), START_ID)
    output, _, _ = decoder.advance(seen, decoder.embed(words), decoder.start(seen, 1))
    return decoder.output(output)[:, 0].softmax(dim=-1)


def test_resnet_50_is_the_default_backbone_and_gives_a_grid() -> None:
    encoder = EncoderCNN(ModelConfig(WORDS).backbone, PIXELS).eval()
    with torch.inference_mode():
        assert encoder(images(1)).shape == (1, 4, 2048)


def test_updown_is_the_default_decoder() -> None:
    assert ModelConfig(WORDS).decoder == "updown"


def test_an_unknown_decoder_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"^unknown decoder 'gru'; known are show_tell, show_attend_tell, updown$"):
        ModelConfig(WORDS, decoder="gru")


def test_normalisation_is_the_encoders_first_layer() -> None:
    model, seen = made("updown"), []
    model.encoder.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        model.encoder(images(2))
    expected = (images(2).float() - torch.tensor(PIXELS.mean)) / torch.tensor(PIXELS.std)
    assert torch.allclose(seen[0], expected.permute(0, 3, 1, 2))


def test_what_is_seen_and_said_has_the_shapes_of_the_contract(model: CaptionModel) -> None:
    layers = LAYERS[model.config.decoder]
    with torch.inference_mode():
        seen = model.encode(images(2))
        state = model.decoder.start(seen, 3)
        log_probs, ids, attention, hidden, cell = model.step(*seen[:3], torch.full((2, 3), START_ID), *state)
    cells = seen.values.shape[1]
    assert seen.values.shape == (2, cells, HIDDEN)
    assert seen.keys.shape[:2] == (2, cells)
    assert seen.pooled.shape == (2, HIDDEN)
    assert seen.hidden.shape == seen.cell.shape == (2, layers, HIDDEN)
    assert log_probs.shape == ids.shape == (2, 3, 16)
    assert attention.shape == (2, 3, cells)
    assert state.hidden.shape == state.cell.shape == hidden.shape == cell.shape == (2, 3, layers, HIDDEN)


def test_attention_weights_sum_to_one_over_the_grid(model: CaptionModel) -> None:
    with torch.inference_mode():
        seen = model.encode(images(2))
        state = model.decoder.start(seen, 3)
        _, _, attention, *_ = model.step(*seen[:3], torch.tensor([[4, 5, 6], [7, 8, 9]]), *state)
    assert torch.allclose(attention.sum(dim=2), torch.ones(2, 3))


def test_only_show_and_tell_looks_everywhere_alike(model: CaptionModel) -> None:
    with torch.inference_mode():
        seen = model.decoder.look(grids(1))
        _, _, attention, *_ = model.step(*seen[:3], torch.full((1, 1), START_ID), *model.decoder.start(seen, 1))
    everywhere = torch.full_like(attention, 1 / attention.shape[2])
    assert torch.allclose(attention, everywhere, rtol=1e-6) == (model.config.decoder == "show_tell")


@pytest.mark.parametrize("decoder", ATTENDING)
def test_what_was_said_decides_where_to_look(decoder: str) -> None:
    model = made(decoder)
    with torch.inference_mode():
        seen = model.decoder.look(grids(1))
        said = model.step(*seen[:3], torch.tensor([[4, 5]]), *model.decoder.start(seen, 2))
        _, _, attention, *_ = model.step(*seen[:3], torch.tensor([[6, 6]]), *said[3:])
    assert not torch.allclose(attention[0, 0], attention[0, 1], rtol=1e-6)


def test_grids_of_any_size_and_shape_are_read(model: CaptionModel) -> None:
    for cells in (1, 6, 49):
        with torch.inference_mode():
            seen = model.decoder.look(grids(2, cells))
            said = model.step(*seen[:3], torch.full((2, 2), START_ID), *model.decoder.start(seen, 2))
        assert said[2].shape == (2, 2, cells)
        assert torch.isfinite(said[0][..., 0]).all()


def test_a_step_never_offers_padding_start_or_unknown(model: CaptionModel) -> None:
    with torch.inference_mode():
        model.decoder.output.bias[[PAD_ID, START_ID, UNK_ID]] = 50.0
        seen = model.decoder.look(grids(1))
        log_probs, ids, *_ = model.step(*seen[:3], torch.full((1, 1), START_ID), *model.decoder.start(seen, 1))
    offered = ids[log_probs > -1e9].tolist()
    assert not {PAD_ID, START_ID, UNK_ID} & set(offered)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float) -> None:
    dropout = Dropout(p)
    ones = torch.ones(301, 333, requires_grad=True)
    torch.manual_seed(0)
    out = dropout(ones)
    out.sum().backward()
    assert (out == 0).float().mean().item() == pytest.approx(p, abs=0.01)
    assert out.mean().item() == pytest.approx(1.0, abs=0.03)
    assert len(out.unique()) == 2
    assert ones.grad is not None
    assert torch.equal(ones.grad, out)
    assert not torch.equal(dropout(ones), out), "another draw each time"
    dropout.eval()
    assert torch.equal(dropout(ones), ones)


def test_teacher_forcing_and_decoding_agree_on_every_word(model: CaptionModel) -> None:
    captions, lengths = drawn_captions(ROWS + 7)
    owners = torch.from_numpy(np.random.default_rng(2).integers(0, 4, size=len(lengths)))
    with torch.inference_mode():
        logits = model.decoder(grids(4), captions, lengths, owners)
        targets = pack_padded_sequence(captions[:, 1:], lengths - 1, batch_first=True)
        forced = logits.log_softmax(dim=1).gather(1, targets.data[:, None])[:, 0]
        seen = model.decoder.look(grids(4))
        for row, length in enumerate(lengths.tolist()):
            one = Projected(*(part[owners[row]][None] for part in seen))
            state, total = model.decoder.start(one, 1), 0.0
            for t in range(length - 1):
                output, _, state = model.decoder.advance(one, model.decoder.embed(captions[row, t].view(1, 1)), state)
                total += model.decoder.output(output).log_softmax(dim=-1)[0, 0, captions[row, t + 1]].item()
            steps = torch.cumsum(torch.tensor([0, *targets.batch_sizes.tolist()]), dim=0)[: length - 1] + row
            assert forced[steps].sum().item() == pytest.approx(total, abs=1e-4)


def test_an_image_is_described_alike_alone_and_in_company(model: CaptionModel) -> None:
    words = torch.tensor([[4, 5], [6, 7], [8, 9]])
    with torch.inference_mode():
        seen = model.decoder.look(grids(3))
        together = model.step(*seen[:3], words, *model.decoder.start(seen, 2))
        for i in range(3):
            alone = model.decoder.look(grids(3)[i : i + 1])
            one = model.step(*alone[:3], words[i : i + 1, :1], *model.decoder.start(alone, 1))
            for part, whole in zip(one, together, strict=True):
                torch.testing.assert_close(part[0, 0], whole[i, 0])


@pytest.mark.parametrize("decoder", REMEMBERING)
def test_the_first_memory_is_of_the_image(decoder: str) -> None:
    model = made(decoder)
    with torch.inference_mode():
        seen = model.decoder.look(grids(2))
        # the same cells for both images, so that only the memory tells them apart
        same = Projected(*(part[[0, 0]] for part in seen))
        said = first_words(model, same._replace(hidden=seen.hidden, cell=seen.cell))
        forgotten = first_words(model, same)
    assert (seen.hidden[0] != seen.hidden[1]).any()
    assert (said[0] - said[1]).abs().max() > 1e-4
    assert torch.equal(forgotten[0], forgotten[1])


def test_updown_begins_with_an_empty_memory() -> None:
    with torch.inference_mode():
        seen = made("updown").encode(images(2))
    assert not seen.hidden.any()
    assert not seen.cell.any()


def test_every_beam_begins_with_the_memory_of_its_image(model: CaptionModel) -> None:
    with torch.inference_mode():
        seen = model.decoder.look(grids(2))
        state = model.decoder.start(seen, 3)
    for memory, first in ((state.hidden, seen.hidden), (state.cell, seen.cell)):
        for beam in range(3):
            assert torch.equal(memory[:, beam], first)


def test_the_number_of_weights_is_what_the_layers_make(model: CaptionModel) -> None:
    def linear(inputs: int, outputs: int) -> int:
        return (inputs + 1) * outputs

    def lstm(inputs: int) -> int:
        return 4 * HIDDEN * (inputs + HIDDEN + 2)

    attention = linear(HIDDEN, ATTENTION) + HIDDEN * ATTENTION + ATTENTION
    cores = {
        "show_tell": linear(HIDDEN, EMBED) + lstm(EMBED),
        "show_attend_tell": attention + linear(HIDDEN, 2 * HIDDEN) + lstm(HIDDEN + EMBED),
        "updown": attention + lstm(2 * HIDDEN + EMBED) + lstm(2 * HIDDEN),
    }
    shared = WORDS * EMBED + linear(model.encoder.num_features, HIDDEN) + linear(HIDDEN, WORDS)
    weights = sum(parameter.numel() for parameter in model.decoder.parameters())
    assert weights == shared + cores[model.config.decoder]


def test_weights_are_named_by_their_layer_whatever_the_decoder(model: CaptionModel) -> None:
    layers = {
        "show_tell": {"image", "lstm"},
        "show_attend_tell": {"attention", "memory", "lstm"},
        "updown": {"attention", "attention_lstm", "language_lstm"},
    }[model.config.decoder]
    named = {name.split(".")[0] for name, _ in model.decoder.named_parameters()}
    assert named == {"embed", "project", "output"} | layers


def test_a_copy_of_a_model_has_weights_of_its_own(model: CaptionModel) -> None:
    before = first_words(model, model.decoder.look(grids(1)))
    copied = copy.deepcopy(model)
    copied.load_state_dict(made(model.config.decoder, seed=1).state_dict())
    expected = made(model.config.decoder, seed=1)
    assert torch.equal(first_words(model, model.decoder.look(grids(1))), before)
    assert torch.equal(
        first_words(copied, copied.decoder.look(grids(1))), first_words(expected, expected.decoder.look(grids(1)))
    )


def test_every_weight_learns(model: CaptionModel) -> None:
    captions, lengths = drawn_captions(6)
    weights = dict(model.decoder.named_parameters())
    logits = model.decoder(grids(6), captions, lengths, torch.arange(6))
    slopes = torch.autograd.grad(logits.log_softmax(dim=1)[:, 5].sum(), list(weights.values()))
    assert [name for name, slope in zip(weights, slopes, strict=True) if not slope.any()] == []


def test_bfloat16_computes_nearly_the_same(model: CaptionModel) -> None:
    captions, lengths = drawn_captions(6)
    with torch.inference_mode():
        features = grids(6)
        expected = model.decoder(features, captions, lengths, torch.arange(6))
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.decoder(features, captions, lengths, torch.arange(6))
    torch.testing.assert_close(rounded.float(), expected, atol=0.02, rtol=0.02)


def test_a_decoder_learns_to_tell_features_apart(model: CaptionModel) -> None:
    """Eight grids, a caption of five words for each: after a second it says them all, word by word from its own."""
    features = grids(8)
    said = torch.randint(4, WORDS, (8, 5))
    captions = torch.cat([torch.full((8, 1), START_ID), said, torch.full((8, 1), END_ID)], dim=1)
    lengths, targets = torch.full((8,), 7), captions[:, 1:].T.flatten()
    optimizer = torch.optim.Adam(model.decoder.parameters(), lr=0.01)
    criterion = torch.nn.CrossEntropyLoss()
    for _ in range(80):
        loss = criterion(model.decoder(features, captions, lengths, torch.arange(8)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    engine = TorchEngine(model)
    seen = engine.look(features)
    found = beam_search(engine.step, engine.start(seen, 2), tuple(seen), rules=Rules(START_ID, END_ID, no_repeat=0))
    assert [list(hypotheses[0].words) for hypotheses in found] == said.tolist()
