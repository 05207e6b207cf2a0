"""A service on paper: a simulation of its queue, for arrivals at random.

A request goes through three stations, in each in the order of arrival:

    the event loop     one thread, which takes longer over a request that comes alone
    decode threads     one picture each
    workers            a batch each, as `service.batcher` forms them: an equal share of what waits, at most a moment
                       later if as many pictures are being decoded as workers have nothing to do

All share the cores: where more threads want to run than there are cores, each runs so much slower (processor sharing),
and beside others on a core of its own a thread is slower than alone (caches, memory, the interpreter's lock).
How long things take is drawn from what was measured; two things that cannot be measured alone are fitted to loads.
"""

import random
import statistics
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from math import inf
from typing import Literal

from service.batcher import CROWDED_S, LINGER_S

SLOWER, WOKEN_S = (0.7, 4.0), (0.0, 0.02)
FIT_STEPS, FIT_SEEDS = 8, 8

Station = Literal["loop", "decode", "worker"]


@dataclass(frozen=True)
class Times:
    """Measured seconds of each station, alone on the machine."""

    loop_s: float
    """Of a request that comes while the event loop is busy."""
    woken_s: float
    """So much longer it takes over one that comes while it rests: what it and the workers have in caches goes cold."""
    outside_s: float
    """Of an answer's time, on its way and with its client."""
    decode: Sequence[float]
    alone: Mapping[int, Sequence[float]]
    """Of a batch that has all cores, by its size; smaller batches are filled up."""
    beside: Mapping[int, Sequence[float]]
    """Of a batch on one core while the others are idle."""
    slower: Mapping[int, float]
    """So many times as long it takes while the others have a batch each, by its size."""
    decode_slower: float
    """So many times as long a picture takes to decode beside such batches; taken for the event loop, too."""

    def stretched(self, factor: float) -> "Times":
        """On a machine where everything takes so many times as long."""

        def longer(found: Sequence[float]) -> list[float]:
            return [factor * seconds for seconds in found]

        alone, beside = ({size: longer(found) for size, found in each.items()} for each in (self.alone, self.beside))
        loop_s, woken_s, outside_s = longer((self.loop_s, self.woken_s, self.outside_s))
        return replace(
            self,
            loop_s=loop_s,
            woken_s=woken_s,
            outside_s=outside_s,
            decode=longer(self.decode),
            alone=alone,
            beside=beside,
        )


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
    slower: float = 1.0
    """So many times as long, where every other core is busy, too."""

    def speed(self, cores: int, wanted: int) -> float:
        """While so many threads want to run."""
        others = min(wanted, cores) - self.threads
        crowding = 1 + (self.slower - 1) * others / (cores - self.threads) if others > 0 else 1.0
        return min(1.0, cores / wanted) / crowding


@dataclass
class _State:
    loop: deque[int] = field(default_factory=deque)
    decode: deque[int] = field(default_factory=deque)
    worker: deque[int] = field(default_factory=deque)
    running: list[_Job] = field(default_factory=list)
    crowded_at: float = -CROWDED_S
    loop_ended_at: float = -inf
    waits_since: float | None = None
    """Pictures, for others to fill the batch."""

    @property
    def is_busy(self) -> bool:
        return bool(self.loop or self.decode or self.worker or self.running)

    def busy(self, station: Station) -> int:
        return sum(job.station == station for job in self.running)

    def come_to_workers(self, requests: Sequence[int], now: float) -> None:
        if self.worker or self.decode or self.busy("decode") or self.busy("worker"):
            self.crowded_at = now
        self.worker.extend(requests)


def simulate(
    shape: Shape, times: Times, arrivals: Sequence[float], *, closed_s: float = 0.0, seed: int = 0
) -> list[float]:
    """Seconds from arrival to answer of each request. `arrivals` are seconds, in order.

    For `closed_s` seconds whoever is answered asks again at once: a closed loop of those that arrive at 0.
    """
    dice, due = random.Random(seed), list(arrivals)
    state, latencies, now, next_arrival = _State(), dict[int, float](), 0.0, 0
    while next_arrival < len(due) or state.is_busy:
        _start_what_can(state, shape, times, dice, now)
        wanted = sum(job.threads for job in state.running)
        speeds = [job.speed(shape.cores, wanted) for job in state.running]
        ends = now + min((job.left_s / speed for job, speed in zip(state.running, speeds, strict=True)), default=inf)
        waited = inf if state.waits_since is None else state.waits_since + LINGER_S
        arrives = due[next_arrival] if next_arrival < len(due) else inf
        until = min(ends, arrives, waited)
        for job, speed in zip(state.running, speeds, strict=True):
            job.left_s -= (until - now) * speed
        now = until
        if arrives <= until:
            state.loop.append(next_arrival)
            next_arrival += 1
        for job in [job for job in state.running if job.left_s <= 1e-12]:
            state.running.remove(job)
            for request in _passed_on(job, state, now):
                latencies[request] = now + times.outside_s - due[request]
                if now < closed_s:
                    due.append(now + times.outside_s)
    return [latencies[request] for request in range(len(due))]


