"""The service as one ASGI app: settings are unpacked here, and nothing below sees them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from prometheus_client import CollectorRegistry

from service import errors
from service.access import admission
from service.cpus import available_cpus
from service.doors import ibm_max, many, open_inference
from service.doors.fetching import PictureByAddress
from service.doors.pace import Pace
from service.explain_routes import explaining
from service.keys import Keys
from service.load_shedding import LoadShedding
from service.loading import captioners_loader
from service.metrics import Metrics
from service.model_metrics import build_info
from service.model_source import LoadedModel, ModelSource
from service.observation import Observation
from service.page import page_router
from service.pipeline import Pipeline
from service.rate_limit import RateLimiter
from service.request_metrics import CLIENT_LEFT, NO_ROUTE
from service.routes import operation, operators_home, pages, probes, router
from service.settings import Settings, SettingsError
from service.threads import in_passing_thread
from service.unread import UnreadBodies
from service.upload import Uploads
from service.web_security import SecurityHeaders, cors
from shared.image import ImageLimits

if TYPE_CHECKING:
    from service.tracing import Tracing

Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[None]]

# FastAPI's own spans would tell queries, and would follow whatever the environment says.
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
DESCRIPTION = """A picture goes in, a sentence comes out.

Every error is JSON with a code for programs and a sentence for people. After 429 and 503 come back when `Retry-After`
says. Every answer has an `X-Request-Id`: the client's own, or a new one."""
TAGS = [
    {"name": "captions", "description": "For whoever has pictures."},
    {"name": "health", "description": "For load balancers, supervisors and Prometheus; no key is asked for."},
    {"name": "operation", "description": "For whoever runs the service."},
]
FLUSH_S = 3.0
"""For the last spans, when whoever takes them does not answer."""


def create_app(settings: Settings) -> FastAPI:
    """Starts nothing: the lifespan loads the model, raises BundleError or EngineError, and drains at the end.

    With a port for operators, `state.admin` is the app for it. Raises SettingsError for API keys that cannot be read,
    and for tracing without what it needs.
    """
    metrics = Metrics(CollectorRegistry(), reject_reasons=errors.REJECT_REASONS)
    tracing = _tracing() if settings.tracing else None
    pipeline = _pipeline(settings, metrics, tracing)
    metrics.watch_queue(lambda: pipeline.waiting, settings.max_queue_size)
    metrics.watch_decode_threads(lambda: pipeline.decode_pool.stuck)
    metrics.watch_workers(lambda: pipeline.batcher.workers)
    page = page_router()
    of_one_picture = [router, explaining, *([ibm_max.router] if settings.ibm_max else [])]
    captioning = [*of_one_picture, many.router, open_inference.router]
    open_doors = [page, open_inference.health, *([ibm_max.documents] if settings.ibm_max else [])]
    for route, method, codes in expected_requests(*captioning, probes, operation, pages, *open_doors):
        metrics.requests.expect(route, method, codes)
    metrics.requests.expect(NO_ROUTE, "GET", (200,))  # Starlette's own: the OpenAPI document
    lifespan = _lifespan(
        pipeline, tracing, reload_poll_s=settings.reload_poll_s, drain_timeout_s=settings.drain_timeout_s
    )
    app = _bare_app(
        "Image caption service", metrics, pipeline, tracing, lifespan, settings.cors_origins, shed=of_one_picture
    )
    app.state.uploads = Uploads(
        max_bytes=settings.max_bytes,
        max_total_bytes=settings.max_upload_bytes,
        timeout_s=settings.body_timeout_s,
        on_cancel=metrics.cancel,
    )
    _open_doors(app, settings)
    keys = Keys(settings.api_keys_file) if settings.api_keys_file else None
    limiter = RateLimiter(rate=settings.rate_limit, burst=settings.rate_burst) if settings.rate_limit else None
    for each in captioning:
        app.include_router(each, dependencies=admission(keys, limiter))
    for each in open_doors:
        app.include_router(each)
    app.state.admin = None if settings.admin_port is None else _bare_app("Operation", metrics, pipeline, tracing)
    if app.state.admin:
        app.state.admin.include_router(operators_home)
    operated = app.state.admin or app
    operated.include_router(probes)
    operated.include_router(operation, dependencies=admission(keys, None))
    return app


def _open_doors(app: FastAPI, settings: Settings) -> None:
    """What requests with many pictures, or with an address instead of one, need; and how each API tells of errors."""
    pace = app.state.pace = Pace(
        app.state.pipeline,
        max_batch_size=settings.max_batch_size,
        max_queue_size=settings.max_queue_size,
    )
    app.state.many = many.ManyLimits(settings.max_pictures, settings.max_pictures_bytes)
    app.state.by_address = None
    if settings.url_hosts:
        app.state.by_address = PictureByAddress(
            hosts=settings.url_hosts, timeout_s=settings.url_timeout_s, uploads=app.state.uploads, pace=pace
        )
    app.state.dialects = open_inference.DIALECTS | (ibm_max.DIALECTS if settings.ibm_max else {})


def _bare_app(
    title: str,
    metrics: Metrics,
    pipeline: Pipeline,
    tracing: "Tracing | None",
    lifespan: Lifespan | None = None,
    cors_origins: Sequence[str] = (),
    shed: Sequence[APIRouter] = (),
) -> FastAPI:
    app = FastAPI(
        title=title,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        generate_unique_id_function=lambda route: route.name,
        version=build_info()["version"],
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        telemetry=NO_TELEMETRY,
    )
    app.state.metrics = metrics
    app.state.pipeline = pipeline
    app.include_router(pages)
    errors.install(app)
    if shed:
        app.add_middleware(LoadShedding, admit=pipeline.admit, routers=shed)
    app.add_middleware(errors.UnforeseenErrors)
    if cors_origins:
        app.add_middleware(cors, origins=cors_origins)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Observation, metrics=metrics, tracing=tracing)
    app.add_middleware(UnreadBodies)
    return app


def expected_requests(*routers: APIRouter) -> Iterator[tuple[str, str, list[int]]]:
    """Every route with its method and the statuses that it answers with, as they are declared."""
    for route in chain.from_iterable(each.routes for each in routers):
        assert isinstance(route, APIRoute)
        codes = [route.status_code or 200, *map(int, route.responses)]
        for method in route.methods or ():
            yield route.path, method, [*codes, CLIENT_LEFT] if method == "POST" else codes


def _tracing() -> "Tracing":
    try:
        from service.tracing import exporting
    except ImportError as error:
        raise SettingsError("CAPTION_TRACING is on, but the extra 'otel' is not installed") from error
    return exporting(version=build_info()["version"])


def _pipeline(settings: Settings, metrics: Metrics, tracing: "Tracing | None") -> Pipeline:
    cpus = settings.threads or available_cpus()
    models = ModelSource(
        settings.model,
        captioners_loader(settings, cpus),
        on_change=lambda model: metrics.models.serve(model_labels(model)),
        on_reload=metrics.models.reload,
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
        on_batch=tracing.batch if tracing else None,
    )


def _lifespan(
    pipeline: Pipeline, tracing: "Tracing | None", *, reload_poll_s: float, drain_timeout_s: float
) -> Lifespan:
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
            if tracing is not None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(in_passing_thread(tracing.close), FLUSH_S)

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
