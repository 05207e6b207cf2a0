"""Goodput against offered load: what a service still answers when far more is asked than it can do.

    python -m tests.benchmarks.overload [SECONDS] -> build/overload.json, build/overload.svg

An open loop (requests come at random times, answered or not) at multiples of the peak, which a closed loop of 32
clients finds right before each load and right after it: machines change their pace from minute to minute. The load runs
on the service's cores: a peak is scaled by the share of them that the load leaves.
"""

import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from tests.faults.clients import Answer, Connection, ask, head
from tests.faults.conftest import resident_bytes
from tests.service import pictures
from tests.service.conftest import Program, running
from trainer.drawing import draw_scene

FACTORS = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
CLIENTS = 32
WARM_S = 2.0
PEAK_SHARE = 0.25
"""Of the time of a load, for each peak."""
MAX_IDLE_S = 2.0
RECOVERED = 1.5
"""Times the latency of an idle service."""
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Load:
    """What came back while one load was on; milliseconds, megabytes, requests a second."""

    offered: float
    goodput: float
    accepted_p50_ms: float
    accepted_p99_ms: float
    refused: float
    refused_p50_ms: float
    refused_p99_ms: float
    refused_without_retry_after: int
    others: int
    """Neither answered nor refused."""
    load_cpus: float
    """That the load itself took."""
    resident_mb: float
    """The most there was."""


def requests(count: int = 64) -> list[bytes]:
    """Photos of the usual size; what follows the end of the file makes every one of them another."""
    drawn = (draw_scene(random.Random(seed), 480)[0] for seed in range(count))
    return [pictures.encoded(scene, quality=90) for scene in drawn]


class Generator:
    """Sends to one service, over as many connections as are wanted at a time."""

    def __init__(self, program: Program, bodies: Sequence[bytes]) -> None:
        self._program, self._bodies = program, bodies
        self._idle: list[tuple[float, Connection]] = []
        self._sent = 0
        self._answers: list[Answer] = []

    async def closed(self, clients: int, seconds: float) -> Load:
        async def client(until: float) -> None:
            while time.monotonic() < until:
                await self._one()

        async def all_clients(seconds: float) -> None:
            until = time.monotonic() + seconds
            await asyncio.gather(*(client(until) for _ in range(clients)))

        await all_clients(WARM_S)
        return await self._measured(all_clients(seconds), seconds)

    async def open(self, rate: float, seconds: float) -> Load:
        async def arrivals(seconds: float) -> None:
            dice, due, asked = random.Random(0), time.monotonic(), []
            until = due + seconds
            while (due := due + dice.expovariate(rate)) < until:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                asked.append(asyncio.create_task(self._one()))
            await asyncio.gather(*asked)

        return await self._measured(arrivals(seconds), seconds)

    async def close(self) -> None:
        for _, connection in self._idle:
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0.1)

    async def _one(self) -> None:
        began = time.monotonic()
        self._sent += 1
        body = self._bodies[self._sent % len(self._bodies)] + self._sent.to_bytes(8)
        connection = await self._connection()
        connection.send(head(len(body)) + body)
        answer = await connection.answer(began)
        self._answers.append(answer)
        if answer.headers.get("connection") == "close":
            connection.close()
        else:
            self._idle.append((time.monotonic(), connection))

    async def _connection(self) -> Connection:
        """One that the service is not about to close because nobody used it."""
        while self._idle:
            used_at, connection = self._idle.pop()
            if time.monotonic() - used_at < MAX_IDLE_S:
                return connection
            connection.close()
        return await Connection.open(self._program.port)

    async def _measured(self, load, seconds: float) -> Load:  # type: ignore[no-untyped-def]
        self._answers, most = [], 0
        cpu, began = time.process_time(), time.monotonic()
        running = asyncio.create_task(load)
        while not running.done():
            most = max(most, resident_bytes(self._program.process.pid))
            await asyncio.wait([running], timeout=0.25)
        await running
        took = time.monotonic() - began
        accepted = [answer.seconds for answer in self._answers if answer.status == 200]
        refused = [answer for answer in self._answers if answer.status == 503]
        waits = [answer.seconds for answer in refused]
        return Load(
            offered=len(self._answers) / seconds,
            goodput=len(accepted) / took,
            accepted_p50_ms=percentile(accepted, 0.5),
            accepted_p99_ms=percentile(accepted, 0.99),
            refused=len(refused) / seconds,
            refused_p50_ms=percentile(waits, 0.5),
            refused_p99_ms=percentile(waits, 0.99),
            refused_without_retry_after=sum("retry-after" not in answer.headers for answer in refused),
            others=len(self._answers) - len(accepted) - len(refused),
            load_cpus=(time.process_time() - cpu) / took,
            resident_mb=most / 1e6,
        )