def closed_rate(shape: Shape, times: Times, clients: int, seconds: float) -> float:
    """Answers a second in a closed loop."""
    return len(simulate(shape, times, [0.0] * clients, closed_s=seconds)) / seconds


def fitted_to_loops(shape: Shape, times: Times, measured: Mapping[int, float], seconds: float = 30.0) -> Times:
    """`slower` as it must be for closed loops of so many clients to bring so many answers a second.

    A loop tells it for the batch that is each worker's share of its clients, and smaller ones that no loop tells of.
    """

    told = {}
    for clients, rate in measured.items():

        def is_too_low(slower: float, clients: int = clients, rate: float = rate) -> bool:
            tried = replace(times, slower=dict.fromkeys(times.beside, slower))
            return closed_rate(shape, tried, clients, seconds) > rate

        told[-(-clients // shape.workers)] = _bisected(SLOWER, is_too_low)
    slower = {size: told[min((known for known in told if known >= size), default=max(told))] for size in times.beside}
    return replace(times, slower=slower)


@dataclass(frozen=True)
class Arrivals:
    """Of one load, and how fast the machine was meanwhile."""

    seconds: Sequence[float]
    longer: float = 1.0
    """So many times as long everything took as it was measured."""
    warm_s: float = 0.0
    """Who arrives before is not counted."""

    def latencies(self, shape: Shape, times: Times, seeds: int) -> Iterator[float]:
        """On paper, so many times over."""
        for seed in range(seeds):
            found = simulate(shape, times.stretched(self.longer), self.seconds, seed=seed)
            yield from (latency for due, latency in zip(self.seconds, found, strict=True) if due >= self.warm_s)


def fitted_to_arrivals(shape: Shape, times: Times, loads: Sequence[Arrivals], p50_s: float) -> Times:
    """`woken_s` as it must be for requests at random to have this median of their latencies."""

    def is_too_low(woken_s: float) -> bool:
        tried = replace(times, woken_s=woken_s)
        found = chain.from_iterable(load.latencies(shape, tried, FIT_SEEDS) for load in loads)
        return statistics.median(found) < p50_s

    return replace(times, woken_s=_bisected(WOKEN_S, is_too_low))


def _bisected(within: tuple[float, float], is_too_low: Callable[[float], bool]) -> float:
    low, high = within
    for _ in range(FIT_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_too_low(middle) else (low, middle)
    return low


def _passed_on(job: _Job, state: _State, now: float) -> Iterator[int]:
    """To the next station, or out."""
    match job.station:
        case "loop":
            state.loop_ended_at = now
            state.decode.extend(job.requests)
        case "decode":
            state.come_to_workers(job.requests, now)
        case "worker":
            yield from job.requests


def _start_what_can(state: _State, shape: Shape, times: Times, dice: random.Random, now: float) -> None:
    slower = times.decode_slower
    if state.loop and not state.busy("loop"):
        seconds = times.loop_s + (times.woken_s if now > state.loop_ended_at else 0.0)
        state.running.append(_Job("loop", [state.loop.popleft()], seconds, slower=slower))
    while state.decode and state.busy("decode") < shape.decode_threads:
        state.running.append(_Job("decode", [state.decode.popleft()], dice.choice(times.decode), slower=slower))
    while state.worker and (idle := shape.workers - state.busy("worker")):
        if not _is_complete(state, shape, idle, now):
            return
        share = min(shape.max_batch_size, -(-len(state.worker) // idle))
        batch = [state.worker.popleft() for _ in range(share)]
        is_alone = idle == shape.workers and not state.worker and now > state.crowded_at + CROWDED_S
        state.running.append(_batch(batch, shape, times, dice, has_all=shape.workers == 1 or is_alone))


def _is_complete(state: _State, shape: Shape, idle: int, now: float) -> bool:
    coming = len(state.decode) + state.busy("decode")
    since = now if state.waits_since is None else state.waits_since
    complete = coming < idle or len(state.worker) >= shape.max_batch_size or now >= since + LINGER_S
    state.waits_since = None if complete else since
    return complete


def _batch(requests: list[int], shape: Shape, times: Times, dice: random.Random, *, has_all: bool) -> _Job:
    measured = times.alone if has_all else times.beside
    size = min(size for size in measured if size >= len(requests))
    seconds = dice.choice(measured[size])
    return (
        _Job("worker", requests, seconds, shape.cores)
        if has_all
        else _Job("worker", requests, seconds, 1, times.slower[size])
    )
