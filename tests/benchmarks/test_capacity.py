"""`service/CAPACITY.md` is what its script computes, and the script computes what it says."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.capacity import DOCUMENT, FIGURES, Place, document, places, taken
from tests.benchmarks.records import append

PROJECT = Path(__file__).parents[2]
FIGURES_NOW = json.loads((PROJECT / FIGURES).read_text())


def test_the_document_is_what_the_script_writes() -> None:
    assert (PROJECT / DOCUMENT).read_text() == document(FIGURES_NOW)


def test_machines_and_money_follow_from_the_rate() -> None:
    place = Place("a machine", captions_per_s=100.0, usd_per_hour=3.6)
    assert place.days(8_640_000) == 1
    assert place.machines(8_640_001, 0.5) == 3
    assert place.usd(1_000_000) == pytest.approx(10)


def test_every_gpu_is_an_estimate_and_bound_by_the_cores_that_read_for_it() -> None:
    cpu, *gpus = places(FIGURES_NOW)
    assert cpu.mark == "*extrapolated*"
    assert gpus
    assert all(gpu.mark == "*estimate*" for gpu in gpus)
    for gpu, assumed in zip(gpus, FIGURES_NOW["assumed"]["gpus"], strict=True):
        assert gpu.captions_per_s <= assumed["cores"] * FIGURES_NOW["measured"]["decode"]["value"] / 2
    starved = {**FIGURES_NOW, "measured": {**FIGURES_NOW["measured"], "decode": {"value": 2}}}
    assert [gpu.captions_per_s for gpu in places(starved)[1:]] == [g["cores"] for g in FIGURES_NOW["assumed"]["gpus"]]
    lines = document(FIGURES_NOW).splitlines()
    assert all("*estimate*" in line for line in lines if line.startswith("|") and ("L4" in line or "H100" in line))


def test_new_figures_are_medians_of_what_was_measured(tmp_path: Path) -> None:
    for turn, rate in enumerate([10.0, 50.0, 20.0]):
        record = {"run": "a", "turn": turn, "load": "files to captions", "name": "bulk", "captions_per_s": rate}
        append(tmp_path / "bulk.jsonl", record)
    new = taken(FIGURES_NOW, tmp_path)["measured"]
    assert new["bulk"]["value"] == 20.0
    assert new["service"] == FIGURES_NOW["measured"]["service"]