def percentile(seconds: list[float], share: float) -> float:
    """In milliseconds; 0 of nothing."""
    return 1000 * sorted(seconds)[int(share * (len(seconds) - 1))] if seconds else 0.0


@dataclass(frozen=True)
class Measured:
    peaks: list[Load]
    """One more than loads: each lies between two of them."""
    loads: list[Load]
    recovered_s: float
    """The longest from the end of a load until a lone request is as fast as before the first."""

    @property
    def attainable(self) -> list[float]:
        """For each load the peak about it, on the cores that the load leaves."""
        rates = [peak.goodput / (CORES - peak.load_cpus) for peak in self.peaks]
        around = zip(pairwise(rates), self.loads, strict=True)
        return [(before + after) / 2 * (CORES - load.load_cpus) for (before, after), load in around]


async def lone_latency_ms(port: int, body: bytes, seconds: float) -> float:
    """The median of one request at a time."""
    answers, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        answers.append((await ask(port, body + os.urandom(8))).seconds)
    return percentile(answers, 0.5)


async def seconds_until_idle(port: int, body: bytes, idle_ms: float) -> float:
    ended = time.monotonic()
    while 1000 * (await ask(port, body + os.urandom(8))).seconds > RECOVERED * idle_ms:
        pass
    return time.monotonic() - ended


async def measure(program: Program, factors: Sequence[float], seconds: float) -> Measured:
    lone = requests(1)[0]
    idle_ms = await lone_latency_ms(program.port, lone, WARM_S)
    generator, recovered_s = Generator(program, requests()), 0.0
    peaks, loads = [await generator.closed(CLIENTS, PEAK_SHARE * seconds)], list[Load]()
    for factor in factors:
        loads.append(await generator.open(factor * peaks[-1].goodput, seconds))
        recovered_s = max(recovered_s, await seconds_until_idle(program.port, lone, idle_ms))
        peaks.append(await generator.closed(CLIENTS, PEAK_SHARE * seconds))
    await generator.close()
    return Measured(peaks, loads, recovered_s)


def plot(measured: Measured) -> str:
    """Goodput, and what could be had, against offered load; one picture, no library."""
    loads, peak = measured.loads, statistics.median(peak.goodput for peak in measured.peaks)
    width, height, most = 640, 400, max(load.offered for load in loads)
    top = 1.2 * max(peak, *measured.attainable, *(load.goodput for load in loads))

    def line(points: Sequence[tuple[float, float]], colour: str) -> str:
        at = " ".join(f"{60 + 560 * x / most:.0f},{360 - 340 * y / top:.0f}" for x, y in points)
        return f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2"/>'

    shapes = [
        line([(0, 0), (most, 0)], "black"),
        line([(0, 0), (0, top)], "black"),
        line([(0, 0), *((load.offered, load.goodput) for load in loads)], "#228833"),
        line([(f.offered, min(f.offered, had)) for f, had in zip(loads, measured.attainable, strict=True)], "#bbbbbb"),
        *(
            f'<text x="{60 + 560 * f.offered / most:.0f}" y="378" text-anchor="middle">{f.offered:.0f}</text>'
            for f in loads
        ),
        f'<text x="54" y="{360 - 340 * peak / top:.0f}" text-anchor="end">{peak:.0f}</text>',
        '<text x="340" y="395" text-anchor="middle">pictures a second, offered</text>',
        '<text x="70" y="16">captions a second (green), and attainable beside the load (grey)</text>',
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif"'
    return "\n".join(
        [f'{head} font-size="11">', f'<rect width="{width}" height="{height}" fill="white"/>', *shapes, "</svg>\n"]
    )


def main(seconds: float) -> None:
    with running() as program:
        measured = asyncio.run(measure(program, FACTORS, seconds))
    folder = Path("build")
    folder.mkdir(exist_ok=True)
    (folder / "overload.json").write_text(json.dumps(asdict(measured), indent=1))
    (folder / "overload.svg").write_text(plot(measured))
    print(f"peaks {', '.join(f'{peak.goodput:.1f}/s' for peak in measured.peaks)}")
    print(f"back to idle latency {measured.recovered_s:.2f} s after a load at most")
    for factor, load, attainable in zip(FACTORS, measured.loads, measured.attainable, strict=True):
        print(f"{factor}x {load.goodput / attainable:.2f} of what the load leaves: {load}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if sys.argv[1:] else 60.0)
