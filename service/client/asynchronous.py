"""The client of programs on asyncio."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Self, Unpack

import httpx2

from service.client.errors import ClientError
from service.client.exchange import Answer, Calls, Exchange, Options, Outcome, Result, Send, Wait
from service.client.pictures import Picture, read_picture
from service.schemas import CaptionBody, ModelBody


class AsyncCaptionClient:
    """See `CaptionClient`."""

    def __init__(self, url: str, *, api_key: str | None = None, timeout_s: float = 30.0) -> None:
        self._calls = Calls(url, api_key, timeout_s)
        self._http = httpx2.AsyncClient()

    async def caption(
        self, picture: Picture, *, timeout_s: float | None = None, **options: Unpack[Options]
    ) -> CaptionBody:
        """Raises ClientError, or OSError for a file that cannot be read."""
        data = await asyncio.to_thread(read_picture, picture)
        return await self._run(self._calls.caption(data, options, timeout_s))

    async def captions(
        self,
        pictures: Iterable[Picture],
        *,
        concurrency: int = 8,
        timeout_s: float | None = None,
        **options: Unpack[Options],
    ) -> AsyncIterator[Answer]:
        """Answers as they come, errors among them; `timeout_s` is for each picture.

        Pictures are taken as they are wanted, and at most `concurrency` of them are on their way.
        """

        async def answer(index: int, picture: Picture) -> Answer:
            try:
                return Answer(index, picture, await self.caption(picture, timeout_s=timeout_s, **options))
            except (ClientError, OSError) as error:
                return Answer(index, picture, error=error)

        waiting: set[asyncio.Task[Answer]] = set()
        try:
            for index, picture in enumerate(pictures):
                waiting.add(asyncio.create_task(answer(index, picture)))
                while len(waiting) == concurrency:
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        yield task.result()
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in waiting:
                task.cancel()

    async def model(self, *, timeout_s: float | None = None) -> ModelBody:
        return await self._run(self._calls.model(timeout_s))

    async def ready(self, *, timeout_s: float | None = None) -> bool:
        """Whether the service takes pictures now. Raises ClientError where no service answers."""
        return await self._run(self._calls.ready(timeout_s))

    async def _run(self, exchange: Exchange[Result]) -> Result:
        step = next(exchange)
        while True:
            try:
                step = exchange.send(await self._outcome(step))
            except StopIteration as end:
                return end.value

    async def _outcome(self, step: Send | Wait) -> Outcome:
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
            return None
        try:
            async with asyncio.timeout(step.left_s):
                return await self._http.send(step.request)
        except TimeoutError:
            return httpx2.ReadTimeout("the answer did not come in time", request=step.request)
        except httpx2.TransportError as error:
            return error

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.aclose()
