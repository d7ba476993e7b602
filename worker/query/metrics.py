"""What the query worker counts, for Prometheus. The only importer of its client."""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric

from worker.query.microbatch import MicroBatcher
from worker.types import Outcome

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one worker; each has a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "penstock_query_requests", "Requests, by endpoint and HTTP status.", ["endpoint", "status"],
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "penstock_query_step_seconds", "Time of each step of a query, waiting included.", ["step"],
            buckets=SECONDS, registry=self._registry,
        )  # fmt: skip
        self._not_reranked = Counter(
            "penstock_query_not_reranked", "Answers in the order of their retrieval, by reason.", ["reason"],
            registry=self._registry,
        )  # fmt: skip
        self._records = Counter(
            "penstock_query_records", "Records of the topic of queries, by what became of them.", ["outcome"],
            registry=self._registry,
        )  # fmt: skip
        self.under_way_now = 0
        Gauge("penstock_query_under_way", "Requests under way.", registry=self._registry).set_function(
            lambda: self.under_way_now
        )

    def enter(self) -> None:
        """A request has been let in."""
        self.under_way_now += 1

    def leave(self) -> None:
        """It is done."""
        self.under_way_now -= 1

    def request(self, endpoint: str, status: int) -> None:
        """A request is done."""
        self._requests.labels(endpoint, str(status)).inc()

    def answer(self, timings_ms: Mapping[str, float], not_reranked: str) -> None:
        """A query is answered."""
        for step, took_ms in timings_ms.items():
            self._seconds.labels(step).observe(took_ms / 1000)
        if not_reranked:
            self._not_reranked.labels(not_reranked).inc()

    def records(self, outcomes: Mapping[Outcome, int]) -> None:
        """A batch of the topic is done."""
        for outcome, count in outcomes.items():
            self._records.labels(outcome.value).inc(count)

    def watch(self, steps: Mapping[str, MicroBatcher[Any, Any]]) -> None:
        """Count these steps' batches."""
        self._registry.register(_Batches(steps))

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)


class _Batches:
    """Reads what the batchers count anyway."""

    def __init__(self, steps: Mapping[str, MicroBatcher[Any, Any]]) -> None:
        self._steps = steps

    def collect(self) -> Iterator[Metric]:
        """As the library asks."""
        batches = CounterMetricFamily("penstock_query_batches", "Batches of each step.", labels=["step"])
        items = CounterMetricFamily("penstock_query_batch_items", "Items in the batches of each step.", labels=["step"])
        for name, step in self._steps.items():
            batches.add_metric([name], step.batches)
            items.add_metric([name], step.items)
        yield batches
        yield items
