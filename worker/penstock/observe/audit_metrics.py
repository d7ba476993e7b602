"""What an audit tells Prometheus, by a file for its node exporter or by a Pushgateway: it ends before anyone asks."""

from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, push_to_gateway, write_to_textfile

from penstock.core.errors import Misconfigured, Unavailable

JOB = "penstock_audit"


class AuditMetrics:
    """Of one run."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._documents = self._gauge("documents", "Documents that the topic asks for.")
        self._damaged = self._gauge("damaged", "Documents with damage that is left, by its kind.", "kind")
        self._not_judged = self._gauge(
            "not_judged", "Documents not judged: they end in a dead letter, or the topic no longer tells of them."
        )
        self._seconds = self._gauge("duration_seconds", "How long the audit took.")
        self._ended = self._gauge("timestamp_seconds", "When the audit ended, since 1970.")

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"penstock_audit_{name}", about, ["collection", *labels], registry=self.registry)

    def ended(
        self, collection: str, documents: int, damaged: Mapping[str, int], not_judged: int, took_s: float, at_s: float
    ) -> None:
        """What it found; ``damaged`` has every kind."""
        self._documents.labels(collection).set(documents)
        for kind, count in damaged.items():
            self._damaged.labels(collection, kind).set(count)
        self._not_judged.labels(collection).set(not_judged)
        self._seconds.labels(collection).set(took_s)
        self._ended.labels(collection).set(at_s)

    def write(self, file: Path) -> None:
        """For the node exporter's textfile collector, whole or not at all; raises Misconfigured."""
        try:
            write_to_textfile(str(file), self.registry)
        except OSError as error:
            raise Misconfigured(f"--textfile {file}: {error.strerror or error}") from error

    def push(self, url: str, collection: str) -> None:
        """In place of what the collection's last audit pushed; raises Unavailable, Misconfigured for no address."""
        try:
            push_to_gateway(url, JOB, self.registry, {"collection": collection}, timeout=10)
        except ValueError as error:
            raise Misconfigured(f"--pushgateway {url}: {error}") from error
        except OSError as error:
            raise Unavailable(f"the Pushgateway at {url}: {error}") from error
