"""Spans over OTLP to a collector, by OpenTelemetry's SDK; an extra, since few run a collector."""

import logging
import threading
from collections.abc import Callable, Sequence

from typing_extensions import override

from penstock.core.errors import Misconfigured
from penstock.observe.spans import TRACEPARENT, NoTracer, Span, Tracer
from penstock.settings import TraceSettings

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
except ImportError as missing:
    WITHOUT: ImportError | None = missing
else:
    WITHOUT = None

CLOSE_S = 2.0
EXPORT_S = 5


def open_tracer(settings: TraceSettings, service: str, version: str, lost: Callable[[int], None]) -> Tracer:
    """Of a worker; one that keeps nothing where no endpoint is set. Raises Misconfigured.

    ``lost`` hears how many exports in a row have failed, in a thread of the SDK.
    """
    if not settings.endpoint:
        return NoTracer()
    if WITHOUT is not None:
        raise Misconfigured(
            f"trace.endpoint is set, and OpenTelemetry is not installed ({WITHOUT}): install the extra otel "
            "of penstock-worker"
        )
    return OtlpTracer(settings, service, version, lost)


class OtlpTracer(Tracer):
    """``Tracer``; a thread of the SDK sends. A collector that is away costs spans, nothing else."""

    def __init__(self, settings: TraceSettings, service: str, version: str, lost: Callable[[int], None]) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # each try while the collector is away
        resource = Resource.create({"service.name": service, "service.version": version})
        self._provider = TracerProvider(
            resource=resource, sampler=ParentBased(TraceIdRatioBased(settings.ratio)), shutdown_on_exit=False
        )
        exporter = _counting_failures(OTLPSpanExporter(endpoint=settings.endpoint, timeout=EXPORT_S), lost)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("penstock", version)

    @override
    def emit(self, span: Span) -> None:
        self._emit(span, _context(span.parent) if span.parent else Context())

    def _emit(self, span: Span, context: "Context") -> None:
        failed = {"error.type": span.error} if span.error else {}
        started = self._tracer.start_span(
            span.name,
            context=context,
            kind=trace.SpanKind[span.kind.upper()],
            attributes={**span.attributes, **failed},
            links=[trace.Link(_span_context(link)) for link in span.links],
            start_time=span.interval.start_ns,
        )
        for child in span.children:
            self._emit(child, trace.set_span_in_context(started, context))
        if span.error:
            started.set_status(trace.StatusCode.ERROR)
        started.end(span.interval.end_ns)

    @override
    def close(self) -> None:
        # the SDK minds no time-out of its own here: it sends all that it has, five seconds a try
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(CLOSE_S)


def _counting_failures(exporter: "SpanExporter", lost: Callable[[int], None]) -> "SpanExporter":
    """The same, and failures in a row are told."""
    export, failures = exporter.export, 0

    def counted(spans: "Sequence[ReadableSpan]") -> "SpanExportResult":
        nonlocal failures
        result = export(spans)
        failures = 0 if result is SpanExportResult.SUCCESS else failures + 1
        if failures:
            lost(failures)
        return result

    exporter.export = counted  # type: ignore[method-assign]
    return exporter


def _span_context(traceparent: str) -> "trace.SpanContext":
    match = TRACEPARENT.fullmatch(traceparent)
    if match is None:
        raise ValueError(traceparent)
    flags = trace.TraceFlags(int(traceparent[-2:], 16))
    return trace.SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=flags)


def _context(traceparent: str) -> "Context":
    return trace.set_span_in_context(trace.NonRecordingSpan(_span_context(traceparent)), Context())
