"""Spans of what a worker has done, as plain values; told once it is done, so no context travels between threads.

Names and attributes after OpenTelemetry's semantic conventions (messaging, HTTP); trace contexts are W3C traceparents.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Literal, Protocol

from typing_extensions import override

from penstock.core.records import Headers, Record
from penstock.core.work import Interval

HEADER = "traceparent"
MOST_LINKS = 128
"""What OpenTelemetry keeps of a span's by default."""

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")


Kind = Literal["consumer", "server", "internal"]


@dataclass(frozen=True, slots=True)
class Span:
    """``parent`` and ``links`` are traceparents of others; ``children`` lie within.

    ``error`` is the kind of what went wrong, never its text, which may quote a document; empty where nothing did.
    """

    name: str
    kind: Kind
    interval: Interval
    attributes: Mapping[str, str | int]
    parent: str = ""
    links: Sequence[str] = ()
    children: Sequence["Span"] = ()
    error: str = ""


class Tracer(Protocol):
    """Where spans go."""

    def emit(self, span: Span) -> None:
        """Take it, without waiting and without raising; it may be left out by sampling."""

    def close(self) -> None:
        """Send what was taken, within seconds."""


class NoTracer(Tracer):
    """Keeps nothing."""

    @override
    def emit(self, span: Span) -> None:
        pass

    @override
    def close(self) -> None:
        pass


def context_of(headers: Headers) -> str:
    """The traceparent of a record, empty where there is none that is valid."""
    for name, value in headers:
        if name.lower() == HEADER and value is not None:
            return valid(value.decode("ascii", "replace"))
    return ""


def valid(traceparent: str) -> str:
    """The same, or empty where it is none."""
    return traceparent if TRACEPARENT.fullmatch(traceparent) else ""


def trace_id(traceparent: str) -> str:
    """Of a valid one; empty for an empty one."""
    return traceparent.split("-")[1] if traceparent else ""


def exemplar(traceparent: str) -> dict[str, str] | None:
    """What a histogram keeps beside a value, of a valid traceparent whose trace is recorded; None for any other."""
    recorded = traceparent and int(traceparent[-2:], 16) & 1
    return {"trace_id": trace_id(traceparent)} if recorded else None


def batch_span(records: Sequence[Record], stages: Mapping[str, Interval], counts: Mapping[str, int]) -> Span | None:
    """A batch of the topic on its way through the stages, linked to whoever produced its records."""
    if not records or not stages:
        return None
    topic = records[0].partition.topic
    first, last = records[0], records[-1]
    attributes: dict[str, str | int] = {
        **_processing(topic),
        "messaging.batch.message_count": len(records),
        "penstock.first": f"{first.partition.number}:{first.offset}",
        "penstock.last": f"{last.partition.number}:{last.offset}",
        **{f"penstock.{name}": count for name, count in counts.items()},
    }
    within = Interval(min(stage.start_ns for stage in stages.values()), max(stage.end_ns for stage in stages.values()))
    contexts = filter(None, (context_of(record.headers) for record in records))
    links = tuple(dict.fromkeys(islice(contexts, 10 * MOST_LINKS)))[:MOST_LINKS]
    return Span(f"process {topic}", "consumer", within, attributes, links=links, children=_steps(stages))


def answer_span(
    name: str, kind: Kind, parent: str, ended_ns: int, steps_ms: Mapping[str, float], documents: int
) -> Span:
    """An answered query; its steps lie one after the other and end when it ends."""
    at = started = ended_ns - int(sum(steps_ms.values()) * 1e6)
    steps = {}
    for step, took_ms in steps_ms.items():
        steps[step] = Interval(at, at + int(took_ms * 1e6))
        at = steps[step].end_ns
    attributes = {"penstock.documents": documents}
    return Span(name, kind, Interval(started, ended_ns), attributes, valid(parent), children=_steps(steps))


def request_failure(endpoint: str, parent: str, interval: Interval, status: int) -> Span:
    """A request that was refused or failed; what is the client's fault is no error of the server's."""
    error = str(status) if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ""
    attributes = {"http.response.status_code": status}
    return Span(f"POST /v1/{endpoint}", "server", interval, attributes, valid(parent), error=error)


def record_failure(record: Record, interval: Interval, error: str) -> Span:
    """A query of a topic that got no answer."""
    topic, number = record.partition.topic, record.partition.number
    attributes: dict[str, str | int] = {
        **_processing(topic),
        "messaging.destination.partition.id": str(number),
        "messaging.kafka.offset": record.offset,
    }
    return Span(f"process {topic}", "consumer", interval, attributes, context_of(record.headers), error=error)


def _processing(topic: str) -> dict[str, str]:
    return {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.destination.name": topic,
    }


def _steps(intervals: Mapping[str, Interval]) -> tuple[Span, ...]:
    return tuple(Span(name, "internal", interval, {}) for name, interval in intervals.items())
