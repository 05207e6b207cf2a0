import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from shared.bundle import sha256
from trainer.__main__ import main
from trainer.coco import Photo, Split, read_split
from trainer.evaluate import references_of, score
from trainer.evaluate.leakage import TRAINED_ON, record_trained_on
from trainer.evaluate.spice import MODELS, SpiceError, check_spice

Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def no_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """METEOR takes seconds to start, and is tested elsewhere."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """Run the command; its report."""

    def run(*arguments: object) -> dict[str, Any]:
        code = main(["evaluate", *map(str, arguments)])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        report: dict[str, Any] = json.loads(captured.out)
        return report

    return run


@pytest.fixture
def val(drawn_data: Path) -> Split:
    return read_split(drawn_data / "val")


@pytest.fixture
def results(val: Split, tmp_path: Path) -> Path:
    """Captions of all photos: a reference of each, but the first letter of every third photo's."""
    said = [photo.captions[0] if photo.image_id % 3 else "a" for photo in val.photos]
    return write_results(tmp_path / "results.json", val, said)


def write_results(path: Path, split: Split, said: list[str]) -> Path:
    entries = [{"image_id": p.image_id, "caption": text} for p, text in zip(split.photos, said, strict=True)]
    path.write_text(json.dumps(entries))
    return path


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 1) -> str:
    """The one sentence that the command fails with."""
    assert main(["evaluate", *map(str, arguments)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.strip().splitlines()[-1]


def test_a_bundle_is_captioned_scored_and_written_down(
    evaluate: Evaluate, tiny_volume: Path, drawn_data: Path, val: Split, tmp_path: Path
) -> None:
    captions, lines = tmp_path / "captions.json", tmp_path / "lines.jsonl"
    options = ("--precision", "fp32", "--captions", captions, "--per-image", lines)
    report = evaluate(tiny_volume, drawn_data / "val", *options)
    said = {entry["image_id"]: entry["caption"] for entry in json.loads(captions.read_text())}
    expected = score(references_of(val.photos), said)
    assert {name: report[name] for name in expected} == pytest.approx(expected)
    assert (report["photos"], report["subset"], report["engine"], report["precision"]) == (
        60,
        "all",
        "openvino",
        "fp32",
    )
    per_image = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [line["image_id"] for line in per_image] == [photo.image_id for photo in val.photos]
    assert sum(line["CIDEr-D"] for line in per_image) / 60 == pytest.approx(report["CIDEr-D"])
    again = evaluate(captions, drawn_data / "val")
    assert {name: again[name] for name in expected} == pytest.approx(expected)


def test_every_score_has_an_interval_that_holds_it(evaluate: Evaluate, results: Path, drawn_data: Path) -> None:
    report = evaluate(results, drawn_data / "val", "--resamples", 200)
    assert list(report["intervals"]) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"]
    for name, interval in report["intervals"].items():
        assert interval["low"] < report[name] < interval["high"]
    assert report["intervals"] == evaluate(results, drawn_data / "val", "--resamples", 200)["intervals"]
    assert report["intervals"] != evaluate(results, drawn_data / "val", "--resamples", 200, "--seed", 1)["intervals"]


def test_the_health_of_the_captions_is_reported(evaluate: Evaluate, results: Path, drawn_data: Path) -> None:
    health = evaluate(results, drawn_data / "val")["health"]
    assert health["dangling_endings"] == pytest.approx(20 / 60)
    assert health["unique_captions"] < 42


def test_subsets_are_scored_by_their_own_references(
    evaluate: Evaluate, results: Path, drawn_data: Path, val: Split
) -> None:
    said = {entry["image_id"]: entry["caption"] for entry in json.loads(results.read_text())}
    for subset, remainder in (("even", 0), ("odd", 1)):
        photos = [photo for photo in val.photos if photo.image_id % 2 == remainder]
        report = evaluate(results, drawn_data / "val", "--subset", subset)
        expected = score(references_of(photos), {photo.image_id: said[photo.image_id] for photo in photos})
        assert report["photos"] == len(photos) == 30
        assert report["CIDEr-D"] == pytest.approx(expected["CIDEr-D"])


def test_a_file_of_captions_is_compared_with_another(
    evaluate: Evaluate, results: Path, drawn_data: Path, val: Split, tmp_path: Path
) -> None:
    best = write_results(tmp_path / "best.json", val, [photo.captions[0] for photo in val.photos])
    report = evaluate(best, drawn_data / "val", "--compare", results)
    compared = report["compare"]
    assert compared["with"] == str(results)
    assert set(compared["differences"]) == {"CIDEr-D", "BLEU-4"}
    for name, found in compared["differences"].items():
        assert found["difference"] == pytest.approx(report[name] - compared["scores"][name])
        assert 0 < found["low"] < found["difference"] < found["high"]
        assert found["p_value"] < 0.01
        assert found["better_in"] == 1


def test_a_bundle_is_compared_with_another_on_the_same_photos(
    evaluate: Evaluate, tiny_volume: Path, default_bundle: Path, drawn_data: Path
) -> None:
    report = evaluate(tiny_volume, drawn_data / "val", "--compare", default_bundle, "--subset", "even")
    assert report["compare"]["scores"]["CIDEr-D"] < 50 < report["CIDEr-D"]
    assert report["compare"]["differences"]["CIDEr-D"]["low"] > 0


def test_no_difference_is_reported_as_none(evaluate: Evaluate, results: Path, drawn_data: Path) -> None:
    found = evaluate(results, drawn_data / "val", "--compare", results)["compare"]["differences"]["BLEU-4"]
    assert found == {"difference": 0, "low": 0, "high": 0, "better_in": 0, "p_value": 1}


def test_without_java_there_is_no_meteor_and_a_line_says_so(
    evaluate: Evaluate, results: Path, drawn_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "METEOR" not in evaluate(results, drawn_data / "val")
    assert [m for m in caplog.messages if "METEOR" in m] == ["no METEOR: it needs Java, which is not on the PATH"]


def test_photos_that_cannot_be_scored_are_counted(
    evaluate: Evaluate, drawn_data: Path, val: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = Path(shutil.copytree(drawn_data, tmp_path / "data"))
    (data / "val" / val.photos[0].path.name).unlink()
    results = write_results(tmp_path / "r.json", read_split(data / "val"), ["a circle"] * 59)
    report = evaluate(results, data / "val")
    assert (report["photos"], report["problems"]) == (59, 1)
    assert f"{val.photos[0].path.name} is missing" in caplog.text


def that_tells(bundle: Path, copy: Path, learned: Sequence[Photo]) -> Path:
    """A copy of the bundle with a sealed record of what it learned from."""
    shutil.copytree(bundle, copy)
    record = copy / TRAINED_ON
    record_trained_on(record, learned)
    manifest = json.loads((copy / "bundle.json").read_text())
    manifest["files"][TRAINED_ON] = {"sha256": sha256(record), "size": record.stat().st_size}
    (copy / "bundle.json").write_text(json.dumps(manifest))
    return copy


@pytest.fixture
def bundle_that_tells(tiny_bundle: Path, drawn_data: Path, val: Split, tmp_path: Path) -> Path:
    """The small model, which says that it learned from its training split and three photos of val."""
    return that_tells(tiny_bundle, tmp_path / "bundle", [*read_split(drawn_data / "train").photos, *val.photos[:3]])


def test_a_bundle_is_not_scored_on_what_it_learned_from_unless_forced(
    evaluate: Evaluate, bundle_that_tells: Path, drawn_data: Path, val: Split, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = refusal(capsys, bundle_that_tells, drawn_data / "val")
    assert "learned from 3 of the 60 photos to score, such as" in sentence
    assert str(val.photos[0].path) in sentence
    assert evaluate(bundle_that_tells, drawn_data / "val", "--force")["leaked_photos"] == 3


def test_a_bundle_to_compare_with_is_not_scored_on_what_it_learned_from_either(
    results: Path, bundle_that_tells: Path, drawn_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = refusal(capsys, results, drawn_data / "val", "--compare", bundle_that_tells)
    assert "learned from 3 of the 60 photos to score" in sentence


def test_a_bundle_that_did_not_learn_from_the_subset_is_scored_on_it(
    evaluate: Evaluate, tiny_bundle: Path, drawn_data: Path, val: Split, tmp_path: Path
) -> None:
    odd = [photo for photo in val.photos if photo.image_id % 2]
    bundle = that_tells(tiny_bundle, tmp_path / "bundle", odd)
    assert evaluate(bundle, drawn_data / "val", "--subset", "even")["leaked_photos"] == 0


def test_what_a_file_of_captions_comes_from_is_unknown(evaluate: Evaluate, results: Path, drawn_data: Path) -> None:
    assert evaluate(results, drawn_data / "val")["leakage"] == "unknown"


def test_spice_is_never_fetched(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refusal(capsys, results, "/nowhere, for it is refused before anything is read", "--spice")
    assert f"SPICE needs {MODELS[0]} and {MODELS[1]} in " in sentence
    assert "they are in stanford-corenlp-full-2015-12-09.zip of nlp.stanford.edu/software" in sentence


def test_spice_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / MODELS[0]).touch()
    with pytest.raises(SpiceError, match=f"SPICE needs {MODELS[1]} in {tmp_path}"):
        check_spice(tmp_path)
    (tmp_path / MODELS[1]).touch()
    with pytest.raises(SpiceError, match="SPICE needs Java"):
        check_spice(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{results}", "{val}", "--beam-size", "3"], 2, "--beam-size is 3, but {results} holds captions already"),
        (["{results}", "{val}", "--resamples", "0"], 2, "--resamples is 0; it must be at least 1"),
        (["{results}", "{val}", "--seed", "-1"], 2, "--seed is -1; it must be at least 0"),
        (
            ["{results}", "{val}", "--captions", "/nowhere/c"],
            2,
            "--captions is /nowhere/c, but there is no folder /now",
        ),
        (["{results}", "{val}", "--per-image", "/nowhere/p"], 2, "--per-image is /nowhere/p, but there is no folder"),
        (["/nowhere", "{val}"], 1, "/nowhere does not exist; it must be a bundle, a volume, or a file of captions"),
        (["{results}", "{val}", "--compare", "/nowhere"], 1, "/nowhere does not exist; it must be a bundle"),
        (["{val}", "{val}"], 1, "must be a bundle or a volume"),
        (["{results}", "/nowhere"], 1, "/nowhere does not exist; a split needs"),
        (["{results}", "{train}"], 1, "captions 60 images that are not in the split"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_is_captioned(
    arguments: list[str],
    code: int,
    message: str,
    results: Path,
    drawn_data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"results": results, "val": drawn_data / "val", "train": drawn_data / "train"}
    sentence = refusal(capsys, *(argument.format(**names) for argument in arguments), code=code)
    assert message.format(**names) in sentence


def test_a_subset_without_photos_is_refused(
    drawn_data: Path, val: Split, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(drawn_data, tmp_path / "data"))
    annotations = data / "annotations" / "captions_val.json"
    content = json.loads(annotations.read_text())
    content["images"] = [image for image in content["images"] if image["id"] % 2]
    annotations.write_text(json.dumps(content))
    results = write_results(tmp_path / "r.json", read_split(data / "val"), ["a circle"] * 30)
    sentence = refusal(capsys, results, data / "val", "--subset", "even")
    assert "none of the 30 photos has an even image id; take the subset all" in sentence
