"""What a request went through, and when: noted on its way, read at its end by metrics, traces, the log and a header.

Times are of `time.monotonic`. Requests with the same picture share the passage of the one that is captioned.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from starlette.types import Scope

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext

STAGES = ("read", "decode", "queue", "encode", "beam_search", "reply")
RECORD = "caption.record"
"""Where a request's scope holds its record."""


class Stage(NamedTuple):
    name: str
    began: float
    ended: float


@dataclass(eq=False, slots=True)
class Passage:
    """Of a picture, from its bytes to its caption; encode and beam search are those of its batch."""

    stages: list[Stage] = field(default_factory=list)
    callers: "list[SpanContext]" = field(default_factory=list)
    """The traced requests that wait for it."""
    batch: "SpanContext | None" = None

    def note(self, stage: str, began: float, ended: float) -> None:
        self.stages.append(Stage(stage, began, ended))


@dataclass(eq=False, slots=True)
class RequestRecord:
    request_id: str
    began: float
    span: "Span | None" = None
    read: Stage | None = None
    """Of the body."""
    request_bytes: int = 0
    response_bytes: int = 0
    status: int = 0
    passage: Passage | None = None
    reply: Stage | None = None
    """From the caption to the last byte of the answer."""

    def stages(self) -> Iterator[Stage]:
        """Those that have ended, in order."""
        if self.read:
            yield self.read
        if self.passage:
            yield from self.passage.stages
        if self.reply:
            yield self.reply

    def wait_for(self, passage: Passage) -> None:
        self.passage = passage
        if self.span and (context := self.span.get_span_context()).trace_flags.sampled:
            passage.callers.append(context)


def record_in(scope: Scope) -> RequestRecord:
    return scope[RECORD]
