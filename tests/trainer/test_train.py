import json
from pathlib import Path

import pytest
import torch

from shared.vocabulary import Vocabulary
from trainer.checkpoint import load_checkpoint
from trainer.coco import DataError, read_split
from trainer.config import ConfigError, TrainConfig, load_config, preprocessing_of
from trainer.evaluate.leakage import hash_photos, load_trained_on
from trainer.loop import warmup_then_cosine
from trainer.run_state import BEST, LAST, LOG
from trainer.train import build_model, load_start, train, usable_photos


def small(**changes: object) -> TrainConfig:
    """A config with which an epoch takes a second."""
    settings = {
        "train": ["val"],
        "hidden_size": 32,
        "embed_size": 16,
        "attention_size": 16,
        "epochs": 2,
        "warmup_steps": 2,
    }
    return load_config("tiny", {**settings, **changes})


def test_a_run_leaves_checkpoints_and_a_line_per_epoch(tiny_run: Path) -> None:
    lines = [json.loads(line) for line in (tiny_run / LOG).read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[-1]["loss"] < lines[0]["loss"] / 2
    best = max(lines, key=lambda line: line["val"]["CIDEr-D"])
    assert load_checkpoint(tiny_run / BEST).record["epoch"] == best
    assert load_checkpoint(tiny_run / LAST).record["state"]["lines"] == lines
    assert set(best["val"]) == {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"}


def test_the_model_learned_to_look(tiny_run: Path) -> None:
    record = load_checkpoint(tiny_run / BEST).record
    assert record["epoch"]["val"]["CIDEr-D"] > 200
    assert record["epoch"]["health"]["unique_captions"] > 30


def test_a_frozen_encoder_does_not_change_by_a_bit(drawn_data: Path, tmp_path: Path) -> None:
    for cached in (True, False):
        config = small(cache_features=cached, epochs=1, workers=0)
        torch.manual_seed(config.seed)
        vocabulary = Vocabulary.from_captions(["a"], min_count=1)
        pixels = preprocessing_of(config)
        before = build_model(config, len(vocabulary), pixels).encoder.state_dict()
        train(config, drawn_data, tmp_path / str(cached))
        after = load_checkpoint(tmp_path / str(cached) / LAST).part("model")
        assert all(torch.equal(after[f"encoder.{name}"], tensor) for name, tensor in before.items())


def test_cached_features_train_as_the_encoder_in_the_loop_does(drawn_data: Path, tmp_path: Path) -> None:
    runs = [
        train(small(cache_features=cached, workers=0), drawn_data, tmp_path / str(cached)) for cached in (True, False)
    ]
    assert runs[0]["loss"] == pytest.approx(runs[1]["loss"], rel=0.01)


def test_the_same_seed_gives_the_same_losses(drawn_data: Path, tmp_path: Path) -> None:
    first, second, other = (train(small(seed=seed), drawn_data, tmp_path / str(i)) for i, seed in enumerate((1, 1, 2)))
    assert first["loss"] == second["loss"]
    assert first["loss"] != pytest.approx(other["loss"], rel=1e-3)


def test_sixteen_photos_are_learned_by_heart(drawn_data: Path, tmp_path: Path) -> None:
    photos = read_split(drawn_data / "val").photos[:16]
    few = tmp_path / "data"
    (few / "annotations").mkdir(parents=True)
    (few / "few").mkdir()
    content = {
        "images": [{"id": p.image_id, "file_name": p.path.name, "width": 64, "height": 64} for p in photos],
        "annotations": [{"id": p.image_id, "image_id": p.image_id, "caption": p.captions[0]} for p in photos],
    }
    (few / "annotations" / "captions_few.json").write_text(json.dumps(content))
    for photo in photos:
        (few / "few" / photo.path.name).write_bytes(photo.path.read_bytes())
    best = train(
        load_config(
            "tiny",
            {
                "train": ["few"],
                "val": "few",
                "min_count": 1,
                "epochs": 80,
                "weight_decay": 0.0,
                "warmup_steps": 5,
                "dropout": 0.0,
                "mirror": False,
                "images_per_batch": 2,
            },
        ),
        few,
        tmp_path / "run",
    )
    last = json.loads((tmp_path / "run" / LOG).read_text().splitlines()[-1])
    assert last["loss"] < 0.05
    assert best["val"]["BLEU-4"] > 95


def test_half_of_the_validation_photos_can_be_kept_from_choosing(
    drawn_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        train(small(val_subset="even", epochs=1), drawn_data, tmp_path)
    assert "60 photos to learn from, 30 to validate" in caplog.text


@pytest.mark.parametrize("start", ["tiny_run", "tiny_bundle"])
def test_a_run_can_start_from_an_earlier_one_or_from_a_bundle(
    start: str, tiny_run: Path, drawn_data: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(start)
    earlier = load_start(folder)
    still = {"learning_rate": 0.0, "epochs": 1, "start_from": str(folder), "min_count": 50}
    train(load_config("tiny", {"train": ["val"], **still}), drawn_data, tmp_path)
    best = load_checkpoint(tmp_path / BEST)
    assert best.record["vocabulary"] == earlier.record["vocabulary"], "its words, whatever the new captions say"
    assert all(torch.equal(tensor, earlier.tensors[name]) for name, tensor in best.tensors.items())
    assert best.record["started_from"]["epoch"] == earlier.record["epoch"]
    learned, before = load_trained_on(tmp_path), load_trained_on(tiny_run)
    assert learned is not None
    assert before is not None
    assert set(before.hashes) | set(hash_photos(read_split(drawn_data / "val").photos)) == set(learned.hashes)


def test_a_run_of_another_architecture_is_no_start(tiny_run: Path, drawn_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds a model of another architecture .*embed_size: 64, now 16"):
        train(small(start_from=str(tiny_run)), drawn_data, tmp_path)


def test_problems_in_the_data_are_told_before_training(
    drawn_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "val"
    folder.mkdir()
    (tmp_path / "annotations").symlink_to(drawn_data / "annotations")
    names = sorted(path.name for path in (drawn_data / "val").iterdir())
    for name in names[2:]:
        (folder / name).symlink_to(drawn_data / "val" / name)
    assert len(usable_photos(folder, strict=False)) == 58
    assert f"{names[0]} is missing" in caplog.text
    assert "2 problems in the data" in caplog.text
    with pytest.raises(DataError, match="2 problems in the data, the first: .* is missing"):
        usable_photos(folder, strict=True)


def test_the_rate_rises_in_a_line_and_falls_in_half_a_cosine() -> None:
    rates = [warmup_then_cosine(step, warmup=10, total=110) for step in range(111)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert rates[110] == pytest.approx(0.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
