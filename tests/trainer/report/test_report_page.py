"""The page made of a record and a log alone, without photos."""

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.trainer.report.html_pages import Page
from tests.trainer.report.report_runs import LINES
from trainer.config import TrainConfig
from trainer.report.page import Run, duration, report_page

HOSTILE = "</title></p><script>alert('1')</script><img src=x onerror=\"alert(2)\">&amp;\ud800"


def record(**changes: Any) -> dict[str, Any]:
    return {
        "config": TrainConfig(name="sunday", dropout=0.25).to_dict(),
        "architecture": {"vocabulary_size": 4, "backbone": "resnet50"},
        "vocabulary": ["<pad>", "<start>", "<end>", "<unk>"],
        "preprocessing": {"size": 224, "resize": "crop", "mean": [0, 0, 0], "std": [1, 1, 1]},
        "splits": {
            "train2017": {"photos": 8000, "captions": 40000, "sha256": "x"},
            "val2017": {"photos": 60, "captions": 300},
        },
        "revision": "0123456789abcdef",
        "versions": {"torch": "2.0.1", "timm": "1.2.3"},
        "epoch": LINES[1],
        "seconds": 123.0,
        **changes,
    }


def page(lines: list[Any] = LINES, **changes: Any) -> Page:
    finished = datetime(2024, 3, 9, 17, 5, tzinfo=UTC)
    return Page(report_page(Run(record(**changes), lines, finished, parameters=12_345_678), None).decode())


def test_the_head_says_what_became_of_the_run() -> None:
    text = page().text
    for fact in (
        "sunday",
        "9 March 2024, 17:05 UTC",
        "81.2",
        "2 of 2",
        "2 min 3 s",
        "train2017 (8,000 photos, 40,000 captions)",
        "Validated on val2017 (60 photos, 300 captions)",
        "torch 2.0.1",
        "0123456789ab",
        "12.3 million",
        "1.2.3",
    ):
        assert fact in text


def test_settings_that_differ_from_the_defaults_are_marked() -> None:
    changed = page().all("tr", class_="changed")
    assert len(changed) == 2, "name and dropout"
    assert len(page(config=TrainConfig().to_dict()).all("tr", class_="changed")) == 0


def test_lists_that_went_through_json_are_no_change() -> None:
    config = {name: list(v) if isinstance(v, tuple) else v for name, v in TrainConfig().to_dict().items()}
    assert page(config=config).all("tr", class_="changed") == []


def test_a_setting_of_another_version_is_shown_as_such() -> None:
    assert "not known to this version" in page(config={**TrainConfig().to_dict(), "momentum": 0.9}).text


def test_the_best_epoch_is_marked_in_the_table() -> None:
    assert len(page().all("tr", class_="chosen")) == 1
    assert page([LINES[0]]).all("tr", class_="chosen") == []


def test_what_else_the_record_says_of_the_machine_is_shown() -> None:
    text = page(machine={"processors": 96, "gpus": ["A100"]}, precision="bf16").text
    assert all(fact in text for fact in ("processors", "96", "A100", "precision", "bf16"))


def test_nothing_that_a_run_is_called_can_become_markup() -> None:
    config = {**TrainConfig(name=HOSTILE).to_dict(), HOSTILE: HOSTILE}
    lines = [*LINES, {"epoch": 3, "stage": HOSTILE, HOSTILE: 1.5, "val": {HOSTILE: 2.5}}]
    made = page(lines, config=config, splits={HOSTILE: {"photos": 1}}, versions={HOSTILE: HOSTILE}, epoch=lines[-1])
    assert made.all("script") == made.all("img") == []
    assert "onerror" not in {name for _, found in made.elements for name in found}
    assert made.text.count("<script>alert('1')</script>") > 5


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [{}],
        [{"epoch": None, "loss": "high", "val": None}, {"epoch": 1, "val": {}}],
        [{"epoch": 2, "loss": float("nan")}, {"epoch": 1, "loss": float("-inf"), "val": [1, 2]}],
        [{"epoch": 10**12, "health": {"a": {"b": 1}}}, {"stage": 7}],
        [{"epoch": -5, "loss": 0}, {"epoch": 5, "loss": 0}],
    ],
)
def test_a_log_of_any_shape_makes_a_page(lines: list[Any]) -> None:
    assert "sunday" in page(lines).text
    assert "sunday" in page(lines, epoch=lines[0] if lines else {}).text


def test_a_record_that_lacks_what_is_not_needed_makes_a_page() -> None:
    lean = {key: record()[key] for key in ("config", "architecture", "vocabulary", "preprocessing")}
    made = Page(report_page(Run(lean, [], datetime.now(UTC), 0), None).decode())
    assert "sunday" in made.text
    assert "no log" in made.text


def test_the_page_forbids_whatever_it_does_not_need() -> None:
    made = page()
    (policy,) = made.all("meta", **{"http-equiv": "Content-Security-Policy"})
    style = next(text for text in made.texts if "prefers-color-scheme" in text)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy["content"].startswith("default-src 'none'; img-src data:; ")
    assert f"style-src 'sha256-{digest}'" in policy["content"]
    assert "script-src" not in policy["content"]
    assert [name for _, found in made.elements for name in found if name == "style" or name.startswith("on")] == []
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (3600, "1 h 0 min"), (90061, "25 h 1 min")],
)
def test_durations_are_told_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
