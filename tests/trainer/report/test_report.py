"""The command, on runs as training leaves them."""

import base64
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.trainer.report.html_pages import Page
from tests.trainer.report.report_runs import LINES, made_run
from trainer.__main__ import main
from trainer.checkpoint import load_checkpoint, save_checkpoint
from trainer.report.curves import show
from trainer.report.run_log import figures
from trainer.run_state import BEST, LOG


def report(run: Path, data: Path, *more: str) -> int:
    return main(["report", "--model", str(run), "--data", str(data), *more])


@pytest.fixture(scope="module")
def written(tiny_run: Path, drawn_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run that learned something."""
    out = tmp_path_factory.mktemp("report") / "pages" / "page.html"
    assert report(tiny_run, drawn_data, "--out", str(out), "--photos", "4") == 0
    return out


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page(written.read_text())


def captions_of(page: Page) -> list[str]:
    return page.texts_of("p", class_="caption")


def test_the_page_holds_every_figure_of_every_epoch(page: Page, tiny_run: Path) -> None:
    lines = [json.loads(line) for line in (tiny_run / LOG).read_text().splitlines()]
    assert len(lines) > 2
    for line in lines:
        for name, value in figures(line).items():
            assert name in page.texts
            assert show(value) in page.texts
    titles = {"Validation CIDEr-D", "Validation BLEU-4", "Training loss", "Images per second", "Unique captions"}
    assert titles <= set(page.texts)


def test_the_scores_of_the_best_epoch_are_on_the_page(page: Page, tiny_run: Path) -> None:
    best = load_checkpoint(tiny_run / BEST).record["epoch"]
    assert all(f"{value:.2f}" in page.texts for value in best["val"].values())


def test_nothing_on_the_page_leaves_it(page: Page) -> None:
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    anchors = {f"#{found['id']}" for _, found in page.elements if "id" in found}
    assert page.links
    assert all(link in anchors or link.startswith("data:image/jpeg;base64,") for link in page.links)


def test_every_word_has_its_picture(page: Page) -> None:
    cards = len(page.all("article"))
    assert cards == 4 + 4 + 2
    words = sum(len(caption.split()) for caption in captions_of(page))
    assert len(page.all("img")) == cards + words
    assert len([image for image in page.all("img") if image["alt"].startswith("where the model looked")]) == words


def test_the_pictures_are_small_jpegs_of_the_photos(page: Page, written: Path) -> None:
    for image in page.all("img"):
        picture = Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2])))
        assert picture.format == "JPEG"
        assert max(picture.size) <= 448
        assert picture.size == (int(image["width"]), int(image["height"]))
    assert written.stat().st_size < 1_000_000


def test_the_best_come_first_and_agree_with_the_log(page: Page, tiny_run: Path) -> None:
    """The log's captions came from features in half precision: a photo or two may differ."""
    best = load_checkpoint(tiny_run / BEST).record["epoch"]["val"]["CIDEr-D"]
    (about,) = [text for text in page.texts if text.startswith("Chosen from 60 photos of val")]
    assert float(about.partition("over all of them it is ")[2].split()[0].rstrip(".")) == pytest.approx(best, rel=0.03)
    scores = [float(text.split()[1].rstrip(",")) for text in page.texts if text.startswith("CIDEr-D ") and "," in text]
    assert scores[:4] == sorted(scores[:4], reverse=True)
    assert scores[4:8] == sorted(scores[4:8])
    assert min(scores[:4]) > best > max(scores[4:8])


def test_every_reference_of_a_shown_photo_is_on_the_page(page: Page, drawn_data: Path) -> None:
    content = json.loads((drawn_data / "annotations" / "captions_val.json").read_text())
    shown = [image for image in content["images"] if f"photo {image['file_name']}" in page.text]
    assert len(shown) == 10
    for annotation in content["annotations"]:
        if annotation["image_id"] in {image["id"] for image in shown}:
            assert annotation["caption"] in page.texts


def hostile_data(folder: Path, drawn_data: Path) -> Path:
    """Six drawn pictures, tall ones, whose names and captions would be markup."""
    content = json.loads((drawn_data / "annotations" / "captions_val.json").read_text())
    (folder / "annotations").mkdir(parents=True)
    (folder / "odd").mkdir()
    for image in content["images"][:6]:
        name = f'"><img src=x onerror=alert({image["id"]})>.jpg'
        tall = Image.open(drawn_data / "val" / image["file_name"]).resize((60, 900))
        tall.save(folder / "odd" / name)
        image["file_name"] = name
    ids = {image["id"] for image in content["images"][:6]}
    annotations = [{**a, "caption": f"</p><script>{a['caption']}</script>"} for a in content["annotations"]]
    content |= {"images": content["images"][:6], "annotations": [a for a in annotations if a["image_id"] in ids]}
    (folder / "annotations" / "captions_odd.json").write_text(json.dumps(content))
    return folder


def test_hostile_captions_and_file_names_stay_text_and_the_default_place_is_the_run(
    drawn_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = hostile_data(tmp_path / "data", drawn_data)
    run = made_run(tmp_path / "run", data, val="odd", resize="crop")
    assert report(run, data, "--photos", "2") == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    page = Page((run / "report.html").read_text())
    assert page.all("script") == []
    assert all("onerror" not in found for _, found in page.elements)
    assert page.text.count("onerror=alert(") == 5
    assert page.text.count("</p><script>") == 25
    assert {image["height"] for image in page.all("img")} == {"448", "112"}
    assert "central square alone" in page.text


def test_another_split_can_be_shown(drawn_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(drawn_data / "val", data / "other")
    (data / "annotations").mkdir()
    shutil.copy(drawn_data / "annotations" / "captions_val.json", data / "annotations" / "captions_other.json")
    run = made_run(tmp_path / "run", drawn_data)
    assert report(run, data, "--photos", "1", "--split", "other") == 0
    assert "Chosen from 60 photos of other" in (run / "report.html").read_text()


def test_without_photos_the_data_is_not_looked_at(tmp_path: Path, drawn_data: Path) -> None:
    run = made_run(tmp_path / "run", drawn_data)
    assert report(run, Path("/nowhere"), "--photos", "0") == 0
    page = Page((run / "report.html").read_text())
    assert page.all("img") == []
    assert "2.125" in page.texts


def test_lines_of_the_log_with_unknown_or_missing_keys_do_not_break_it(tmp_path: Path, drawn_data: Path) -> None:
    odd: list[Any] = [
        {"epoch": 1},
        {"loss": 2.5, "magic": {"level": 3}},
        [],
        "text",
        {"stage": "self_critical", "reward": 0.75},
    ]
    run = made_run(tmp_path / "run", drawn_data, [*odd, LINES[1]])
    with (run / LOG).open("a") as log:
        log.write('{"epoch": 3, "lo')
    assert report(run, drawn_data, "--photos", "0") == 0
    assert {"Reward", "magic/level", "2.500", "0.750"} <= set(Page((run / "report.html").read_text()).texts)


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        ([], 1, "holds no best.safetensors; name the folder of a run that has finished an epoch"),
        (["--photos", "-1"], 2, "--photos is -1; it must be 0 or more"),
    ],
)
def test_no_run_or_no_number_is_one_sentence(
    more: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(tmp_path, tmp_path, *more) == code
    assert report(tmp_path / "missing", tmp_path, *more) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 2
    assert message in error


def test_what_cannot_be_used_is_one_sentence_and_leaves_no_page(
    tmp_path: Path, drawn_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made_run(tmp_path / "run", drawn_data)
    assert report(run, Path("/nowhere")) == 1
    assert "/nowhere/val does not exist" in capsys.readouterr().err
    assert report(run, drawn_data, "--out", str(tmp_path)) == 1
    assert f"{tmp_path} is a folder; name a file" in capsys.readouterr().err
    checkpoint = load_checkpoint(run / BEST)
    parts = {"model": {**checkpoint.part("model"), "decoder.project.bias": torch.zeros(3)}}
    save_checkpoint(run / BEST, parts, checkpoint.record)
    assert report(run, drawn_data) == 1
    error = capsys.readouterr().err
    assert "is of another version of the network and cannot be run" in error
    assert "Traceback" not in error
    (run / BEST).write_bytes(b"half a file")
    assert report(run, drawn_data) == 1
    assert "is not a checkpoint of this trainer" in capsys.readouterr().err
    assert not (run / "report.html").exists()
