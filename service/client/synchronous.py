"""The client of programs with threads, or with none."""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self, Unpack

import httpx2

from service.client.errors import ClientError
from service.client.exchange import Answer, Calls, Exchange, Options, Outcome, Result, Send, Wait, whole
from service.client.pictures import Picture, read_picture
from service.schemas import CaptionBody, ModelBody


class CaptionClient:
    """Many threads may use one. `timeout_s` is for a call with all its attempts, and the service hears of it."""

    def __init__(self, url: str, *, api_key: str | None = None, timeout_s: float = 30.0) -> None:
        self._calls = Calls(url, api_key, timeout_s)
        self._http = httpx2.Client()

    def caption(self, picture: Picture, *, timeout_s: float | None = None, **options: Unpack[Options]) -> CaptionBody:
        """Raises ClientError, or OSError for a file that cannot be read."""
        return self._run(self._calls.caption(read_picture(picture), options, timeout_s))

    def captions(
        self,
        pictures: Iterable[Picture],
        *,
        concurrency: int = 8,
        timeout_s: float | None = None,
        **options: Unpack[Options],
    ) -> Iterator[Answer]:
        """Answers as they come, errors among them; `timeout_s` is for each picture.

        Pictures are taken as they are wanted, and at most `concurrency` of them are on their way.
        """

        def answer(index: int, picture: Picture) -> Answer:
            try:
                return Answer(index, picture, self.caption(picture, timeout_s=timeout_s, **options))
            except (ClientError, OSError) as error:
                return Answer(index, picture, error=error)

        pool = ThreadPoolExecutor(concurrency, "caption-client")
        waiting: set[Future[Answer]] = set()
        try:
            for index, picture in enumerate(pictures):
                waiting.add(pool.submit(answer, index, picture))
                while len(waiting) == concurrency:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def model(self, *, timeout_s: float | None = None) -> ModelBody:
        return self._run(self._calls.model(timeout_s))

    def ready(self, *, timeout_s: float | None = None) -> bool:
        """Whether the service takes pictures now. Raises ClientError where no service answers."""
        return self._run(self._calls.ready(timeout_s))

    def _run(self, exchange: Exchange[Result]) -> Result:
        step = next(exchange)
        while True:
            try:
                step = exchange.send(self._outcome(step))
            except StopIteration as end:
                return end.value

    def _outcome(self, step: Send | Wait) -> Outcome:
        if isinstance(step, Wait):
            time.sleep(step.seconds)
            return None
        try:
            return self._sent(step)
        except httpx2.TransportError as error:
            return error

    def _sent(self, step: Send) -> httpx2.Response:
        """A timeout of httpx is for each read: whoever trickles is held to the deadline here."""
        ends = time.monotonic() + step.left_s
        response = self._http.send(step.request, stream=True)
        content = bytearray()
        try:
            for chunk in response.iter_raw():
                content += chunk
                if time.monotonic() > ends:
                    raise httpx2.ReadTimeout("the answer did not end in time", request=step.request)
        finally:
            response.close()
        return whole(response, bytes(content))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
