"""`python -m service`: settings -> logging -> model -> port, and a drain at SIGTERM.

What keeps it from starting is one sentence on stderr: exit 2 for the settings, 1 for the model or the port. A service
that only a restart can help ends with exit 70, see watchdog.py.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from typing import NoReturn

# Read when numpy is imported; the service multiplies no large matrices with it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import uvicorn

from service.app import create_app
from service.last_words import refuse_open, refuse_waiting
from service.logs import UnhurriedStream, configure_logging
from service.memory import keep_trimmed, return_what_is_freed, spare_what_stays
from service.pipeline import Pipeline
from service.server import PortError, admin_server, bound_socket, uvicorn_config
from service.settings import Settings, SettingsError, read_settings
from service.watchdog import Watchdog
from shared.bundle import BundleError
from shared.engine import EngineError

logger = logging.getLogger("service")

SWITCH_INTERVAL_S = 0.0005
"""Engines need Python's lock for a moment between two steps; nobody holds it for longer than this while they wait."""
LAST_REQUESTS_S = 0.2
"""For requests that were on their way as the port was closed, and for their answers."""
SHUTTING_DOWN = "the service is shutting down"


def main() -> int:
    try:
        settings = read_settings()
    except SettingsError as error:
        return _refuse(error, 2)
    log = UnhurriedStream(sys.stdout)
    configure_logging(log, level=settings.log_level, log_format=settings.log_format)
    logger.info("settings: %s", " ".join(f"{name}={value}" for name, value in settings))
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return_what_is_freed()
    # While the model is loaded nobody has anything to lose, and a thread that loads cannot be stopped otherwise.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        asyncio.run(serve(settings, log))
    except SettingsError as error:
        return _refuse(error, 2)
    except (BundleError, EngineError, PortError) as error:
        return _refuse(error, 1)
    return 0


async def serve(settings: Settings, log: UnhurriedStream) -> None:
    app = create_app(settings)
    log.on_drop = app.state.metrics.log_lines_dropped.inc
    with bound_socket(settings.host, settings.port) as listener:
        async with app.router.lifespan_context(app), admin_server(app.state.admin, settings):
            spare_what_stays()
            server = uvicorn.Server(uvicorn_config(app, settings))
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            # uvicorn takes the signals as it starts; what must happen before it closes the port takes them back.
            await asyncio.sleep(0)
            pipeline = app.state.pipeline
            trimming = asyncio.ensure_future(keep_trimmed(pipeline.decode_pool.run))
            stopping = _stop_on_signal(
                server, listener, pipeline, delay_s=settings.drain_delay_s, timeout_s=settings.drain_timeout_s
            )
            with _watchdog(server, listener, pipeline, settings.stuck_after_s).watching():
                logger.info("listening on http://%s:%d", settings.host, listener.getsockname()[1])
                await serving
            trimming.cancel()
            stopping.cancel()


def _watchdog(server: uvicorn.Server, listener: socket.socket, pipeline: Pipeline, limit_s: float) -> Watchdog:
    def last_words() -> None:
        refuse_open(server.server_state.connections, "the service is being restarted")
        refuse_waiting(listener, "the service is being restarted")

    return Watchdog(limit_s=limit_s, sick=pipeline.sick, give_up=pipeline.give_up, last_words=last_words)


def _stop_on_signal(
    server: uvicorn.Server, listener: socket.socket, pipeline: Pipeline, *, delay_s: float, timeout_s: float
) -> asyncio.Future[None]:
    """The first signal drains; at the second one nobody waits for clients any more."""
    asked = asyncio.Event()

    def ask() -> None:
        if asked.is_set():
            pipeline.give_up(SHUTTING_DOWN)
            server.force_exit = server.should_exit = True
        asked.set()

    async def stop() -> None:
        await asked.wait()
        logger.info("stopping: %d requests are finished first", pipeline.in_flight)
        pipeline.draining = True
        await asyncio.sleep(delay_s)
        await pipeline.drain(timeout_s)
        await _close_port(server, listener)
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ask)
    return asyncio.ensure_future(stop())


def _refuse(error: Exception, code: int) -> int:
    sys.stderr.write(f"{error}\n")
    return code


async def _close_port(server: uvicorn.Server, listener: socket.socket) -> None:
    """Nobody who has got through to the port is cut off: asyncio would reset them, here and in the kernel's queue."""
    asyncio.get_running_loop().remove_reader(listener)
    await asyncio.sleep(LAST_REQUESTS_S)
    refused = refuse_waiting(listener, SHUTTING_DOWN)
    for port in server.servers:
        port.close()
    await asyncio.sleep(LAST_REQUESTS_S)
    for connection in refused:
        connection.close()


def end(code: int) -> NoReturn:
    """End the process without waiting for its threads: one may hang in a picture or in a model."""
    logging.shutdown()
    os._exit(code)


if __name__ == "__main__":
    end(main())
