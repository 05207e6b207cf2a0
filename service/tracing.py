"""OpenTelemetry: a server span for each request with one below it for each stage, and a span for each batch.

A batch has links to the requests in it, and the stages that requests share in it have links to the batch. It belongs to
the trace of its first request, so that it is kept where that is. Where spans go, and which, is told by the environment
variables of OpenTelemetry (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, ...). Needs the extra `otel`; imported
only when tracing is on. Spans of stages are made when a request ends, out of its record: whole and at their end, which
takes a tenth of the time that it takes to start and end them.
"""

import time
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.passage import Passage, RequestRecord, Stage

SCOPE = "service"
IN_BATCH = frozenset({"encode", "beam_search"})


class Tracing:
    def __init__(self, processor: SpanProcessor, *, version: str) -> None:
        named = Resource.create({"service.name": "image-caption-service", "service.version": version})
        self._provider = TracerProvider(resource=named.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._processor = processor
        self._ids, self._scope = RandomIdGenerator(), InstrumentationScope(SCOPE)
        self._tracer = self._provider.get_tracer(SCOPE)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, traceparent: bytes, tracestate: bytes) -> Span:
        """The span of a request, in the trace that the client names."""
        context = None
        if traceparent:
            carrier = {"traceparent": traceparent.decode("latin-1"), "tracestate": tracestate.decode("latin-1")}
            context = self._propagator.extract(carrier)
        return self._tracer.start_span("request", context=context, kind=SpanKind.SERVER)

    def end(self, record: RequestRecord, route: str, method: str, status: int, ended: float) -> str | None:
        """Returns the id of the trace, if it is kept."""
        span = record.span
        if span is None or not span.is_recording():
            return None
        own, epoch = span.get_span_context(), _epoch()
        for stage in record.stages():
            batch = record.passage.batch if record.passage and stage.name in IN_BATCH else None
            self._add(stage, own, epoch, [Link(batch)] if batch else ())
        span.update_name(f"{method} {route}")
        span.set_attributes(
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "http.request.body.size": record.request_bytes,
                "http.response.body.size": record.response_bytes,
                "caption.request_id": record.request_id,
            }
        )
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(epoch + int(ended * 1e9))
        return format_trace_id(own.trace_id)

    def batch(self, passages: Sequence[Passage], stages: Sequence[Stage]) -> None:
        """Of a batch that has ended; its pictures are told which span is its."""
        callers = [caller for passage in passages for caller in passage.callers]
        if not callers:
            return
        epoch = _epoch()
        span = self._tracer.start_span(
            "batch",
            context=set_span_in_context(NonRecordingSpan(callers[0])),
            links=[Link(caller) for caller in callers],
            attributes={"caption.batch.size": len(passages)},
            start_time=epoch + int(stages[0].began * 1e9),
        )
        own = span.get_span_context()
        for stage in stages:
            self._add(stage, own, epoch)
        span.end(epoch + int(stages[-1].ended * 1e9))
        for passage in passages:
            passage.batch = own

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()

    def _add(self, stage: Stage, parent: SpanContext, epoch: int, links: Sequence[Link] = ()) -> None:
        """`parent` is kept, so this is."""
        span = ReadableSpan(
            stage.name,
            SpanContext(parent.trace_id, self._ids.generate_span_id(), False, parent.trace_flags, parent.trace_state),
            parent,
            self._provider.resource,
            links=links,
            instrumentation_scope=self._scope,
            start_time=epoch + int(stage.began * 1e9),
            end_time=epoch + int(stage.ended * 1e9),
        )
        self._processor.on_end(span)


def exporting(*, version: str) -> Tracing:
    """To where the environment says: OTLP over HTTP."""
    return Tracing(BatchSpanProcessor(OTLPSpanExporter()), version=version)


def _epoch() -> int:
    """What is to be added to the monotonic clock, in nanoseconds."""
    return time.time_ns() - time.monotonic_ns()
