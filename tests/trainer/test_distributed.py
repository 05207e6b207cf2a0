"""Two processes under torchrun do what one does."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.running import PATIENCE_S, assert_same_weights, command, losses, position, run, start
from trainer.checkpoint import load_checkpoint
from trainer.data_loader import EpochSampler
from trainer.distributed import process_group
from trainer.run_state import BEST

TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def stepped(tmp_path: Path, steps: int, precision: str, *, launcher: list[str]) -> list[float]:
    out = tmp_path / f"{precision}-{len(launcher)}.json"
    run(["tests.trainer.stepping", str(out), str(steps), precision], tmp_path / "log", launcher=launcher)
    return json.loads(out.read_text())


def test_alone_there_is_nothing_to_agree_on() -> None:
    with process_group() as group:
        assert (group.rank, group.size, group.is_first) == (0, 1, True)
        assert group.sum(1.5, 2) == [1.5, 2]
        assert group.merge({3: "x"}) == {3: "x"}
        assert group.first("mine") == "mine"


def test_the_shares_of_all_processes_are_the_batch_of_one() -> None:
    whole = list(EpochSampler(21, batch_size=4, seed=3, mirror=True))
    shares = [list(EpochSampler(21, batch_size=4, seed=3, mirror=True, rank=r, processes=3)) for r in range(3)]
    for i, batch in enumerate(whole):
        together = [draw for share in shares for draw in share[i] if draw.counts]
        assert sorted(together) == sorted(batch)
        assert all(share[i] for share in shares), "every process has something to do"


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    one, two = (stepped(tmp_path, 200, "fp64", launcher=launcher) for launcher in ([], TORCHRUN))
    assert np.abs(np.subtract(one, two)).max() <= 1e-9
    assert one[-1] != pytest.approx(one[0], rel=0.01), "the weights moved"
    one, two = (stepped(tmp_path, 50, "fp32", launcher=launcher) for launcher in ([], TORCHRUN))
    np.testing.assert_allclose(one, two, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_under_torchrun_learns_and_scores_as_one_process_does(drawn_data: Path, tmp_path: Path) -> None:
    arguments = ["--epochs", "2", "--dropout", "0.0", "--train", "train", "--images-per-batch", "20"]
    arguments += ["--precision", "fp64"]  # in fp32 the order of additions soon tells, as the rate is high
    for name, launcher in (("one", []), ("two", TORCHRUN)):
        run(command(drawn_data, tmp_path / name, *arguments), tmp_path / f"{name}.log", launcher=launcher)
    np.testing.assert_allclose(losses(tmp_path / "one"), losses(tmp_path / "two"), rtol=1e-9)
    scores = [load_checkpoint(tmp_path / name / BEST).record["epoch"]["val"]["CIDEr-D"] for name in ("one", "two")]
    assert scores[0] == pytest.approx(scores[1], abs=0.5)
    assert (tmp_path / "two.log").read_text().count("to learn from") == 1, "rank 0 alone prints"


def workers(launcher: "subprocess.Popen[bytes]") -> list[int]:
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    return [int(child) for child in children]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_elastic_agent_restarts_a_killed_run_from_its_last_checkpoint(drawn_data: Path, tmp_path: Path) -> None:
    arguments, elastic = ["--epochs", "2", "--fine-tune-epochs", "1"], [*TORCHRUN, "--max-restarts", "2"]
    run(command(drawn_data, tmp_path / "whole", *arguments), tmp_path / "log", launcher=TORCHRUN)
    log = tmp_path / "killed.log"
    process = start(command(drawn_data, tmp_path / "killed", *arguments), log, launcher=elastic)
    patience = time.monotonic() + PATIENCE_S
    while position(tmp_path / "killed").get("epochs", 0) < 1:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < patience
        time.sleep(0.01)
    os.kill(workers(process)[-1], signal.SIGKILL)
    assert process.wait(PATIENCE_S) == 0, log.read_text()
    assert_same_weights(tmp_path / "whole", tmp_path / "killed")
    assert log.read_text().count("going on") == 1
