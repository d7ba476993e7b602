"""Health and metrics of the index worker, and the port that they are served on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from penstock.assembly.models import Model
from penstock.observe.health import Health
from penstock.observe.index_metrics import IndexMetrics
from penstock.observe.log import log
from penstock.observe.metrics import CONTENT_TYPE, Running
from penstock.observe.spans import NoTracer, Tracer
from penstock.observe.watch import Watch
from penstock.query.http.server import Background, HttpServer
from penstock.settings import MonitorSettings

LEAVE_S = 1.0


@dataclass(frozen=True, slots=True)
class Monitor:
    """What is counted, and whether the worker lives."""

    metrics: IndexMetrics
    health: Health
    watch: Watch = field(default_factory=Watch)
    tracer: Tracer = field(default_factory=NoTracer)

    @classmethod
    def of(cls, topic: str, settings: MonitorSettings, tracer: Tracer | None = None) -> "Monitor":
        """For a worker that reads this topic; nothing is served yet."""
        metrics = IndexMetrics(topic)
        return cls(
            metrics, Health(settings.stall_s, lambda: (metrics.text(), CONTENT_TYPE)), tracer=tracer or NoTracer()
        )

    def loaded(self, model: Model) -> None:
        """The model is there."""
        self.health.started = True
        manifest = model.bundle.manifest
        self.metrics.models([Running("embedding", manifest.source, manifest.revision, model.loaded)])


@contextmanager
def served(monitor: Monitor, settings: MonitorSettings) -> Iterator[None]:
    """Answer on the port, if there is to be one; raises Misconfigured where it cannot be had."""
    if settings.port is None:
        yield
        return
    background = Background()
    try:
        server = HttpServer(background, monitor.health, settings.host, settings.port, LEAVE_S)
        log.info("monitored", host=settings.host, port=server.port)
        try:
            yield
        finally:
            server.close()
    finally:
        background.close()
