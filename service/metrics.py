"""The Prometheus series, on a registry of the app's own, every label set present from the start.

Those of pictures are here; those of requests, of models, and what is only looked up when Prometheus asks are next door.
What the way of a picture touches is bound to its labels once, here.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from service.batcher import WorkerState
from service.collectors import CpuThrottling, GpuMemory, Workers
from service.cpus import throttling
from service.model_metrics import ModelMetrics
from service.passage import STAGES
from service.request_metrics import LATENCY_EDGES_S, RequestMetrics

STAGE_EDGES_S = (0.0005, 0.001, 0.0025, *LATENCY_EDGES_S)
BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
PIXELS = (10_000, 100_000, 300_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000, 50_000_000)
WORDS = (1, 2, 3, 4, 6, 8, 10, 12, 15, 20, 30, 50)
NEGATIVE_LOG_PROBABILITIES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 50)
CACHE_OUTCOMES = ("hit", "miss", "coalesced")
CANCEL_STAGES = ("upload", "decode", "queue", "engine")
Metric = TypeVar("Metric", Counter, Histogram)


class Metrics:
    def __init__(self, registry: CollectorRegistry, *, reject_reasons: Iterable[str]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        registry.register(CpuThrottling(throttling))
        registry.register(GpuMemory())
        self.requests = RequestMetrics(registry)
        self.models = ModelMetrics(registry)
        self._stages = _bound(
            Histogram(
                "caption_stage_duration_seconds",
                "read, decode, queue and reply: once per picture; encode and beam_search: once per batch.",
                ("stage",),
                buckets=STAGE_EDGES_S,
                registry=registry,
            ),
            STAGES,
        )
        self._rejected = _bound(
            Counter("caption_rejected", "Pictures that got no caption, by error code.", ("reason",), registry=registry),
            reject_reasons,
        )
        self._cancelled = _bound(
            Counter(
                "caption_cancelled", "Pictures whose client left, by where they were.", ("stage",), registry=registry
            ),
            CANCEL_STAGES,
        )
        self._cache = _bound(
            Counter(
                "caption_cache",
                "Captions from the cache (hit), of a picture under way already (coalesced), or made anew (miss).",
                ("outcome",),
                registry=registry,
            ),
            CACHE_OUTCOMES,
        )
        self._make_unlabelled(registry)

    def _make_unlabelled(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, documentation: str, edges: Sequence[float]) -> Histogram:
            return Histogram(name, documentation, buckets=edges, registry=registry)

        def gauge(name: str, documentation: str) -> Gauge:
            return Gauge(name, documentation, registry=registry)

        self.batch_size = histogram("caption_batch_size", "Pictures in a batch.", BATCH_SIZES)
        self.splits = Counter(
            "caption_batch_splits", "Batches that failed and were tried again in halves.", registry=registry
        )
        self.pixels = histogram("caption_image_pixels", "Of pictures as they came, told from their headers.", PIXELS)
        self._words = histogram("caption_length_words", "Of the best caption of a picture.", WORDS)
        self._negative_log_probability = histogram(
            "caption_negative_log_probability",
            "Of the best caption of a picture, natural logarithm: the higher, the less sure the model was.",
            NEGATIVE_LOG_PROBABILITIES,
        )
        self._queue_depth = gauge("caption_queue_depth", "Pictures that are decoded or wait for a batch.")
        self._queue_capacity = gauge("caption_queue_capacity", "Depth at which new pictures are refused.")
        self._stuck = gauge("caption_decode_threads_stuck", "Threads in a picture that is past its time limit.")
        self.log_lines_dropped = Counter(
            "caption_log_lines_dropped", "Lines of the log that nobody read in time.", registry=registry
        )

    def stage(self, name: str) -> Histogram:
        return self._stages[name]

    def reject(self, reason: str) -> None:
        self._rejected[reason].inc()

    def cancel(self, stage: str) -> None:
        self._cancelled[stage].inc()

    def answer_from_cache(self, outcome: str) -> None:
        self._cache[outcome].inc()

    def caption_made(self, words: int, log_probability: float) -> None:
        self._words.observe(words)
        self._negative_log_probability.observe(-log_probability)

    def watch_decode_threads(self, stuck: Callable[[], int]) -> None:
        self._stuck.set_function(stuck)

    def watch_queue(self, depth: Callable[[], int], capacity: int) -> None:
        self._queue_depth.set_function(depth)
        self._queue_capacity.set(capacity)

    def watch_workers(self, states: Callable[[], Sequence[WorkerState]]) -> None:
        self.registry.register(Workers(states))


def _bound(metric: Metric, values: Iterable[str]) -> dict[str, Metric]:
    """A metric of one label, with all its values."""
    return {value: metric.labels(value) for value in values}
