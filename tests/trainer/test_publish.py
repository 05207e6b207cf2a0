from pathlib import Path

from shared.bundle import Bundle
from trainer.card import model_card
from trainer.checkpoint import load_checkpoint
from trainer.coco import read_split, subset_of
from trainer.config import TrainConfig, load_config
from trainer.evaluate import references_of, score
from trainer.publish import score_by_use
from trainer.run_state import BEST


def test_a_half_that_chose_nothing_is_scored_apart(drawn_data: Path) -> None:
    photos = read_split(drawn_data / "val").photos
    said = {photo.image_id: photo.captions[photo.image_id % 3] for photo in photos}
    scores = score_by_use(load_config("tiny", {"val_subset": "even"}), photos, said)
    assert {name: (each["photos"], each["use"]) for name, each in scores.items()} == {
        "val": (60, "validation, also used for choosing"),
        "val, even ids": (30, "validation, also used for choosing"),
        "val, odd ids": (30, "nothing was chosen on it"),
    }
    odd = subset_of(photos, "odd")
    expected = score(references_of(odd), {photo.image_id: said[photo.image_id] for photo in odd})
    assert scores["val, odd ids"].items() >= expected.items()
    assert list(score_by_use(load_config("tiny", {}), photos, said)) == ["val"]


def test_the_card_tells_of_the_run_that_the_weights_started_in(tiny_run: Path, tiny_bundle: Path) -> None:
    record = load_checkpoint(tiny_run / BEST).record
    config = {**TrainConfig.from_mapping(record["config"]).to_dict(), "epochs": 0, "fine_tune_epochs": 3}
    later = {**record, "config": {**config, "consensus": 0.5, "val_subset": "even"}, "started_from": record}
    bundle = Bundle.load(tiny_bundle)
    names = ("name", "version", "licence", "architecture", "preprocessing", "vocabulary", "decode")
    sealed = {name: getattr(bundle, name) for name in names}
    card = model_card({**sealed, "training": later}, {}, [], {}, eight_bit=False)
    assert "First run: 8 epochs of the decoder on a frozen encoder, at 0.004; epoch" in card
    assert "Then, from its best weights: 3 epochs in which the encoder's last 3 stages learn too, at 0.0001" in card
    assert "50% of a caption's weight from consensus" in card
    assert "Chosen by CIDEr-D on `val` (even ids): epoch" in card
    assert "One run." in model_card({**sealed, "training": record}, {}, [], {}, eight_bit=False)
