"""`python -m service`: settings -> logging -> model -> port, and a drain at SIGTERM.

What keeps it from starting is one sentence on stderr: exit 2 for the settings, 1 for the model or the port.
"""

import asyncio
import logging
import os
import signal
import sys

# Read when numpy is imported; the service multiplies no large matrices with it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import uvicorn

from service.app import create_app
from service.pipeline import Pipeline
from service.server import PortError, admin_server, bound_socket, uvicorn_config
from service.settings import Settings, SettingsError, read_settings
from shared.bundle import BundleError
from shared.engine import EngineError

logger = logging.getLogger("service")


def main() -> int:
    try:
        settings = read_settings()
    except SettingsError as error:
        return _refuse(error, 2)
    logging.basicConfig(
        stream=sys.stdout,
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logger.info("settings: %s", " ".join(f"{name}={value}" for name, value in settings))
    # As process 1 of a container Python would not even notice the signal while the model is loaded.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        asyncio.run(serve(settings))
    except SettingsError as error:
        return _refuse(error, 2)
    except (BundleError, EngineError, PortError) as error:
        return _refuse(error, 1)
    except KeyboardInterrupt:
        return 130
    return 0


async def serve(settings: Settings) -> None:
    app = create_app(settings)
    with bound_socket(settings.host, settings.port) as listener:
        async with app.router.lifespan_context(app), admin_server(app.state.admin, settings):
            server = uvicorn.Server(uvicorn_config(app, settings))
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            # uvicorn takes the signals as it starts; what must happen before it closes the port takes them back.
            await asyncio.sleep(0)
            stopping = _stop_on_signal(server, app.state.pipeline, settings.drain_delay_s, settings.drain_timeout_s)
            logger.info("listening on http://%s:%d", settings.host, listener.getsockname()[1])
            await serving
            stopping.cancel()


def _stop_on_signal(
    server: uvicorn.Server, pipeline: Pipeline, delay_s: float, timeout_s: float
) -> asyncio.Future[None]:
    """The first signal drains; at the second one nobody waits for clients any more."""
    asked = asyncio.Event()

    def ask() -> None:
        server.force_exit = server.should_exit = asked.is_set()
        asked.set()

    async def stop() -> None:
        await asked.wait()
        logger.info("stopping: %d requests are finished first", pipeline.in_flight)
        pipeline.draining = True
        await asyncio.sleep(delay_s)
        await pipeline.drain(timeout_s)
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ask)
    return asyncio.ensure_future(stop())


def _refuse(error: Exception, code: int) -> int:
    sys.stderr.write(f"{error}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
