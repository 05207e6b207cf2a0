"""Clients that are cheap, many, and not all polite: HTTP/1.1 by hand over asyncio."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from tests.faults.service import marked
from tests.service import pictures
from trainer.drawing import draw_scene

TIMEOUT_S = 60.0
Stage = Literal["connected", "head", "half_body", "body", "reply"]


@dataclass(frozen=True)
class Answer:
    status: int
    """0 where the connection ended without an answer."""
    headers: dict[str, str]
    body: bytes
    seconds: float

    @cached_property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def caption(self) -> str:
        return self.json["caption"]


NO_ANSWER = Answer(0, {}, b"", 0.0)


def picture(seed: int) -> bytes:
    """Another picture for every seed: equal ones would share their work."""
    return pictures.encoded(draw_scene(random.Random(seed), 64)[0], "PNG")


def head(
    length: int, *, path: str = "/caption", method: str = "POST", kind: str = "image/png", more: str = ""
) -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}\r\n"
    ).encode()


class Connection:
    """One connection, kept open from request to request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self, began: float) -> Answer:
        async with asyncio.timeout(TIMEOUT_S):
            first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            fields = (line.partition(":") for line in lines if line)
            headers = {name.lower(): value.strip() for name, _, value in fields}
            body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(first.split()[1]), headers, body, time.monotonic() - began)

    def close(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        self._writer.transport.abort()


async def ask(port: int, body: bytes, **options: str) -> Answer:
    """One request on a connection of its own; NO_ANSWER if the service hangs up."""
    began = time.monotonic()
    try:
        connection = await Connection.open(port)
    except OSError:
        return NO_ANSWER
    try:
        connection.send(head(len(body), **options) + body)
        return await connection.answer(began)
    except (OSError, asyncio.IncompleteReadError):
        return NO_ANSWER
    finally:
        connection.close()


async def get(port: int, path: str) -> Answer:
    return await ask(port, b"", path=path, method="GET")


async def ask_with_fault(port: int, body: bytes, fault: str) -> Answer:
    return await ask(port, marked(body, fault), more=f"X-Fault: {fault}\r\n")


async def leave(port: int, body: bytes, stage: Stage, *, after_s: float = 0.0) -> None:
    """Begin a request and hang up at some stage of it."""
    connection = await Connection.open(port)
    request = head(len(body))
    sent = {"connected": b"", "head": request, "half_body": request + body[: len(body) // 2]}
    connection.send(sent.get(stage, request + body))
    if stage == "reply":
        await connection._reader.read(1)
    await asyncio.sleep(after_s)
    connection.abort()


async def report(port: int) -> dict[str, Any]:
    return (await get(port, "/faults")).json


async def arm(port: int, place: str, kind: str, **options: float) -> None:
    body = json.dumps({"place": place, "kind": kind, **options}).encode()
    answer = await ask(port, body, path="/faults", kind="application/json")
    assert answer.status == 200, answer.body


async def ask_all(port: int, bodies: Iterable[bytes]) -> list[Answer]:
    """All at once."""
    return await asyncio.gather(*(ask(port, body) for body in bodies))


async def captions_of(port: int, bodies: Sequence[bytes]) -> list[str]:
    """What a service says when nothing disturbs it: one at a time."""
    return [(await ask(port, body)).caption for body in bodies]


async def until(true: Callable[[dict[str, Any]], bool], port: int, seconds: float = 20) -> dict[str, Any]:
    """The first report of the service that is as wanted; the last one if none is."""
    end = time.monotonic() + seconds
    while not true(said := await report(port)) and time.monotonic() < end:
        await asyncio.sleep(0.01)
    return said


def is_at_rest(said: dict[str, Any]) -> bool:
    return said["pending"] == said["waiting"] == said["in_flight"] == 0
