from pathlib import Path

import pytest

from trainer.report.run_log import figures, positions, read_log, stage_changes


def test_lines_that_are_no_objects_are_told_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"epoch": 1}\n\n[2]\n7\n{"epoch": 2, "loss": NaN}\n{"epoch": 3, "lo')
    assert [line["epoch"] for line in read_log(log)] == [1, 2]
    assert [record.getMessage().split(" is no")[0][-7:] for record in caplog.records] == [
        "line 3,",
        "line 4,",
        "line 6,",
    ]


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"epoch": 1}\n\xff\xfe\x00\n{"epoch": 2}\n')
    assert [line["epoch"] for line in read_log(log)] == [1, 2]


def test_a_run_without_a_log_has_no_lines(tmp_path: Path) -> None:
    assert read_log(tmp_path / "log.jsonl") == []


def test_figures_are_the_numbers_of_a_line_however_deep() -> None:
    line = {
        "epoch": 1,
        "stage": "fine_tune",
        "done": True,
        "val": {"CIDEr-D": 50.5},
        "health": {"a": {"b": 2}},
        "x": None,
    }
    assert figures(line) == {"epoch": 1.0, "val/CIDEr-D": 50.5, "health/a/b": 2.0}


def test_rising_epochs_are_the_axis_and_others_are_counted() -> None:
    assert positions([{"epoch": 3}, {"epoch": 5}]) == [3, 5]
    assert positions([{"epoch": 1}, {"epoch": 2}, {"epoch": 1}]) == [1, 2, 3]
    assert positions([{"epoch": "one"}, {}]) == [1, 2]
    assert positions([]) == []


def test_stages_and_restarts_are_changes() -> None:
    stages = ["cross_entropy", "cross_entropy", "self_critical", "self_critical"]
    lines = [{"epoch": epoch, "stage": stage} for epoch, stage in enumerate(stages)]
    assert stage_changes(lines) == {2: "self-critical"}
    assert stage_changes([{"epoch": 1}, {"epoch": 2}, {"epoch": 1}]) == {2: "restart"}
    assert stage_changes([{"loss": 1}, {"loss": 2}]) == {}
