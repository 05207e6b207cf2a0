"""How long training on a data set of COCO's size takes to its first step, and how much memory it holds.

`python -m tests.benchmarks.training_start FOLDER` makes the data set in FOLDER (0.5 GB; features take no room), starts
`python -m trainer train` on it, lets it make some steps and stops it. ResNet-50 features of 7 x 7 cells.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.coco_size import make_data, make_encoder_weights, make_features
from trainer.coco import read_split
from trainer.config import load_config

STEPS = 50


def main(folder: Path) -> None:
    data, run = folder / "data", folder / "run"
    make_data(data)
    weights = make_encoder_weights("resnet50", folder / "resnet50.safetensors")
    make_features(load_config(None, {"encoder_weights": str(weights)}), read_split(data / "train2017").photos, run)
    for old in run.glob("*.safetensors"):
        old.unlink()
    command = [sys.executable, "-m", "trainer", "train", "--data", str(data), "--model", str(run)]
    began, first = time.perf_counter(), 0.0
    with subprocess.Popen([*command, "--encoder-weights", str(weights)], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        shown = b""
        while chunk := os.read(process.stderr.fileno(), 65536):
            shown += chunk
            steps = max(map(int, re.findall(rb"cross_entropy 1/10.*?(\d+)/\d+ \[", shown)), default=0)
            first = first or (time.perf_counter() - began if steps else 0.0)
            if steps >= STEPS:
                peak = _peak_memory(process.pid)
                process.terminate()
                break
        else:
            raise RuntimeError(f"training ended before {STEPS} steps: {shown.decode()[-2000:]}")
        process.stderr.read()
    print(f"first step after {first:.1f} s; peak memory after {steps} steps {peak / 1e9:.2f} GB")


def _peak_memory(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]))
