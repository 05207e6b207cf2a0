"""The service as one ASGI app: settings are unpacked here, and nothing below sees them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TypeAlias

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from service import errors
from service.access import admission
from service.cpus import available_cpus
from service.keys import Keys
from service.metrics import Metrics, RequestMetrics, build_info
from service.model_source import LoadedModel, ModelSource
from service.pipeline import Pipeline
from service.rate_limit import RateLimiter
from service.routes import RELOAD_ERRORS, operation, pages, probes, router
from service.settings import Settings
from service.threads import in_passing_thread
from service.unread import UnreadBodies
from service.upload import Uploads
from service.web_security import SecurityHeaders, cors
from shared.captioner import load_captioners
from shared.image import ImageLimits

Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[None]]

EXPECTED_REQUESTS = {
    ("/caption", "POST"): (200, *errors.statuses(errors.CAPTION_ERRORS)),
    ("/model/reload", "POST"): (200, *errors.statuses(RELOAD_ERRORS)),
    **{(path, "GET"): (200,) for path in ("/model", "/livez", "/readyz", "/startupz", "/metrics")},
}


def create_app(settings: Settings) -> FastAPI:
    """Starts nothing: the lifespan loads the model, raises BundleError or EngineError, and drains at the end.

    With a port for operators, `state.admin` is the app for it. Raises SettingsError for API keys that cannot be read.
    """
    metrics = Metrics(CollectorRegistry(), reject_reasons=errors.REJECT_REASONS)
    pipeline = _pipeline(settings, metrics)
    metrics.watch_queue(lambda: pipeline.waiting, settings.max_queue_size)
    metrics.watch_decode_threads(lambda: pipeline.decode_pool.stuck)
    for (route, method), codes in EXPECTED_REQUESTS.items():
        metrics.expect_route(route, method, codes)
    lifespan = _lifespan(pipeline, reload_poll_s=settings.reload_poll_s, drain_timeout_s=settings.drain_timeout_s)
    app = _bare_app("Image caption service", metrics, pipeline, lifespan, settings.cors_origins)
    app.state.uploads = Uploads(
        max_bytes=settings.max_bytes,
        max_total_bytes=settings.max_upload_bytes,
        timeout_s=settings.body_timeout_s,
        on_cancel=metrics.cancel,
    )
    keys = Keys(settings.api_keys_file) if settings.api_keys_file else None
    limiter = RateLimiter(rate=settings.rate_limit, burst=settings.rate_burst) if settings.rate_limit else None
    app.include_router(router, dependencies=admission(keys, limiter))
    app.state.admin = None if settings.admin_port is None else _bare_app("Operation", metrics, pipeline)
    operated = app.state.admin or app
    operated.include_router(probes)
    operated.include_router(operation, dependencies=admission(keys, None))
    return app


def _bare_app(
    title: str,
    metrics: Metrics,
    pipeline: Pipeline,
    lifespan: Lifespan | None = None,
    cors_origins: Sequence[str] = (),
) -> FastAPI:
    app = FastAPI(
        title=title,
        description="A picture goes in, a sentence comes out.",
        version=build_info()["version"],
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.metrics = metrics
    app.state.pipeline = pipeline
    app.include_router(pages)
    errors.install(app)
    app.add_middleware(errors.UnforeseenErrors)
    if cors_origins:
        app.add_middleware(cors, origins=cors_origins)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestMetrics, metrics=metrics)
    app.add_middleware(UnreadBodies)
    return app


def _pipeline(settings: Settings, metrics: Metrics) -> Pipeline:
    cpus = settings.threads or available_cpus()
    load = partial(
        load_captioners,
        engine=settings.engine,
        precision=settings.precision,
        threads=cpus,
        workers=settings.workers,
    )
    models = ModelSource(
        settings.model,
        load,
        on_change=lambda model: metrics.serve_model(model_labels(model)),
        on_reload=metrics.reload,
    )
    return Pipeline(
        models=models,
        limits=ImageLimits(settings.max_bytes, settings.max_pixels),
        decode_threads=settings.decode_threads or cpus,
        decode_timeout_s=settings.decode_timeout_s,
        cache_size=settings.cache_size,
        cache_max_bytes=settings.cache_max_bytes,
        max_batch_size=settings.max_batch_size,
        max_queue_size=settings.max_queue_size,
        max_queue_bytes=settings.max_queue_bytes,
        timeout_s=settings.timeout_s,
        stuck_after_s=settings.stuck_after_s,
        metrics=metrics,
    )


def _lifespan(pipeline: Pipeline, *, reload_poll_s: float, drain_timeout_s: float) -> Lifespan:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        models = pipeline.models
        await in_passing_thread(models.load)
        pipeline.start()
        watching = asyncio.ensure_future(models.watch(reload_poll_s)) if models.is_volume else None
        try:
            yield
        finally:
            if watching is not None:
                watching.cancel()
            await pipeline.drain(drain_timeout_s)

    return lifespan


def model_labels(model: LoadedModel) -> dict[str, str]:
    captioner = model.captioner
    return {
        "name": captioner.bundle.name,
        "version": captioner.bundle.version,
        "engine": captioner.engine_name,
        "precision": captioner.precision,
        "device": captioner.device,
        "source": model.source,
    }
