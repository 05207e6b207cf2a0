"""Both clients behind one face, so that each test holds for both."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from service.client import Answer, AsyncCaptionClient, CaptionBody, CaptionClient, ModelBody

Result = TypeVar("Result")


@dataclass(frozen=True)
class Synchronous:
    options: dict[str, Any]

    def caption(self, picture: Any, **options: Any) -> CaptionBody:
        with CaptionClient(**self.options) as client:
            return client.caption(picture, **options)

    def captions(self, pictures: Iterable[Any], **options: Any) -> list[Answer]:
        with CaptionClient(**self.options) as client:
            return list(client.captions(pictures, **options))

    def model(self) -> ModelBody:
        with CaptionClient(**self.options) as client:
            return client.model()

    def ready(self) -> bool:
        with CaptionClient(**self.options) as client:
            return client.ready()


@dataclass(frozen=True)
class Asynchronous:
    options: dict[str, Any]

    def caption(self, picture: Any, **options: Any) -> CaptionBody:
        async def ask() -> CaptionBody:
            async with AsyncCaptionClient(**self.options) as client:
                return await client.caption(picture, **options)

        return asyncio.run(ask())

    def captions(self, pictures: Iterable[Any], **options: Any) -> list[Answer]:
        async def ask() -> list[Answer]:
            async with AsyncCaptionClient(**self.options) as client:
                return [answer async for answer in client.captions(pictures, **options)]

        return asyncio.run(ask())

    def model(self) -> ModelBody:
        async def ask() -> ModelBody:
            async with AsyncCaptionClient(**self.options) as client:
                return await client.model()

        return asyncio.run(ask())

    def ready(self) -> bool:
        async def ask() -> bool:
            async with AsyncCaptionClient(**self.options) as client:
                return await client.ready()

        return asyncio.run(ask())


Client = Synchronous | Asynchronous
Connect = Callable[..., Client]


@pytest.fixture(params=[Synchronous, Asynchronous], ids=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Connect:
    return lambda url, **options: request.param({"url": url, **options})
