import dataclasses
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageColor

from tests.trainer.doctor.doctor_damage import copy_bytes, draw_data, open_split
from trainer.__main__ import main
from trainer.doctor import examine
from trainer.doctor.findings import Diagnosis, findings_of, to_text
from trainer.doctor.picture import BARS, MARGIN_TOP, MARK, PANEL, draw_captions

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a leak (an error), an empty caption (a warning) and a file too many (a note)."""
    folder = draw_data(tmp_path_factory.mktemp("report") / "data")
    train, val = open_split(folder, "train"), open_split(folder, "val")
    copy_bytes(train.photo(0), val.photo(0))
    train.say(0, "")
    train.save()
    (folder / "train" / "bell\x07\x1b[31m.jpg").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def diagnosis(data: Path) -> Diagnosis:
    return examine(data, train=["train"], val=["val"], min_count=2)


def test_the_text_tells_the_gravest_first_and_a_verdict_last(diagnosis: Diagnosis) -> None:
    text = to_text(diagnosis)
    assert text.index("ERROR    leaked_photo: 1 in val") < text.index("WARNING  empty_caption: 1 in train")
    assert text.index("WARNING") < text.index("NOTE     unlisted_file: 1 in train")
    assert re.fullmatch(r"Training should not start: 1 error, 1 warning, \d notes\.", text.splitlines()[-1])
    for found in diagnosis.findings:
        assert found.advice in text
        assert all(f"- {example}" in text for example in found.examples)


def test_the_table_has_a_column_for_each_split(diagnosis: Diagnosis) -> None:
    lines = to_text(diagnosis).splitlines()
    assert re.fullmatch(rf"vocabulary: {diagnosis.vocabulary_size} words\s+train\s+val", lines[0])
    assert re.fullmatch(r"photos listed\s+40\s+20", lines[1])
    assert re.fullmatch(r"captions\s+200\s+100", lines[3])
    table = lines[: lines.index("")]
    assert len({len(line) for line in table}) == 1


def test_no_control_character_of_a_file_name_reaches_the_terminal(diagnosis: Diagnosis) -> None:
    text = to_text(diagnosis)
    assert r"train/bell\x07\x1b[31m.jpg" in text
    assert all(character.isprintable() or character == "\n" for character in text)
    [odd] = findings_of("train", [("missing_photo", "a\ud800b\n.jpg")], examples=1)
    assert odd.examples == (r"a\ud800b\n.jpg",)


def test_json_alone_goes_to_stdout_and_both_where_it_has_a_file(data: Path, tmp_path: Path, capsys: Capture) -> None:
    arguments = ["doctor", str(data), "--train", "train", "--val", "val"]
    assert main([*arguments, "--json", "-"]) == 1
    alone = json.loads(capsys.readouterr().out)
    assert main([*arguments, "--json", str(tmp_path / "found.json")]) == 1
    output = capsys.readouterr()
    assert json.loads((tmp_path / "found.json").read_text()) == alone
    assert output.out.splitlines()[-1].startswith("Training should not start: 1 error")
    assert "photos: 100%" in output.err
    assert {f["code"] for f in alone["findings"]} > {"leaked_photo", "empty_caption", "unlisted_file"}
    assert [numbers["split"] for numbers in alone["splits"]] == ["train", "val"]


def test_as_many_examples_are_shown_as_asked_for(tmp_path: Path, capsys: Capture) -> None:
    data = draw_data(tmp_path)
    train, val = open_split(data, "train"), open_split(data, "val")
    for index in range(7):
        copy_bytes(train.photo(index), val.photo(index))
    for asked, shown in (("0", 0), ("3", 3), ("100", 7)):
        assert main(["doctor", str(data), "--train", "train", "--val", "val", "--examples", asked, "--json", "-"]) == 1
        [leak] = [f for f in json.loads(capsys.readouterr().out)["findings"] if f["code"] == "leaked_photo"]
        assert (leak["count"], len(leak["examples"])) == (7, shown)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--train", "nowhere"], 1, "nowhere does not exist; a split needs a folder of photos"),
        (["--train", "train", "--val", "train/"], 2, "the split train is named twice"),
        (["--train", "train", "--workers", "0"], 2, "--workers is 0; it must be at least 1"),
        (["--train", "train", "--min-count", "0"], 2, "--min-count is 0"),
        (["--train", "train", "--max-words", "-3"], 2, "--max-words is -3"),
        (["--train", "train", "--examples", "-1"], 2, "--examples is -1; it must be at least 0"),
        (["--train", "train", "--json", "/nowhere/found.json"], 2, "there is no folder /nowhere"),
        (["--train", "train", "--picture", "/nowhere/words.png"], 2, "there is no folder /nowhere"),
    ],
)
def test_wrong_usage_is_one_sentence(
    arguments: list[str], code: int, message: str, data: Path, capsys: Capture
) -> None:
    assert main(["doctor", str(data), *arguments]) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err
    assert output.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--train"], ["--train", "train", "--workers", "many"]])
def test_without_a_split_or_with_nonsense_the_usage_is_shown(arguments: list[str], data: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", str(data), *arguments])
    assert ended.value.code == 2
    assert "usage: python -m trainer doctor" in capsys.readouterr().err


def test_a_captions_file_that_is_none_is_named(tmp_path: Path, capsys: Capture) -> None:
    data = draw_data(tmp_path)
    (data / "annotations" / "captions_val.json").write_text("{")
    assert main(["doctor", str(data), "--train", "train", "--val", "val"]) == 1
    error = capsys.readouterr().err
    assert "captions_val.json is not a COCO captions file" in error
    assert "Traceback" not in error


def pixels_of(image: Image.Image, colour: str) -> NDArray[np.bool_]:
    return np.all(np.asarray(image) == ImageColor.getrgb(colour), axis=-1)


def test_the_picture_is_written_as_png(data: Path, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "words.png"
    assert main(["doctor", str(data), "--train", "train", "--picture", str(path)]) == 0
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert pixels_of(image, BARS).any()


def test_the_bars_are_as_high_as_their_counts_and_the_mark_lies_between_kept_and_cut(diagnosis: Diagnosis) -> None:
    lengths = Counter({4: 100, 9: 50, 12: 10})
    image = draw_captions(dataclasses.replace(diagnosis, captions_by_length=lengths, max_words=9))
    left = image.crop((0, 0, image.width // 2, image.height))
    heights = pixels_of(left, BARS).sum(axis=0)
    columns = np.flatnonzero(heights)
    bars = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    high, middle, low = (int(np.median(heights[bar])) for bar in bars)
    assert high == pytest.approx(PANEL[1], abs=2), "100 captions, on an axis that ends at 100"
    assert high == pytest.approx(2 * middle, abs=3)
    assert high == pytest.approx(10 * low, abs=12)
    mark = np.flatnonzero(pixels_of(left, MARK).sum(axis=0) > 200)
    assert bars[1].max() < mark.min() <= mark.max() < bars[2].min()


def test_the_curve_rises_to_all_that_is_said_and_the_mark_stands_at_the_vocabulary(diagnosis: Diagnosis) -> None:
    words = Counter({f"often{i}": 9 for i in range(10)} | {f"rare{i}": 1 for i in range(40)})
    image = draw_captions(dataclasses.replace(diagnosis, words=words, vocabulary_size=10))
    right = image.crop((image.width // 2, 0, image.width, image.height))
    rows, columns = np.nonzero(pixels_of(right, BARS))
    tops = [int(rows[columns == column].min()) for column in sorted(set(columns.tolist()))]
    assert tops[0] > MARGIN_TOP + PANEL[1] / 2
    assert np.diff(tops).max() <= 1, "a pixel of play where two pieces of the line meet"
    assert abs(tops[-1] - MARGIN_TOP) <= 1
    mark = int(np.median(np.flatnonzero(pixels_of(right, MARK).sum(axis=0) > 200)))
    height = MARGIN_TOP + PANEL[1] - rows[np.abs(columns - mark) <= 3].mean()
    assert height / PANEL[1] == pytest.approx(90 / 130, abs=0.02)


@pytest.mark.parametrize("words", [{}, {"dog": 3}])
def test_a_picture_of_almost_nothing_is_drawn(words: dict[str, int], diagnosis: Diagnosis) -> None:
    nothing = dataclasses.replace(
        diagnosis, captions_by_length=Counter(words.values()), words=Counter(words), vocabulary_size=len(words)
    )
    assert draw_captions(nothing).size == draw_captions(diagnosis).size
    assert "photos listed" in to_text(nothing)
