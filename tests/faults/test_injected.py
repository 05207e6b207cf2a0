"""Exceptions, exhausted memory and wrong numbers of results, everywhere, among requests that must not notice."""

import asyncio
import itertools
import random

import pytest

from tests.faults.clients import (
    Answer,
    arm,
    ask,
    ask_all,
    ask_with_fault,
    captions_of,
    is_at_rest,
    leave,
    picture,
    report,
    until,
)
from tests.faults.conftest import FULL, resident_bytes
from tests.service import pictures
from tests.service.conftest import Program

FAULTS = [
    *(f"{place}:{kind}" for place in ("decode", "encode", "step") for kind in ("exception", "memory", "fewer", "more")),
    "reply:exception",
    "reply:memory",
]
CLIENTS = 24
GOOD = 40
"""Pictures whose captions are known."""


async def mixed_load(port: int, faults: int, captions: list[str]) -> None:
    """As many good pictures as faulty ones, and a few that are broken or whose clients leave."""
    dice = random.Random(faults)
    kinds = itertools.cycle(FAULTS)
    work = [next(kinds) for _ in range(faults)] + ["good"] * faults + ["broken", "leaver"] * (faults // 10)
    dice.shuffle(work)
    turns = iter(enumerate(work))

    async def client() -> None:
        for number, kind in turns:
            wanted = number % GOOD
            if kind == "good":
                answer = await ask(port, picture(wanted))
                assert (answer.status, answer.caption) == (200, captions[wanted])
            elif kind == "broken":
                assert (await ask(port, pictures.truncated_jpeg(number))).status == 422
            elif kind == "leaver":
                await leave(port, picture(10_000 + number), "body", after_s=dice.random() / 50)
            else:
                is_an_internal_error(await ask_with_fault(port, picture(10_000 + number), kind))

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


def is_an_internal_error(answer: Answer) -> None:
    assert (answer.status, answer.json["error"]["code"]) == (500, "internal")
    assert "asked for" not in answer.json["error"]["message"], "what went wrong inside is for the log"


@pytest.mark.parametrize(
    ("warm_up", "faults", "growth"),
    [(56, 84, 0.4), pytest.param(300, 1000 if FULL else 300, 0.02 if FULL else 0.15, marks=pytest.mark.slow)],
)
def test_no_fault_touches_a_neighbour_or_leaves_anything_behind(
    survivor: Program, warm_up: int, faults: int, growth: float
) -> None:
    """A runtime keeps memory for every size of batch: the warm-up has to meet them all."""

    async def main(port: int, process_id: int) -> None:
        captions = await captions_of(port, [picture(seed) for seed in range(GOOD)])
        assert len(set(captions)) > 5, "a mix-up of answers must show"
        await mixed_load(port, warm_up, captions)
        before, bytes_before = await until(is_at_rest, port), resident_bytes(process_id)
        await mixed_load(port, faults, captions)
        after = await until(is_at_rest, port)
        assert is_at_rest(after)
        assert (after["threads"], after["tasks"]) == (before["threads"], before["tasks"])
        assert resident_bytes(process_id) < (1 + growth) * bytes_before

    asyncio.run(main(survivor.port, survivor.process.pid))


def test_the_next_good_request_after_any_fault_is_answered_within_a_second(survivor: Program) -> None:
    async def main(port: int) -> None:
        for number, fault in enumerate(FAULTS):
            is_an_internal_error(await ask_with_fault(port, picture(100 + number), fault))
            answer = await ask(port, picture(number))
            assert answer.status == 200
            assert answer.seconds < 1

    asyncio.run(main(survivor.port))


@pytest.mark.parametrize(
    "fault",
    ["encode:more", *(pytest.param(fault, marks=pytest.mark.slow) for fault in ("encode:exception", "step:fewer"))],
)
def test_sixty_three_of_a_batch_are_answered_when_one_fails(survivor: Program, fault: str) -> None:
    async def main(port: int) -> None:
        good = [picture(seed) for seed in range(63)]
        captions = await captions_of(port, good)
        before = (await report(port))["batches"]
        answers, poisoned = await one_batch(port, good, fault)
        assert (await report(port))["batches"][len(before) :][:2] == [1, 64]
        assert [answer.caption for answer in answers] == captions
        is_an_internal_error(poisoned)

    asyncio.run(main(survivor.port))


async def one_batch(port: int, good: list[bytes], fault: str) -> tuple[list[Answer], Answer]:
    """All pictures and a poisonous one arrive while the engine is kept busy, so they form one batch."""
    await arm(port, "encode", "sleep", seconds=2)
    busy = asyncio.create_task(ask(port, picture(1000)))
    await until(lambda said: said["in_engine"], port)
    poisoned = asyncio.create_task(ask_with_fault(port, picture(1001), fault))
    answers = await ask_all(port, good)
    assert (await busy).status == 200
    return answers, await poisoned
