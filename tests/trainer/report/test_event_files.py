import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.report.report_runs import LINES, made_run
from trainer.__main__ import main
from trainer.report.event_files import write_event_files


def test_without_the_package_it_is_one_sentence_and_no_page(
    drawn_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    run = made_run(tmp_path / "run", drawn_data)
    arguments = ["report", "--model", str(run), "--data", str(drawn_data), "--tensorboard", str(tmp_path / "events")]
    assert main(arguments) == 1
    assert "--tensorboard needs the package `tensorboard`, which is not installed" in capsys.readouterr().err
    assert not (run / "report.html").exists()
    assert not (tmp_path / "events").exists()


def scalars_in(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """As TensorBoard itself reads them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: Any = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
        events = module.EventAccumulator(str(folder))
        events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_reads_the_curves_of_the_log_once_even_if_written_twice(tmp_path: Path) -> None:
    write_event_files(LINES, tmp_path)
    write_event_files([*LINES, {"epoch": 3, "reward": 0.5, "stage": "self_critical"}], tmp_path)
    assert scalars_in(tmp_path) == {
        "loss": [(1, 3.25), (2, 2.125)],
        "val/BLEU-4": [(1, 10.25), (2, 21.5)],
        "val/CIDEr-D": [(1, 50.5), (2, 81.25)],
        "seconds": [(1, 61.0), (2, 62.0)],
        "reward": [(3, 0.5)],
    }
