"""Work is dropped when its client goes, and only then."""

import asyncio

import pytest
from starlette.types import Message

from service.disconnect import unless_client_leaves
from service.errors import ClientLeftError

pytestmark = pytest.mark.anyio


class Client:
    """The receiving end of a connection whose body is read."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}


async def remaining_tasks() -> set[asyncio.Task[object]]:
    """Once what was cancelled has had its turn."""
    await asyncio.sleep(0)
    return asyncio.all_tasks()


async def test_the_result_and_the_error_of_the_work_come_through() -> None:
    async def fail() -> None:
        raise KeyError("inside")

    before = asyncio.all_tasks()
    assert await unless_client_leaves(Client().receive, asyncio.sleep(0, "done")) == "done"
    with pytest.raises(KeyError, match="inside"):
        await unless_client_leaves(Client().receive, fail())
    assert await remaining_tasks() == before, "a task is left behind"


async def test_the_work_is_cancelled_when_the_client_leaves() -> None:
    client, ended, before = Client(), asyncio.Event(), asyncio.all_tasks()

    async def work() -> None:
        client.gone.set()
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    with pytest.raises(ClientLeftError):
        await unless_client_leaves(client.receive, work())
    assert ended.is_set()
    assert await remaining_tasks() == before
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling(), "the caller goes on"


async def test_cancelling_the_caller_cancels_the_work() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    caller = asyncio.create_task(unless_client_leaves(Client().receive, work()))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()


async def test_a_caller_who_is_cancelled_as_its_client_leaves_is_cancelled() -> None:
    client = Client()

    async def work() -> None:
        await asyncio.sleep(30)

    caller = asyncio.create_task(unless_client_leaves(client.receive, work()))
    await asyncio.sleep(0.01)
    client.gone.set()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
