"""Clients that hang up, at every stage of their request."""

import asyncio

import pytest

from tests.faults.clients import Stage, arm, ask, get, is_at_rest, leave, picture, report, until
from tests.service.conftest import Program, metric_value

CLIENTS = 32


async def cancelled(port: int, stage: str) -> float:
    return metric_value((await get(port, "/metrics")).body.decode(), f'caption_cancelled_total{{stage="{stage}"}}')


def test_the_engine_runs_none_of_those_who_left_the_queue(survivor: Program) -> None:
    async def main(port: int) -> None:
        before = await cancelled(port, "queue")
        await arm(port, "encode", "sleep", seconds=2)
        busy = asyncio.create_task(ask(port, picture(0)))
        begun = (await until(lambda said: said["in_engine"], port))["batches"]
        waiting = [asyncio.create_task(leave(port, picture(seed), "body", after_s=0.7)) for seed in range(1, 33)]
        assert (await until(lambda said: said["waiting"] == CLIENTS, port))["waiting"] == CLIENTS
        await asyncio.gather(*waiting)
        assert (await until(lambda said: said["in_flight"] == 1, port))["in_engine"], "they left before it was free"
        assert (await busy).status == 200
        assert (await ask(port, picture(33))).status == 200
        assert (await report(port))["batches"] == [*begun, 1]
        assert await cancelled(port, "queue") == before + CLIENTS

    asyncio.run(main(survivor.port))


@pytest.mark.parametrize(
    ("stage", "busy", "counted"),
    [
        ("connected", None, None),
        ("head", None, "upload"),
        ("half_body", None, "upload"),
        ("body", "decode", "decode"),
        ("body", "encode", "engine"),
        ("body", "step", "engine"),
        ("reply", None, None),
    ],
)
def test_whoever_leaves_takes_everything_along(
    survivor: Program, stage: Stage, busy: str | None, counted: str | None
) -> None:
    async def main(port: int) -> None:
        assert (await ask(port, picture(0))).status == 200
        before, count = await until(is_at_rest, port), await cancelled(port, counted or "upload")
        if busy:
            await arm(port, busy, "sleep", seconds=1)
        await leave(port, picture(1), stage, after_s=0.3)
        after = await until(lambda said: is_at_rest(said) and not said["in_engine"], port)
        assert is_at_rest(after)
        assert after["tasks"] == before["tasks"]
        assert (await ask(port, picture(2))).status == 200
        if counted:
            assert await cancelled(port, counted) == count + 1

    asyncio.run(main(survivor.port))
