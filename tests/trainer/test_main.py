import json
from pathlib import Path

import pytest

from trainer.__main__ import main


def test_drawing_writes_a_data_set_that_can_be_trained_on(tmp_path: Path) -> None:
    assert main(["draw", str(tmp_path), "--train", "4", "--val", "2"]) == 0
    assert len(list((tmp_path / "train").iterdir())) == 4
    assert (tmp_path / "annotations" / "captions_val.json").is_file()


def test_evaluate_prints_scores_and_writes_captions(
    tiny_volume: Path, drawn_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = tmp_path / "captions.json"
    arguments = [
        "evaluate",
        str(tiny_volume),
        str(drawn_data / "val"),
        "--precision",
        "fp32",
        "--captions",
        str(captions),
    ]
    assert main(arguments) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["photos"] == 60
    assert scores["engine"] == "openvino"
    said = json.loads(captions.read_text())
    assert len({result["image_id"] for result in said}) == 60
    manifest = json.loads((tiny_volume / (tiny_volume / "current").read_text().strip() / "bundle.json").read_text())
    assert scores["CIDEr-D"] == pytest.approx(manifest["metrics"]["val"]["CIDEr-D"], abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--data", "/nowhere", "--model", "{}", "--preset", "tiny"], 1, "/nowhere/train does not exist"),
        (["train", "--data", "/nowhere", "--model", "{}", "--preset", "huge"], 2, "no preset 'huge'"),
        (["train", "--data", "/nowhere", "--model", "{}", "--epochs", "0"], 2, "epochs is 0"),
        (
            ["publish", "--data", "/nowhere", "--model", "{}", "--volume", "{}"],
            1,
            "best.safetensors is not a checkpoint",
        ),
        (["evaluate", "{}", "/nowhere/val"], 1, "must be a bundle or a volume"),
    ],
)
def test_bad_input_is_one_sentence_and_an_exit_code(
    arguments: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.replace("{}", str(tmp_path)) for argument in arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
