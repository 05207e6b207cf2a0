import pytest
import torch

from shared.image import Preprocessing
from shared.model import CaptionModel, EncoderCNN, ModelConfig
from trainer.learner import Learner, StageError, encoder_stages

PIXELS = Preprocessing(64, "squash", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))


def learner_of(backbone: str, tuned_stages: int, *, double: bool = False) -> Learner:
    torch.manual_seed(0)
    model = CaptionModel(ModelConfig(30, backbone, 24, 32, 16), PIXELS)
    return Learner(model, tuned_stages=tuned_stages, double=double)


def images(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("backbone", "stages"), [("test_resnet", 5), ("resnet18", 5), ("tf_efficientnet_lite0", 9), ("mobilenetv2_100", 9)]
)
def test_the_stages_one_after_another_are_the_backbone(backbone: str, stages: int) -> None:
    encoder = EncoderCNN(backbone, PIXELS).eval()
    assert len(encoder_stages(encoder.backbone)) == stages
    with torch.inference_mode():
        maps = encoder.normalise(images(2))
        expected = encoder.backbone(maps)
        for stage in encoder_stages(encoder.backbone):
            maps = stage(maps)
    assert torch.equal(maps, expected)


@pytest.mark.parametrize("tuned", [0, 1, 3])
def test_features_are_the_encoders_from_images_and_from_what_the_trunk_made_of_them(tuned: int) -> None:
    learner = learner_of("tf_efficientnet_lite0", tuned)
    with torch.inference_mode():
        expected = learner.model.encoder(images(2))
        assert torch.equal(learner.features(images(2)), expected)
        assert torch.equal(learner.features(learner.trunk(images(2))), expected)


def test_the_decoder_and_the_tuned_stages_learn_and_batch_norms_never_do() -> None:
    learner = learner_of("resnet18", 1)
    learning = {name for name, parameter in learner.model.named_parameters() if parameter.requires_grad}
    assert {name for name in learning if name.startswith("decoder.")} == {
        f"decoder.{name}" for name, _ in learner.model.decoder.named_parameters()
    }
    tuned = {name for name in learning if name.startswith("encoder.")}
    assert tuned
    assert all(name.startswith("encoder.backbone.layer4.") for name in tuned)
    assert not any(".bn" in name or "downsample.1" in name for name in tuned)


def test_a_learner_holds_the_models_weights_once() -> None:
    learner = learner_of("resnet18", 2)
    assert set(learner.state_dict()) == {f"model.{name}" for name in learner.model.state_dict()}


def test_double_precision_reaches_all_that_is_learned() -> None:
    learner = learner_of("resnet18", 1, double=True)
    assert {p.dtype for p in learner.parameters() if p.requires_grad} == {torch.float64}
    assert learner.features(images(1)).dtype == torch.float64


@pytest.mark.parametrize(("backbone", "tuned", "most"), [("resnet18", 5, 4), ("densenet121", 1, 0)])
def test_more_stages_than_can_be_told_apart_are_refused(backbone: str, tuned: int, most: int) -> None:
    with pytest.raises(
        StageError, match=f"{tuned} stages are to be fine-tuned; of this backbone it can be 0 to {most}"
    ):
        learner_of(backbone, tuned)
