"""The end of a service under load: nobody who was let in goes without an answer."""

import asyncio
import random
import signal
import time
from collections import Counter

import pytest

from tests.faults.clients import NO_ANSWER, Answer, Connection, arm, ask, head, picture, until
from tests.faults.conftest import FULL
from tests.service.conftest import Program, running

PICTURES = [picture(seed) for seed in range(12)]
CLIENTS = 24


async def client(port: int, seed: int, answers: list[Answer]) -> None:
    """Asks until the port is closed; every other one keeps its connection for as long as the service does."""
    while True:
        try:
            connection = await Connection.open(port)
        except OSError:
            return
        while True:
            answers.append(await asked_on(connection, PICTURES[seed % len(PICTURES)]))
            if seed % 2 or answers[-1] is NO_ANSWER or answers[-1].headers.get("connection") == "close":
                break
        connection.close()


async def asked_on(connection: Connection, body: bytes) -> Answer:
    try:
        connection.send(head(len(body)) + body)
        return await connection.answer(time.monotonic())
    except (OSError, asyncio.IncompleteReadError):
        return NO_ANSWER


async def stopped_under_load(program: Program, after_s: float) -> Counter[int]:
    answers: list[list[Answer]] = [[] for _ in range(CLIENTS)]
    clients = [asyncio.create_task(client(program.port, seed, answers[seed])) for seed in range(CLIENTS)]
    await asyncio.sleep(after_s)
    program.process.send_signal(signal.SIGTERM)
    await asyncio.gather(*clients)
    return Counter(answer.status for answered in answers for answer in answered)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("times", [2, pytest.param(50 if FULL else 5, marks=pytest.mark.slow)])
def test_no_request_that_was_let_in_is_lost_at_sigterm(faulty: dict[str, object], times: int) -> None:
    dice = random.Random(times)
    for _ in range(times):
        with running(**faulty) as program:
            statuses = asyncio.run(stopped_under_load(program, 0.5 + dice.random()))
            assert program.ended() == 0
        assert set(statuses) <= {200, 503}, statuses
        assert statuses[200] > 0


def test_a_second_sigterm_waits_for_nobody(faulty: dict[str, object]) -> None:
    async def main(program: Program) -> None:
        await arm(program.port, "encode", "hang")
        upload = await Connection.open(program.port)
        upload.send(head(1000) + b"half")
        waiting = asyncio.create_task(ask(program.port, picture(1)))
        await until(lambda said: said["in_engine"] and said["in_flight"] == 2, program.port)
        program.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert not waiting.done()
        assert program.process.poll() is None
        began = time.monotonic()
        program.process.send_signal(signal.SIGTERM)
        assert (await waiting).status == 503
        assert await asyncio.to_thread(program.ended) == 0
        assert time.monotonic() - began < 3
        upload.close()

    with running("tests.faults.service", **faulty, stuck_after_s=60) as program:
        asyncio.run(main(program))
