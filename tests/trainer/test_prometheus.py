"""What Prometheus sees of a run."""

import re
import socket
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from tests.trainer.test_train import small
from trainer.__main__ import main
from trainer.loop import Progress
from trainer.prometheus import RunMetrics
from trainer.train import train

PREFIX = "caption_trainer_"
EVERY = {
    "epoch",
    "planned_epochs",
    "loss",
    "images_per_second",
    "images_total",
    "learning_rate",
    "val_cider_d",
    "best_val_cider_d",
    "last_update_timestamp_seconds",
}


def told(text: str) -> dict[str, float]:
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name.removeprefix(PREFIX): sample.value for sample in samples}


def scrape_until_it_ends(caplog: pytest.LogCaptureFixture, scraped: list[dict[str, float]]) -> None:
    while not (found := re.search(r"metrics on (http://)\S+?(:\d+/metrics)", caplog.text)):
        time.sleep(0.01)
    address = f"{found[1]}127.0.0.1{found[2]}"
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                scraped.append(told(answer.read().decode()))
        except OSError:
            return
        time.sleep(0.02)


def test_a_run_can_be_watched_on_a_port_and_leaves_its_numbers_in_a_file(
    drawn_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    scraped: list[dict[str, float]] = []
    watching = threading.Thread(target=scrape_until_it_ends, args=(caplog, scraped))
    watching.start()
    textfile = tmp_path / "run.prom"
    best = train(small(), drawn_data, tmp_path / "run", metrics_port=0, metrics_textfile=textfile)
    watching.join(20)
    assert not watching.is_alive(), "the port is open after the run"
    assert all(set(each) == EVERY for each in scraped)
    assert [each["epoch"] for each in scraped] == sorted(each["epoch"] for each in scraped)
    assert scraped[-1]["planned_epochs"] == 2
    assert any(0 < each["images_total"] < 120 for each in scraped), "it is told while it goes on"
    last = told(textfile.read_text())
    assert last["epoch"] == 2
    assert last["images_total"] == 120
    assert last["best_val_cider_d"] == best["val"]["CIDEr-D"]
    assert last["images_per_second"] > 0
    assert time.time() - 60 < last["last_update_timestamp_seconds"] <= time.time()
    train(small(), drawn_data, tmp_path / "run", metrics_textfile=textfile)
    again = told(textfile.read_text())
    assert {name: again[name] for name in ("epoch", "loss", "val_cider_d", "best_val_cider_d")} == {
        name: last[name] for name in ("epoch", "loss", "val_cider_d", "best_val_cider_d")
    }, "a run that is taken up again begins with what it had"


def test_the_file_is_whole_whenever_it_is_read(tmp_path: Path) -> None:
    textfile = tmp_path / "run.prom"
    metrics = RunMetrics(CollectorRegistry(), textfile)
    metrics.begin(1, [])
    line = {"epoch": 1, "loss": 1.0, "images_per_second": 1.0, "learning_rate": 1.0, "val": {"CIDEr-D": 1.0}}

    def write() -> None:
        for _ in range(300):
            metrics.after_epoch(line, 1.0)

    writing = threading.Thread(target=write)
    writing.start()
    while writing.is_alive():
        assert set(told(textfile.read_text())) == EVERY
    assert list(tmp_path.iterdir()) == [textfile]


def test_a_disk_that_fills_up_later_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "folder").mkdir()
    metrics = RunMetrics(CollectorRegistry(), tmp_path / "folder" / "run.prom")
    metrics.begin(1, [])
    (tmp_path / "folder" / "run.prom").unlink()
    (tmp_path / "folder").rmdir()
    metrics._written_at = -1000
    metrics.after_step(Progress(batches=1, loss=1.0, words=1.0, images=1.0, seconds=1.0), 0.1)
    assert "run.prom is not written" in caplog.text


def test_a_port_that_is_taken_and_a_file_that_cannot_be_are_told_in_a_sentence(
    drawn_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "train",
        "--preset",
        "tiny",
        "--data",
        str(drawn_data),
        "--model",
        str(tmp_path / "run"),
        "--train",
        "val",
    ]
    with socket.create_server(("0.0.0.0", 0)) as taken:
        assert main([*command, "--metrics-port", str(taken.getsockname()[1])]) == 1
    assert main([*command, "--metrics-textfile", str(tmp_path / "nowhere" / "run.prom")]) == 1
    for port in ("70000", "-1", "http"):
        with pytest.raises(SystemExit, match="2"):
            main([*command, "--metrics-port", port])
    told = capsys.readouterr().err
    assert "Address already in use" in told
    assert "nowhere/run.prom" in told
    assert "'70000' is no port" in told
    assert "Traceback" not in told
