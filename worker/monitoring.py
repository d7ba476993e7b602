"""Health and metrics of the index worker, and the port that they are served on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from worker.health import Health
from worker.index.metrics import IndexMetrics
from worker.loading import Model
from worker.metrics import CONTENT_TYPE, Running
from worker.query.background import Background, HttpServer
from worker.settings import MonitorSettings
from worker.telemetry import log
from worker.trace import NoTracer, Tracer
from worker.watch import Watch

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
