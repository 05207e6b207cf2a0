from pathlib import Path

import pytest

from trainer.config import PRESETS, ConfigError, TrainConfig, load_config


def test_resnet_50_is_the_default_encoder() -> None:
    assert TrainConfig().backbone == "resnet50"


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.toml")))
def test_every_preset_is_read_and_says_only_what_differs(preset: str) -> None:
    config, defaults = load_config(preset, {}).to_dict(), TrainConfig().to_dict()
    stated = [line.split(" = ")[0] for line in (PRESETS / f"{preset}.toml").read_text().splitlines() if " = " in line]
    assert [key for key in stated if config[key] == defaults[key]] == []


def test_flags_win_over_the_preset() -> None:
    assert load_config("tiny", {"epochs": 77}).epochs == 77


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "unknown key 'epoch'; known keys are .*epochs"),
        ({"epochs": "three"}, "epochs is 'three'; it must be a int such as 10"),
        ({"epochs": 0}, "epochs is 0, and no other stage has one"),
        (
            {"decoder": "transformer"},
            "decoder is .transformer.; it must be .show_tell. or .show_attend_tell. or .updown.",
        ),
        ({"precision": "int8"}, "precision is .int8."),
        ({"self_critical_epochs": 1, "samples_per_image": 1}, "samples_per_image is 1; it must be at least 2"),
        ({"epochs": True}, "epochs is True"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"resize": "stretch"}, "resize is 'stretch'; it must be 'squash' or 'crop'"),
        ({"mean": [1.0, 2.0]}, "mean is"),
        ({"train": []}, "train names no split"),
    ],
)
def test_values_that_cannot_be_are_refused_with_what_would_be_right(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_mapping(values)


def test_whole_numbers_do_for_numbers() -> None:
    assert TrainConfig.from_mapping({"clip_norm": 2, "mean": [1, 2, 3]}).mean == (1.0, 2.0, 3.0)


def test_a_config_survives_its_record() -> None:
    config = load_config("tiny", {})
    assert TrainConfig.from_mapping(config.to_dict()) == config


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no preset 'huge'.*flickr8k-default.*tiny"):
        load_config("huge", {})


def test_a_preset_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("epochs: 3")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(str(tmp_path / "mine.toml"), {})
