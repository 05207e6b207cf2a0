import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from numpy.typing import NDArray

from shared.beam_search import Step
from shared.decoder import CORES
from shared.engine import Engine
from shared.image import Preprocessing
from shared.model import CaptionModel, EncoderCNN, ModelConfig
from shared.openvino_engine import OpenVINOEngine, cut_graphs
from shared.torch_engine import TorchEngine
from trainer.card import DECODERS
from trainer.config import CHOICES, ConfigError, TrainConfig
from trainer.export import export_graphs, fold_batch_norms, round_weights
from trainer.train import build_model

Images = NDArray[np.uint8]
Words = NDArray[np.int64]
PIXELS = Preprocessing(64, "squash", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
EIGHT_BIT_MATRICES = {
    "show_tell": {"lstm.weight_ih", "lstm.weight_hh", "output.weight"},
    "show_attend_tell": {"attention.query.weight", "lstm.weight_ih", "lstm.weight_hh", "output.weight"},
    "updown": {
        "attention.query.weight",
        "attention_lstm.weight_ih",
        "attention_lstm.weight_hh",
        "language_lstm.weight_ih",
        "language_lstm.weight_hh",
        "output.weight",
    },
}
"""What a step reads of each decoder, but for single rows."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Matrices so small give several threads nothing but each other to wait for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made_model(decoder: str = "updown") -> CaptionModel:
    torch.manual_seed(0)
    return CaptionModel(ModelConfig(50, "test_resnet", 24, 32, 16, decoder=decoder), PIXELS).eval()


def drawn_images(count: int) -> Images:
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def openvino_engine(folder: Path, *, precision: str = "fp32") -> OpenVINOEngine:
    encoder, decoder = (openvino.Core().read_model(folder / f"{name}.xml") for name in ("encoder", "decoder"))
    return OpenVINOEngine(cut_graphs(encoder, decoder, precision), threads=1)


def test_every_decoder_can_be_chosen_and_is_described_by_the_card() -> None:
    assert list(CHOICES["decoder"]) == list(DECODERS) == list(CORES)
    with pytest.raises(ConfigError, match="decoder is 'gru'; it must be 'show_tell' or 'show_attend_tell' or 'updown'"):
        TrainConfig.from_mapping({"decoder": "gru"})


@pytest.mark.parametrize("decoder", CORES)
def test_the_config_says_which_decoder_is_built(decoder: str) -> None:
    values = {"decoder": decoder, "backbone": "test_resnet", "encoder_weights": "random"}
    model = build_model(TrainConfig.from_mapping(values), 50, PIXELS)
    assert model.config.decoder == decoder


def test_rounded_weights_fit_half_precision_exactly() -> None:
    model = made_model()
    round_weights(model, eight_bit=True)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            assert torch.equal(tensor.half().float(), tensor)


@pytest.mark.parametrize("decoder", CORES)
def test_eight_bit_rounding_is_off_by_half_a_step_at_most(decoder: str) -> None:
    before = made_model(decoder)
    after = copy.deepcopy(before)
    rounded = round_weights(after, eight_bit=True)
    assert set(rounded) == EIGHT_BIT_MATRICES[decoder]
    old = dict(before.decoder.named_parameters())
    for name, (codes, scales) in rounded.items():
        assert np.abs(codes).max() <= 127
        assert np.abs(codes * scales - old[name].detach().numpy()).max() <= scales.max() / 2 + 1e-9
        assert torch.equal(torch.from_numpy(codes * scales), dict(after.decoder.named_parameters())[name].detach())


@pytest.mark.parametrize("backbone", ["test_resnet", "tf_efficientnet_lite0", "resnet18"])
def test_folded_batch_norms_change_nothing_but_are_gone(backbone: str) -> None:
    torch.manual_seed(0)
    encoder = EncoderCNN(backbone, PIXELS)
    images = torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8)
    encoder.train()(images)  # gives the norms statistics that matter
    encoder.eval()
    with torch.no_grad():
        before = encoder(images)
        fold_batch_norms(encoder, 64)
        torch.testing.assert_close(encoder(images), before, atol=1e-3, rtol=1e-3)
    norms = [module for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    assert all(bool((norm.weight == 1).all()) for norm in norms)


def test_a_backbone_whose_norms_come_first_is_left_as_it_is() -> None:
    torch.manual_seed(0)
    encoder = EncoderCNN("densenet121", PIXELS)
    encoder.train()(torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8))
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    fold_batch_norms(encoder, 64)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_without_eight_bits_only_half_precision_is_lost() -> None:
    before, after = made_model(), made_model()
    assert round_weights(after, eight_bit=False) == {}
    for old, new in zip(before.parameters(), after.parameters(), strict=True):
        assert torch.equal(old.half().float(), new)


@pytest.fixture(scope="module", params=CORES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[CaptionModel, Path]:
    """A model whose large matrices have 8 bits, and the folder of its graphs; its encoder is but a convolution."""
    model, folder = made_model(request.param), tmp_path_factory.mktemp("graphs")
    model.encoder.backbone = torch.nn.Conv2d(3, model.encoder.num_features, 32, stride=32)
    export_graphs(model, 64, folder, round_weights(model, eight_bit=True))
    return model, folder


@pytest.fixture(scope="module")
def engine(exported: tuple[CaptionModel, Path]) -> OpenVINOEngine:
    return openvino_engine(exported[1])


def decoded(engine: Engine, images: Images, words: Words) -> Step:
    """The third step of all three with the same words (B, K)."""
    features = engine.encode(images)
    said = engine.step(features, words, engine.start(features, words.shape[1]))
    for _ in range(2):
        said = engine.step(features, words, said.state)
    return said


def assert_close(first: Step, second: Step, tolerance: float) -> None:
    np.testing.assert_allclose(first.log_probs, second.log_probs, atol=tolerance)
    np.testing.assert_allclose(first.attention, second.attention, atol=tolerance)


def test_the_step_graph_holds_its_matrices_in_8_bits(exported: tuple[CaptionModel, Path]) -> None:
    model, folder = exported
    constants = openvino.Core().read_model(folder / "decoder.xml").get_ops()
    kinds = [op.get_element_type().get_type_name() for op in constants if op.get_type_name() == "Constant"]
    assert kinds.count("i8") == len(EIGHT_BIT_MATRICES[model.config.decoder])


def test_the_graphs_hold_the_same_numbers_as_the_network(
    exported: tuple[CaptionModel, Path], engine: OpenVINOEngine
) -> None:
    model, images, words = exported[0], drawn_images(3), np.array([[1, 5], [7, 8], [9, 4]])
    seen = engine.encode(images)
    shape = (3, 2, *seen[3].shape[1:])
    state = tuple(np.random.default_rng(seed).normal(size=shape).astype(np.float32) for seed in (1, 2))
    said = engine.step(seen, words, state)
    with torch.inference_mode():
        expected_seen = model.encode(torch.from_numpy(images))
        expected = model.step(*map(torch.from_numpy, [*seen[:3], words, *state]))
    for array, tensor in zip(seen, expected_seen, strict=True):
        np.testing.assert_allclose(array, tensor.numpy(), atol=2e-3)
    for array, tensor in zip([*said[:3], *said.state], expected, strict=True):
        np.testing.assert_allclose(array, tensor.numpy(), atol=1e-5)


@pytest.mark.parametrize(("batch_size", "beam_size"), [(1, 1), (5, 3), (2, 4)])
def test_both_engines_decode_alike_whatever_the_batch(
    batch_size: int, beam_size: int, exported: tuple[CaptionModel, Path], engine: OpenVINOEngine
) -> None:
    images = drawn_images(batch_size)
    words = np.random.default_rng(1).integers(4, 50, (batch_size, beam_size))
    together = decoded(engine, images, words)
    assert_close(together, decoded(TorchEngine(exported[0]), images, words), 3e-4)
    for i in range(batch_size):
        row = slice(i, i + 1)
        alone = decoded(engine, images[row], words[row])
        assert_close(alone, Step(together.log_probs[row], together.words[row], together.attention[row], ()), 1e-4)


def test_bfloat16_decodes_nearly_the_same(exported: tuple[CaptionModel, Path], engine: OpenVINOEngine) -> None:
    images, words = drawn_images(3), np.array([[1, 5], [7, 8], [9, 4]])
    rounded = decoded(openvino_engine(exported[1], precision="bf16"), images, words)
    assert_close(rounded, decoded(engine, images, words), 0.05)


def test_graphs_in_half_precision_decode_like_the_network(tmp_path: Path) -> None:
    model, images, words = made_model(), drawn_images(2), np.array([[1, 5], [7, 8]])
    export_graphs(model, 64, tmp_path, round_weights(model, eight_bit=False))
    first, second = openvino_engine(tmp_path), TorchEngine(model)
    for array, tensor in zip(first.encode(images), second.encode(images), strict=True):
        np.testing.assert_allclose(array, tensor.numpy(), atol=2e-3)  # folded normalisation is rounded once more
    assert_close(decoded(first, images, words), decoded(second, images, words), 2e-3)
