"""Work for a client, dropped as soon as the client has gone."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from service.errors import ClientLeftError

Result = TypeVar("Result")


async def unless_client_leaves(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Call when the body is read: the next message is then the disconnection."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeftError
        return working.result()
    finally:
        unfinished = [task for task in (working, leaving) if task.cancel()]
        await asyncio.gather(*unfinished, return_exceptions=True)
        del working, unfinished  # an error leads here: no ring, which would keep the body


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
