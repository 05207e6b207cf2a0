"""The Prometheus series of HTTP requests: by the template of a route, never by a path, so their number is bounded."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# The usual objectives (0.15, 0.2, 0.3, 1.5 s) are edges: a classic histogram answers only at its edges.
LATENCY_EDGES_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10)
BODY_BYTES = (1_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 20_000_000)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
NO_ROUTE, OTHER_METHOD = "none", "other"
CLIENT_LEFT = 499


class RequestMetrics:
    """On the event loop alone."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.in_flight = 0
        self._requests = Counter(
            "caption_requests",
            "Requests answered, errors included; 499: the client left, other: a method that the route does not take.",
            ("route", "method", "code"),
            registry=registry,
        )
        self._duration = Histogram(
            "caption_request_duration_seconds",
            "From the first byte of a request to the last of its answer.",
            ("route",),
            buckets=LATENCY_EDGES_S,
            registry=registry,
        )
        self._size = Histogram(
            "caption_request_size_bytes", "Of the bodies that were read.", buckets=BODY_BYTES, registry=registry
        )
        in_flight = Gauge("caption_requests_in_flight", "Requests that are being answered.", registry=registry)
        in_flight.set_function(lambda: self.in_flight)
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._durations: dict[str, Histogram] = {}
        self._methods: set[tuple[str, str]] = set()
        for method in METHODS:
            self.expect(NO_ROUTE, method, (404, 405))
        self._counter(NO_ROUTE, OTHER_METHOD, 404)

    def expect(self, route: str, method: str, codes: Iterable[int]) -> None:
        """Make the series of a route before its first request."""
        self._methods.add((route, method))
        for code in codes:
            self._counter(route, method, code)
        self._counter(route, OTHER_METHOD, 405)
        self._durations[route] = self._duration.labels(route)

    def known_method(self, route: str, method: str) -> str:
        return method if (route, method) in self._methods else OTHER_METHOD

    def end(self, route: str, method: str, code: int, *, seconds: float, size: int, trace_id: str | None) -> None:
        """A request has been answered; `method` is a known one."""
        self._counter(route, method, code).inc()
        duration = self._durations.get(route) or self._durations.setdefault(route, self._duration.labels(route))
        duration.observe(seconds, {"trace_id": trace_id} if trace_id else None)
        if size:
            self._size.observe(size)

    def _counter(self, route: str, method: str, code: int) -> Counter:
        key = (route, method, code)
        if key not in self._counters:
            self._counters[key] = self._requests.labels(route, method, str(code))
        return self._counters[key]
