"""Far more requests than can be served: what is accepted is served as fast as ever, the rest is refused at once."""

import asyncio
import time

import pytest

from tests.benchmarks.overload import Generator, Load, attainable, lone_latency_ms, measure, requests
from tests.faults.clients import ask
from tests.faults.conftest import FULL
from tests.service.conftest import Program, running

QUEUE, BATCH = 32, 16
GOODPUT = {2.0: 0.9, 5.0: 0.8}
"""The least share of what the load leaves, by how many times the peak is offered."""


def queue_budget_ms(load: Load) -> float:
    """A full queue, the batch before it and the own one, at the rate of this load."""
    return 1000 * (QUEUE + 2 * BATCH) / load.goodput


@pytest.mark.slow
def test_overload_costs_neither_goodput_nor_latency_nor_memory(faulty: dict[str, object]) -> None:
    with running(**faulty, max_queue_size=QUEUE, max_batch_size=BATCH) as program:
        peak, loads = asyncio.run(measure(program, list(GOODPUT), 60 if FULL else 10))
    for share, load in zip(GOODPUT.values(), loads, strict=True):
        assert load.goodput >= share * attainable(peak, load), (peak, load)
        assert load.accepted_p99_ms <= queue_budget_ms(load), load
        assert load.refused > 0
        assert load.refused_p50_ms < 10, load
        assert load.refused_p99_ms < 100, load
        assert (load.refused_without_retry_after, load.others) == (0, 0)
        assert load.resident_mb < 1.1 * peak.resident_mb, (peak, load)


@pytest.mark.slow
def test_latency_is_back_within_two_seconds_of_an_overload(faulty: dict[str, object]) -> None:
    async def main(program: Program) -> None:
        body = requests(1)[0]
        idle_ms = await lone_latency_ms(program.port, body, 2)
        generator = Generator(program, requests())
        peak = await generator.closed(32, 3)
        await generator.open(5 * peak.goodput, 5)
        await generator.close()
        ended = time.monotonic()
        while 1000 * (await ask(program.port, body + str(time.monotonic()).encode())).seconds > 1.5 * idle_ms:
            assert time.monotonic() - ended < 2
        assert await lone_latency_ms(program.port, body, 2) < 1.5 * idle_ms

    with running(**faulty, max_queue_size=QUEUE, max_batch_size=BATCH) as program:
        asyncio.run(main(program))
