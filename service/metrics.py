"""The Prometheus series, on a registry of the app's own, every label set present from the start."""

import platform
import time
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The usual objectives (0.15, 0.2, 0.3, 1.5 s) are edges: a classic histogram answers only at its edges.
LATENCY_EDGES_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10)
STAGE_EDGES_S = (0.0005, 0.001, 0.0025, *LATENCY_EDGES_S)
BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
STAGES = ("decode", "queue", "encode", "beam_search")
CACHE_OUTCOMES = ("hit", "miss", "coalesced")
CANCEL_STAGES = ("upload", "decode", "queue", "engine")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CLIENT_LEFT = 499


class Metrics:
    def __init__(self, registry: CollectorRegistry, *, reject_reasons: Iterable[str]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self.requests = Counter(
            "caption_requests",
            "Requests answered, errors included; 499 is a client that left.",
            ("route", "method", "code"),
            registry=registry,
        )
        self.request_duration = Histogram(
            "caption_request_duration_seconds",
            "From the first byte of a request to the last of its answer.",
            ("route",),
            buckets=LATENCY_EDGES_S,
            registry=registry,
        )
        self._stages = Histogram(
            "caption_stage_duration_seconds",
            "decode and queue: once per picture; encode and beam_search: once per batch.",
            ("stage",),
            buckets=STAGE_EDGES_S,
            registry=registry,
        )
        self.batch_size = Histogram(
            "caption_batch_size", "Pictures in a batch.", buckets=BATCH_SIZES, registry=registry
        )
        self._queue_depth = Gauge(
            "caption_queue_depth", "Pictures that are decoded or wait for a batch.", registry=registry
        )
        self._queue_capacity = Gauge(
            "caption_queue_capacity", "Depth at which new pictures are refused.", registry=registry
        )
        self._rejected = Counter(
            "caption_rejected", "Pictures that got no caption, by error code.", ("reason",), registry=registry
        )
        self._cancelled = Counter(
            "caption_cancelled", "Pictures whose client left, by where they were.", ("stage",), registry=registry
        )
        self._cache = Counter(
            "caption_cache",
            "Captions from the cache (hit), of a picture that was under way already (coalesced), or made anew (miss).",
            ("outcome",),
            registry=registry,
        )
        self._stuck = Gauge(
            "caption_decode_threads_stuck", "Threads in a picture that is past its time limit.", registry=registry
        )
        self._reloads = Counter(
            "caption_model_reloads", "Attempts to take a newly published model.", ("outcome",), registry=registry
        )
        self._model = Info("caption_model", "The model that answers.", registry=registry)
        Info("caption_build", "What this process runs.", registry=registry).info(build_info())
        for stage in STAGES:
            self._stages.labels(stage)
        for reason in reject_reasons:
            self._rejected.labels(reason)
        for stage in CANCEL_STAGES:
            self._cancelled.labels(stage)
        for outcome in CACHE_OUTCOMES:
            self._cache.labels(outcome)
        for outcome in ("success", "failure"):
            self._reloads.labels(outcome)

    def stage(self, name: str) -> Histogram:
        return self._stages.labels(name)

    def reject(self, reason: str) -> None:
        self._rejected.labels(reason).inc()

    def cancel(self, stage: str) -> None:
        self._cancelled.labels(stage).inc()

    def reload(self, outcome: str) -> None:
        self._reloads.labels(outcome).inc()

    def answer_from_cache(self, outcome: str) -> None:
        self._cache.labels(outcome).inc()

    def watch_decode_threads(self, stuck: Callable[[], int]) -> None:
        self._stuck.set_function(stuck)

    def serve_model(self, labels: dict[str, str]) -> None:
        self._model.info(labels)

    def watch_queue(self, depth: Callable[[], int], capacity: int) -> None:
        self._queue_depth.set_function(depth)
        self._queue_capacity.set(capacity)

    def expect_route(self, route: str, method: str, codes: Iterable[int]) -> None:
        self.request_duration.labels(route)
        for code in codes:
            self.requests.labels(route, method, str(code))


def build_info() -> dict[str, str]:
    info = {"python": platform.python_version()}
    for label, package in (("version", "image-caption-service"), ("openvino", "openvino"), ("pillow", "pillow")):
        try:
            info[label] = version(package)
        except PackageNotFoundError:
            info[label] = "unknown"
    return info


class RequestMetrics:
    """ASGI: counts and times every request at its end, by the template of its route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        status = CLIENT_LEFT
        began = time.perf_counter()

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, note_status)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.metrics.requests.labels(route, method, str(status)).inc()
            self.metrics.request_duration.labels(route).observe(time.perf_counter() - began)
