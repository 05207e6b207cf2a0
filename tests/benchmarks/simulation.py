"""A service on paper: a simulation of its queue, for arrivals at random.

A request goes through three stations, in each in the order of arrival:

    the event loop     one thread
    decode threads     one picture each
    workers            whatever waits, up to `max_batch_size`, as one batch; work-conserving

All share the cores: where more threads want to run than there are cores, each runs so much slower (processor sharing).
How long things take is drawn from what was measured on an idle machine.
"""

import itertools
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from service.batcher import CROWDED_S
from tests.benchmarks.load import gaps

Station = Literal["loop", "decode", "worker"]


@dataclass(frozen=True)
class Times:
    """Measured seconds of each station, alone on the machine."""

    loop: Sequence[float]
    decode: Sequence[float]
    alone: Mapping[int, Sequence[float]]
    """Of a batch that has all cores, by its size; smaller batches are filled up."""
    beside: Mapping[int, Sequence[float]]
    """Of a batch on one core."""


@dataclass(frozen=True)
class Shape:
    """Of a service. With one worker every batch has all cores; with more, one that is alone has, if none met another
    for a while.
    """

    cores: int
    workers: int
    decode_threads: int
    max_batch_size: int


@dataclass
class _Job:
    station: Station
    requests: list[int]
    left_s: float
    """Of its work, at full speed."""
    threads: int = 1


@dataclass
class _State:
    loop: deque[int] = field(default_factory=deque)
    decode: deque[int] = field(default_factory=deque)
    worker: deque[int] = field(default_factory=deque)
    running: list[_Job] = field(default_factory=list)
    crowded_at: float = -CROWDED_S

    def busy(self, station: Station) -> int:
        return sum(job.station == station for job in self.running)

    def come_to_workers(self, requests: Sequence[int], now: float) -> None:
        if self.worker or self.decode or self.busy("decode") or self.busy("worker"):
            self.crowded_at = now
        self.worker.extend(requests)


def simulate(
    shape: Shape, times: Times, *, rate: float, burst: float = 1.0, requests: int = 10_000, seed: int = 0
) -> list[float]:
    """Seconds from arrival to answer of each request."""
    dice = random.Random(seed)
    arrivals = list(itertools.islice(itertools.accumulate(gaps(rate, burst, dice)), requests))
    state, latencies, now, next_arrival = _State(), [0.0] * requests, 0.0, 0
    while next_arrival < requests or state.running:
        _start_what_can(state, shape, times, dice, now)
        speed = min(1.0, shape.cores / max(1, sum(job.threads for job in state.running)))
        ends = now + min((job.left_s for job in state.running), default=float("inf")) / speed
        arrives = arrivals[next_arrival] if next_arrival < requests else float("inf")
        until = min(ends, arrives)
        for job in state.running:
            job.left_s -= (until - now) * speed
        now = until
        if arrives <= ends:
            state.loop.append(next_arrival)
            next_arrival += 1
        for job in [job for job in state.running if job.left_s <= 1e-12]:
            state.running.remove(job)
            for request in _passed_on(job, state, now):
                latencies[request] = now - arrivals[request]
    return latencies


def _passed_on(job: _Job, state: _State, now: float) -> Iterator[int]:
    """To the next station, or out."""
    match job.station:
        case "loop":
            state.decode.extend(job.requests)
        case "decode":
            state.come_to_workers(job.requests, now)
        case "worker":
            yield from job.requests


def _start_what_can(state: _State, shape: Shape, times: Times, dice: random.Random, now: float) -> None:
    if state.loop and not state.busy("loop"):
        state.running.append(_Job("loop", [state.loop.popleft()], dice.choice(times.loop)))
    while state.decode and state.busy("decode") < shape.decode_threads:
        state.running.append(_Job("decode", [state.decode.popleft()], dice.choice(times.decode)))
    while state.worker and (busy := state.busy("worker")) < shape.workers:
        batch = [state.worker.popleft() for _ in range(min(len(state.worker), shape.max_batch_size))]
        has_all = shape.workers == 1 or (not busy and now > state.crowded_at + CROWDED_S)
        measured = times.alone if has_all else times.beside
        size = min(size for size in measured if size >= len(batch))
        threads = shape.cores if has_all else 1
        state.running.append(_Job("worker", batch, dice.choice(measured[size]), threads))
