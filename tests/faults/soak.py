"""Mixed traffic for as long as is wanted: good and broken pictures, bombs, faults, leavers, new models, broken ones.

    python -m tests.faults.soak VOLUME [SECONDS] -> build/soak.json

VOLUME holds the model to serve (`current`); it is copied, not changed.
"""

import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from shared.bundle import CURRENT, publish, resolve_bundle
from tests.faults.clients import Stage, ask, ask_with_fault, captions_of, leave, picture
from tests.faults.conftest import resident_bytes
from tests.faults.test_injected import FAULTS
from tests.faults.test_reload import cut_off, point
from tests.service import pictures
from tests.service.conftest import Program, running
from tests.service.test_model_source import renamed

CLIENTS = 6
SWAP_S = 5.0
GOOD = 32
"""Pictures that go well; those with faults have other numbers."""
STAGES: tuple[Stage, ...] = ("connected", "head", "half_body", "body", "reply")


@dataclass(frozen=True)
class Soaked:
    seconds: float
    answers: dict[str, int]
    """By what was sent and what came back."""
    swaps: int
    resident_mb: list[float]
    """Once a second."""

    @property
    def unexpected(self) -> list[str]:
        wanted = {"good 200", "broken 422", "bomb 413", "fault 500"}
        return sorted(set(self.answers) - wanted)

    @property
    def growth_per_hour(self) -> float:
        """The slope of the resident memory over the last three quarters, as a share of its mean."""
        settled = np.array(self.resident_mb[len(self.resident_mb) // 4 :])
        return float(np.polyfit(np.arange(len(settled)), settled, 1)[0] * 3600 / settled.mean())

    @property
    def growth(self) -> float:
        """From the second quarter to the last one, as a share."""
        quarter = len(self.resident_mb) // 4
        early, late = self.resident_mb[quarter : 2 * quarter], self.resident_mb[-quarter:]
        return float(np.median(late) / np.median(early) - 1)


async def soak(program: Program, bundle: Path, volume: Path, seconds: float) -> Soaked:
    good = [picture(seed) for seed in range(GOOD)]
    captions = await captions_of(program.port, good)
    answers: Counter[str] = Counter()
    resident: list[float] = []
    until = time.monotonic() + seconds
    bomb, broken = pictures.bomb(), pictures.truncated_jpeg()

    async def client(seed: int) -> None:
        dice = random.Random(seed)
        while time.monotonic() < until:
            kind = dice.choices(["good", "broken", "bomb", "fault", "leaver"], [70, 8, 4, 8, 10])[0]
            which = dice.randrange(len(good))
            if kind == "leaver":
                await leave(program.port, os.urandom(8), dice.choice(STAGES), after_s=dice.random() / 20)
                continue
            if kind == "fault":
                answer = await ask_with_fault(program.port, picture(dice.randrange(GOOD, 10**6)), dice.choice(FAULTS))
            else:
                body = {"good": good[which], "broken": broken, "bomb": bomb}[kind]
                answer = await ask(program.port, body + tail())
            right = kind != "good" or answer.status != 200 or answer.caption == captions[which]
            answers[f"{kind} {answer.status}" + ("" if right else " wrong caption")] += 1

    async def watch() -> None:
        while time.monotonic() < until:
            resident.append(resident_bytes(program.process.pid) / 1e6)
            await asyncio.sleep(1)

    swapping = asyncio.create_task(asyncio.to_thread(swap_models, bundle, volume, until))
    await asyncio.gather(watch(), *(client(seed) for seed in range(CLIENTS)))
    return Soaked(seconds, dict(sorted(answers.items())), await swapping, resident)


def tail() -> bytes:
    """Bytes that make a picture another one. Without 0xff: a marker of JPEG among them could end a broken one well."""
    return os.urandom(8).replace(b"\xff", b"\0")


def swap_models(bundle: Path, volume: Path, until: float) -> int:
    """A new version every few seconds, now and then a broken one between; old ones are removed."""
    number = 0
    while time.monotonic() + SWAP_S < until:
        time.sleep(SWAP_S)
        number += 1
        with tempfile.TemporaryDirectory() as folder:
            new = renamed(bundle, Path(folder) / "new", f"soak-{number}")
            if number % 4 == 0:
                shutil.copytree(new.path, volume / new.version)
                cut_off(volume / new.version)
                point(volume, new.version)
            else:
                publish(new, volume)
        shutil.rmtree(volume / f"soak-{number - 3}", ignore_errors=True)
    return number


def run(volume: Path, seconds: float) -> Soaked:
    bundle = resolve_bundle(volume)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "volume"
        shutil.copytree(bundle, copy / bundle.name)
        (copy / CURRENT).write_text(bundle.name)
        with running("tests.faults.service", model=copy, precision="fp32", reload_poll_s=0.5) as program:
            return asyncio.run(soak(program, bundle, copy, seconds))


def main(volume: Path, seconds: float) -> None:
    soaked = run(volume, seconds)
    Path("build").mkdir(exist_ok=True)
    Path("build/soak.json").write_text(json.dumps(asdict(soaked), indent=1))
    sys.stdout.write(
        f"{soaked.seconds:.0f} s, {soaked.swaps} models, {soaked.answers}; unexpected: {soaked.unexpected}; "
        f"memory {soaked.growth:+.2%}, {soaked.growth_per_hour:+.2%} an hour\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if sys.argv[2:] else 3600.0)
