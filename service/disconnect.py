"""Work for a client, dropped as soon as the client has gone."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from service.errors import ClientLeftError

Result = TypeVar("Result")


async def unless_client_leaves(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Call when the body is read: the next message is then the disconnection.

    The work runs in the caller's own task and is cancelled there, as `asyncio.timeout` does it.
    """
    working, has_left = asyncio.current_task(), False
    assert working is not None

    async def watch() -> None:
        nonlocal has_left
        while (await receive())["type"] != "http.disconnect":
            pass
        has_left = True
        working.cancel()

    watching = asyncio.ensure_future(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if has_left and not working.uncancel():
            raise ClientLeftError from None
        raise
    finally:
        watching.cancel()
