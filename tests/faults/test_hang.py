"""Work that never returns: everyone is answered, the process ends, and after a restart the service is well again."""

import asyncio
import signal
import time

import httpx2
import pytest

from tests.faults.clients import NO_ANSWER, Answer, Connection, arm, ask, get, head, picture, until
from tests.faults.conftest import FULL
from tests.service.conftest import Program, running

LIMIT_S = 1.5
"""Longer than anything here takes on a busy machine."""


async def hang(port: int, place: str, kind: str = "hang") -> tuple[list[Answer], list[int], float]:
    """The answers to one request that runs into the fault, some behind it and an unfinished upload; what /livez said;
    the seconds from the fault to the last answer."""
    await arm(port, place, kind)
    upload = await Connection.open(port)
    upload.send(head(1000) + b"half")
    began = time.monotonic()
    asked = [asyncio.create_task(ask(port, picture(0)))]
    await asyncio.sleep(0.3)
    asked += [asyncio.create_task(ask(port, picture(seed))) for seed in range(1, 9)]
    probes = asyncio.create_task(probe_until_the_end(port))
    answers = [*await asyncio.gather(*asked), await upload.answer(began)]
    upload.close()
    return answers, await probes, max(answer.seconds for answer in answers)


async def probe_until_the_end(port: int) -> list[int]:
    codes: list[int] = []
    while (answer := await get(port, "/livez")) is not NO_ANSWER:
        codes.append(answer.status)
        await asyncio.sleep(0.02)
    return codes


@pytest.mark.parametrize("place", ["encode", pytest.param("step", marks=pytest.mark.slow)])
def test_every_caller_of_a_hanging_engine_gets_a_503_and_a_probe_sees_red(
    faulty: dict[str, object], place: str
) -> None:
    with running("tests.faults.service", **faulty, workers=1, stuck_after_s=LIMIT_S) as program:
        answers, probes, seconds = asyncio.run(hang(program.port, place))
        assert [answer.status for answer in answers] == [503] * 10
        assert all("retry-after" in answer.headers for answer in answers)
        assert LIMIT_S < seconds < LIMIT_S + 1
        assert (probes[0], probes[-1]) == (200, 503)
        assert program.ended() == 70


def test_who_is_behind_one_hanging_engine_is_answered_by_another(faulty: dict[str, object]) -> None:
    with running("tests.faults.service", **faulty, workers=2, stuck_after_s=LIMIT_S) as program:
        (hanging, *behind, unfinished), _, seconds = asyncio.run(hang(program.port, "encode"))
        assert [answer.status for answer in (hanging, unfinished)] == [503] * 2
        assert [answer.status for answer in behind] == [200] * 8
        assert seconds < LIMIT_S + 1
        assert program.ended() == 70


def test_every_caller_gets_a_503_when_the_event_loop_hangs(faulty: dict[str, object]) -> None:
    with running("tests.faults.service", **faulty, stuck_after_s=LIMIT_S) as program:
        answers, probes, seconds = asyncio.run(hang(program.port, "reply"))
        assert [answer.status for answer in answers] == [503] * 10
        assert LIMIT_S < seconds < LIMIT_S + 1
        assert set(probes) == {503}
        assert program.ended() == 70


def test_a_library_that_holds_the_interpreter_does_not_hold_the_process(faulty: dict[str, object]) -> None:
    with running("tests.faults.service", **faulty, stuck_after_s=LIMIT_S) as program:
        asyncio.run(arm(program.port, "encode", "hold_python"))
        began = time.monotonic()
        with pytest.raises(httpx2.TransportError):
            send(program)
        assert program.ended() == -signal.SIGALRM
        assert time.monotonic() - began < LIMIT_S + 1


def test_the_end_of_a_worker_thread_is_the_end_of_the_process(faulty: dict[str, object]) -> None:
    with running("tests.faults.service", **faulty, stuck_after_s=60) as program:
        asyncio.run(arm(program.port, "encode", "end_thread"))
        answer = send(program)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "worker_dead")
        assert program.ended() == 70


def test_a_picture_that_cannot_be_decoded_in_time_costs_its_own_caller_only(faulty: dict[str, object]) -> None:
    async def main(port: int) -> None:
        await arm(port, "decode", "hang")
        hanging = asyncio.create_task(ask(port, picture(0)))
        await until(lambda said: said["calls"].get("decode", 0) == 1, port)
        assert [(await ask(port, picture(seed))).status for seed in range(1, 9)] == [200] * 8
        answer = await hanging
        assert answer.status in (422, 504)
        assert answer.seconds < 4
        assert (await get(port, "/livez")).status == 200

    with running("tests.faults.service", **faulty, timeout_s=3, decode_threads=2) as program:
        asyncio.run(main(program.port))
        program.process.terminate()
        assert program.ended() == 0, "a thread that hangs must not keep the process"


@pytest.mark.slow
def test_a_supervised_service_is_ready_again_within_fifteen_seconds(faulty: dict[str, object]) -> None:
    ended: float | None = None
    for _ in range(10 if FULL else 3):
        with running("tests.faults.service", **faulty, stuck_after_s=LIMIT_S) as program:
            assert httpx2.get(f"{program.url}/readyz").status_code == 200
            if ended is not None:
                assert time.monotonic() - ended < 15
            assert send(program).status_code == 200
            asyncio.run(arm(program.port, "step", "hang"))
            assert send(program).status_code == 503
            assert program.ended() == 70
            ended = time.monotonic()


def send(program: Program) -> httpx2.Response:
    return httpx2.post(f"{program.url}/caption", content=picture(1), headers={"content-type": "image/png"}, timeout=30)
