"""What a worker tells of itself: health and metrics, traces, logs."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from penstock.settings.group import Group, Seconds


class MonitorSettings(Group):
    """Health and metrics. The query worker has them on the port of its searches, unless this says another."""

    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Serve /healthz, /startz, /readyz and /metrics on this port; 0 for any that is free. Empty: do not. A query worker
    then has metrics, /docs and all of /v1/info there only, without a key."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 for all."""
    stall_s: Seconds = 45.0
    """A worker of either kind whose loop takes longer for a turn is stuck: /healthz says so, for a restart."""
    hang_s: Seconds = 300.0
    """And so is one whose forward pass, or other work that waits for no service, takes longer."""


class TraceSettings(Group):
    """OpenTelemetry traces, with the extra otel: a span per batch and per answered query."""

    endpoint: str = ""
    """Where a collector takes OTLP over HTTP, such as http://collector:4318/v1/traces. Empty: no traces."""
    ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of batches and queries that are traced; a query that comes with a traceparent follows its flag instead."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.endpoint:
            url = urlsplit(self.endpoint)
            if url.scheme not in {"http", "https"} or not url.hostname:
                raise ValueError("endpoint must be a URL, such as http://collector:4318/v1/traces")
            if url.username or url.password:
                raise ValueError("endpoint is no place for a password: use the variable OTEL_EXPORTER_OTLP_HEADERS")
        return self


class LogSettings(Group):
    """What is logged, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level shown."""
    format: Literal["auto", "json", "text"] = "auto"
    """auto means text on a terminal, JSON elsewhere."""
