"""ASGI: pictures are refused while there is no room for them, before FastAPI has resolved their request.

Refusals take of the same cores as captions. At five times what a service can do, four of five requests are refused,
and each of them would cost as much of the event loop as the rest of a request does.
"""

from collections.abc import Callable, Iterable

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service import errors
from service.batcher_errors import BatcherError


class LoadShedding:
    def __init__(self, app: ASGIApp, admit: Callable[[], None], routers: Iterable[APIRouter]) -> None:
        """`admit` raises a BatcherError where there is no room; the POST routes of `routers` take one picture each."""
        self.app = app
        self._admit = admit
        routes = (route for router in routers for route in router.routes if isinstance(route, APIRoute))
        self._routes = {route.path: route for route in routes if "POST" in (route.methods or ())}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and (route := self._routes.get(scope["path"])):
            try:
                self._admit()
            except BatcherError as error:
                scope["route"] = route  # by whose name the request is counted
                response = await errors.answer(Request(scope), error)
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)
