"""The app on its ports: uvicorn with limits on connections, and perhaps a second port for operators."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from service.connections import Connections
from service.settings import Settings

LAST_WORDS_S = 5
"""For answers that are written while the drain ends, and for bodies that never end."""

logger = logging.getLogger("service")


class PortError(OSError):
    pass


def uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    connections = Connections(
        max_connections=settings.max_connections,
        header_timeout_s=settings.header_timeout_s,
        write_timeout_s=settings.write_timeout_s,
    )
    return uvicorn.Config(
        app,
        http=connections.protocol,  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=LAST_WORDS_S,
    )


@asynccontextmanager
async def admin_server(app: FastAPI | None, settings: Settings) -> AsyncIterator[None]:
    """Answers until the public port is closed."""
    if app is None or settings.admin_port is None:
        yield
        return
    with bound_socket(settings.host, settings.admin_port) as listener:
        server = uvicorn.Server(uvicorn_config(app, settings))
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        while not (server.started or serving.done()):
            await asyncio.sleep(0.01)
        logger.info("health and metrics on http://%s:%d", settings.host, listener.getsockname()[1])
        yield
        server.should_exit = True
        await serving


def bound_socket(host: str, port: int) -> socket.socket:
    """Bound before the model is loaded, so that a taken port is told at once; listens only when the model is there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay (40 ms an answer) off only where it sees that the protocol is TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener
