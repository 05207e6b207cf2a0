"""Trainers as programs of their own, to be watched, stopped and killed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from trainer.checkpoint import load_checkpoint
from trainer.run_state import BEST, LAST

PATIENCE_S = 240
ONE_OF_EACH = ["--epochs", "1", "--fine-tune-epochs", "1", "--self-critical-epochs", "1"]
SMALL = ["--train", "val", "--images-per-batch", "4", "--warmup-steps", "3", "--checkpoint-steps", "2"]


def command(data: Path, folder: Path, *arguments: str) -> list[str]:
    options = ["--preset", "tiny", "--data", str(data), "--model", str(folder), *SMALL, *arguments]
    return ["trainer", "train", *options]


def start(program: Sequence[str], log: Path, *, launcher: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
    """`python -m program`, by way of `launcher`, with its output in `log`."""
    launch = [sys.executable, "-m", *launcher, *(["-m"] if launcher else []), *program]
    with log.open("ab") as output:
        return subprocess.Popen(launch, stdout=output, stderr=output, env={**os.environ, "OMP_NUM_THREADS": "1"})


def run(program: Sequence[str], log: Path, *, launcher: Sequence[str] = ()) -> None:
    process = start(program, log, launcher=launcher)
    assert process.wait(PATIENCE_S) == 0, log.read_text()


def position(folder: Path) -> dict[str, Any]:
    """Where the run's `last` stands; {} while there is none, or while it is being replaced under the reader."""
    try:
        with safe_open(folder / LAST, "pt") as file:
            return json.loads(file.metadata()["record"])["state"]["position"]
    except (OSError, SafetensorError, RuntimeError):
        return {}


def wait_until(process: "subprocess.Popen[bytes]", log: Path, is_there: Callable[[], bool]) -> None:
    patience = time.monotonic() + PATIENCE_S
    while not is_there():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < patience, log.read_text()
        time.sleep(0.005)


def assert_same_weights(folder: Path, other: Path) -> None:
    for name in (LAST, BEST):
        one, two = load_checkpoint(folder / name), load_checkpoint(other / name)
        assert set(one.tensors) == set(two.tensors)
        assert [key for key, tensor in one.tensors.items() if not torch.equal(tensor, two.tensors[key])] == []


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in load_checkpoint(folder / LAST).record["state"]["lines"]]
