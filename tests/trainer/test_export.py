import copy
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch

from shared.image import Preprocessing
from shared.model import CaptionModel, EncoderCNN, ModelConfig
from trainer.export import export_graphs, fold_batch_norms, round_weights

PIXELS = Preprocessing(64, "squash", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))


def made_model() -> CaptionModel:
    torch.manual_seed(0)
    return CaptionModel(ModelConfig(50, "test_resnet", 24, 32, 16), PIXELS).eval()


def test_rounded_weights_fit_half_precision_exactly() -> None:
    model = made_model()
    round_weights(model, eight_bit=True)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            assert torch.equal(tensor.half().float(), tensor)


def test_eight_bit_rounding_is_off_by_half_a_step_at_most() -> None:
    before = made_model()
    after = copy.deepcopy(before)
    rounded = round_weights(after, eight_bit=True)
    assert {name.split(".")[0] for name in rounded} == {"attention", "attention_lstm", "language_lstm", "output"}
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


def test_the_graphs_hold_the_same_numbers_as_the_network(tmp_path: Path) -> None:
    model = made_model()
    export_graphs(model, 64, tmp_path, round_weights(model, eight_bit=True))
    constants = openvino.Core().read_model(tmp_path / "decoder.xml").get_ops()
    kinds = [op.get_element_type().get_type_name() for op in constants if op.get_type_name() == "Constant"]
    assert kinds.count("i8") == 6, "two matrices of each LSTM layer, the attention's query and the output"
    core = openvino.Core()
    config = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    encoder = core.compile_model(tmp_path / "encoder.xml", "CPU", config)
    decoder = core.compile_model(tmp_path / "decoder.xml", "CPU", config)
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    words = np.array([[1, 5], [7, 8], [9, 4]])
    seen = list(encoder(images).values())
    state = [np.random.default_rng(1).normal(size=(3, 2, 2, 32)).astype(np.float32) for _ in range(2)]
    with torch.inference_mode():
        expected_seen = model.encode(torch.from_numpy(images))
        expected = model.step(*map(torch.from_numpy, [*seen, words, *state]))
    for array, tensor in zip(seen, expected_seen, strict=True):
        np.testing.assert_allclose(array, tensor.numpy(), atol=2e-3)  # folded normalisation is rounded once more
    for array, tensor in zip(decoder([*seen, words, *state]).values(), expected, strict=True):
        np.testing.assert_allclose(array, tensor.numpy(), atol=1e-5)
