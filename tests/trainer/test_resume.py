"""A run that was stopped, killed or cut off goes on as if nothing had happened: to the bit, on a CPU."""

import itertools
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.running import ONE_OF_EACH, assert_same_weights, command, losses, position, run, start, wait_until
from trainer.__main__ import main
from trainer.checkpoint import load_checkpoint
from trainer.config import load_config
from trainer.run_state import BEST, LAST, LOG
from trainer.stopping import EXIT_STOPPED, StoppedError
from trainer.train import train

STAGES = ["cross_entropy", "fine_tune", "self_critical"]


def settings(**changes: object) -> dict[str, object]:
    small = {"train": ["val"], "hidden_size": 32, "embed_size": 16, "attention_size": 16, "warmup_steps": 2}
    return {**small, "epochs": 1, "images_per_batch": 10, "checkpoint_steps": 2, **changes}


def train_in_pieces(config: dict[str, object], data: Path, folder: Path, *, steps: int) -> int:
    """Ask the run to stop after every so many steps, and go on, until it is through; how often it was stopped."""
    for stops in range(100):
        with pytest.MonkeyPatch.context() as patch:
            asked = itertools.chain([False] * random.Random(stops).randint(1, steps), itertools.repeat(True))
            patch.setattr("trainer.run.Run._asked_to_stop", lambda run, asked=asked: next(asked))
            try:
                train(load_config("tiny", config), data, folder)
                return stops
            except StoppedError:
                pass
    raise AssertionError("the run never came to its end")


def test_a_run_in_pieces_ends_where_one_in_one_go_does(drawn_data: Path, tmp_path: Path) -> None:
    config = settings(fine_tune_epochs=1, self_critical_epochs=1)
    whole = train(load_config("tiny", config), drawn_data, tmp_path / "whole")
    assert train_in_pieces(config, drawn_data, tmp_path / "pieces", steps=4) >= 4
    assert_same_weights(tmp_path / "whole", tmp_path / "pieces")
    assert losses(tmp_path / "whole") == losses(tmp_path / "pieces")
    assert len((tmp_path / "pieces" / LOG).read_text().splitlines()) == 3
    assert whole["val"] == load_checkpoint(tmp_path / "pieces" / BEST).record["epoch"]["val"]


def test_a_finished_run_is_not_trained_again(drawn_data: Path, tmp_path: Path) -> None:
    config = load_config("tiny", settings())
    first = train(config, drawn_data, tmp_path)
    written = (tmp_path / LAST).stat().st_mtime_ns
    assert train(config, drawn_data, tmp_path) == first
    assert (tmp_path / LAST).stat().st_mtime_ns == written


def test_another_config_is_refused_unless_the_run_is_to_begin_anew(
    drawn_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(load_config("tiny", settings()), drawn_data, tmp_path / "run")
    arguments = command(drawn_data, tmp_path / "run", "--seed", "9")[1:]
    assert main(arguments) == 2
    assert "holds a run with another config" in capsys.readouterr().err
    assert main([*arguments, "--resume", "never", "--epochs", "1"]) == 0
    assert load_checkpoint(tmp_path / "run" / LAST).record["config"]["seed"] == 9


def test_sigterm_only_leaves_a_note() -> None:
    program = """
import os, signal
from trainer.stopping import stop_request
before = signal.getsignal(signal.SIGTERM)
with stop_request() as stopping:
    assert not stopping()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stopping()
assert signal.getsignal(signal.SIGTERM) is before
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_in_each_stage_ends_where_an_undisturbed_one_does(drawn_data: Path, tmp_path: Path) -> None:
    run(command(drawn_data, tmp_path / "whole", *ONE_OF_EACH), tmp_path / "log")
    killed, log = command(drawn_data, tmp_path / "killed", *ONE_OF_EACH), tmp_path / "killed.log"
    for stage in range(len(STAGES)):
        steps = random.Random(stage).randint(2, 9)
        process = start(killed, log)

        def is_there(stage: int = stage, steps: int = steps) -> bool:
            at = position(tmp_path / "killed")
            return bool(at) and (at["stage"], at["progress"]["batches"]) >= (stage, steps)

        wait_until(process, log, is_there)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    run(killed, log)
    assert_same_weights(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_sigterm_ends_a_run_with_its_own_exit_code(drawn_data: Path, tmp_path: Path) -> None:
    process = start(command(drawn_data, tmp_path / "run", "--epochs", "50"), tmp_path / "log")
    wait_until(process, tmp_path / "log", lambda: bool(position(tmp_path / "run").get("progress", {}).get("batches")))
    process.terminate()
    assert process.wait(60) == EXIT_STOPPED, (tmp_path / "log").read_text()
    assert "the same command goes on from there" in (tmp_path / "log").read_text()


KILLED_WHILE_SAVING = """
import os, pathlib, random, signal, sys, time
import torch
from trainer.checkpoint import load_checkpoint, save_checkpoint
path = pathlib.Path(sys.argv[1])
parts = {"model": {str(i): torch.full((200_000,), float(i)) for i in range(8)}}
save_checkpoint(path, parts, {"saved": 0})
rng = random.Random(0)
for attempt in range(100):
    child = os.fork()
    if not child:
        for saved in range(1, 1000):
            save_checkpoint(path, parts, {"saved": saved})
        os._exit(0)
    time.sleep(rng.uniform(0, 0.06))
    os.kill(child, rng.choice([signal.SIGKILL, signal.SIGTERM]))
    os.waitpid(child, 0)
    checkpoint = load_checkpoint(path)
    assert all(bool((t == float(name.split(".")[1])).all()) for name, t in checkpoint.tensors.items())
print("readable", attempt + 1)
"""


def test_a_hundred_saves_cut_off_leave_a_checkpoint_that_can_be_read(tmp_path: Path) -> None:
    program = [sys.executable, "-c", KILLED_WHILE_SAVING, str(tmp_path / LAST)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=200, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "readable 100", done.stderr
