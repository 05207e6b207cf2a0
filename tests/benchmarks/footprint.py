"""What a server costs before anyone asks it anything: time to its first caption, installed size, idle CPU, memory.

`python -m tests.benchmarks.footprint --peers litserve,mosec --idle 20`
"""

import argparse
import importlib.metadata
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from tests.benchmarks import report
from tests.benchmarks.bounds import OURS
from tests.benchmarks.contestants import Contestant, contestants, start
from tests.benchmarks.load import Target, put_load
from tests.benchmarks.pictures import jpeg
from tests.benchmarks.processes import calibrate, end_by_exit
from tests.benchmarks.records import append

PROJECT = "image-caption-service"
LOAD = "start, size, idle CPU, memory"
ENGINE = ("openvino", "numpy", "pillow", "safetensors")
EAGER = ("torch", "timm", "torchvision", "pillow", "safetensors", "uvicorn", "python-multipart")
PACKAGES = {
    OURS: (PROJECT,),
    "litserve": ("litserve", *ENGINE),
    "mosec": ("mosec", *ENGINE),
    "bentoml": ("bentoml", *ENGINE),
    "fastapi-eager": ("fastapi", *EAGER),
    "litserve-eager": ("litserve", *EAGER),
}
PICTURES, LOAD_S, SETTLE_S = 32, 10.0, 3.0


def main() -> None:
    end_by_exit()
    every = contestants(options().service_python)
    run = time.strftime("%Y-%m-%dT%H:%M:%S")
    for name in [OURS, *options().peers]:
        speed = calibrate()
        figures = measure(every[name], options().idle)
        append(report.FOOTPRINT, {"run": run, "turn": 0, "load": LOAD, "name": name, "calibration": speed, **figures})
        print(name, figures, flush=True)
    report.main()


def measure(contestant: Contestant, idle_s: float) -> dict[str, Any]:
    pictures = [jpeg(seed) for seed in range(PICTURES)]
    running = start(contestant, pictures[0], report.BUILD / "logs")
    try:
        time.sleep(SETTLE_S)
        fresh = running.program.resident_bytes()
        cpu = running.program.cpu_seconds()
        time.sleep(idle_s)
        idle = (running.program.cpu_seconds() - cpu) / idle_s
        requests = [contestant.request(picture) for picture in pictures]
        target = Target(running.port, requests, [""] * PICTURES, contestant.caption_in)
        put_load(target, clients=PICTURES, seconds=LOAD_S)
        return {
            "start_s": running.start_s,
            "installed_mb": installed_bytes(contestant.name) / 1e6,
            "idle_cpu_percent": 100 * idle,
            "memory_mb": fresh / 1e6,
            "memory_after_load_mb": running.program.resident_bytes() / 1e6,
        }
    finally:
        running.program.stop()


def installed_bytes(name: str) -> int:
    """Of the packages that such a server needs and of all that those need, without this project and its model."""
    packages = [package for package in closure(PACKAGES[name]) if package.name != PROJECT]
    files = {str(path.locate()) for package in packages for path in package.files or []}
    found = subprocess.run(["du", "-cb", "--files0-from=-"], input="\0".join(files), capture_output=True, text=True)
    return int(found.stdout.splitlines()[-1].split()[0])


def closure(names: tuple[str, ...]) -> list[importlib.metadata.Distribution]:
    found: dict[str, importlib.metadata.Distribution] = {}
    wanted = list(names)
    while wanted:
        name = _plain(wanted.pop())
        if name not in found:
            try:
                found[name] = importlib.metadata.distribution(name)
            except importlib.metadata.PackageNotFoundError:
                continue  # for another system
            wanted += _required(found[name])
    return list(found.values())


def _required(package: importlib.metadata.Distribution) -> Iterator[str]:
    for requirement in package.requires or []:
        if not re.search(r"extra\s*==", requirement):
            yield re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def options() -> argparse.Namespace:
    every = [name for name in contestants("python") if name != OURS]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.footprint")
    parser.add_argument("--peers", type=lambda text: [n for n in text.split(",") if n], default=every)
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of watching an idle server")
    parser.add_argument("--service-python", default=".venv/bin/python", help="with the service's own packages only")
    return parser.parse_args()


if __name__ == "__main__":
    main()
