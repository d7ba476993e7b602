"""What the query worker tells Prometheus."""

import threading
import time
from collections import Counter as Counts
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from penstock.core.queries import Answer
from penstock.core.records import OF_QUERIES, Outcome, Partition, Record
from penstock.observe.metrics import SECONDS, Metrics, lag_families
from penstock.observe.spans import context_of, exemplar
from penstock.observe.watch import Lag, Watch

MOVED = (0, 1, 2, 5, 10, 20, 50, 100)
WAITED_S = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)
FAILURES = ("500", "503", "504")
ENDPOINTS = ("search", "embeddings", "rerank", "overview")


class Batcher(Protocol):
    """A step whose calls queries share."""

    batches: int
    items: int


class QueryMetrics(Metrics):
    """Counts requests, answers and the records of the topic of queries."""

    def __init__(self) -> None:
        super().__init__()
        self._requests = Counter(
            "penstock_query_requests", "Requests, by endpoint and HTTP status.", ["endpoint", "status"],
            registry=self.registry,
        )  # fmt: skip
        self._whole = Histogram(
            "penstock_query_seconds",
            "From a request's arrival to its answer, by endpoint, what the client did wrong left out; endpoint topic: "
            "from the record's time on the topic of queries to its answer, or to when that would be too late.",
            ["endpoint"], buckets=WAITED_S, registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "penstock_query_step_seconds", "Time of each step of a query, waiting included.", ["step"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._moved = Histogram(
            "penstock_query_moved_places", "How far reranking moved a document of an answer, either way.",
            buckets=MOVED, registry=self.registry,
        )  # fmt: skip
        self._not_reranked = Counter(
            "penstock_query_not_reranked", "Answers in the order of their retrieval, by reason.", ["reason"],
            registry=self.registry,
        )  # fmt: skip
        self._records = Counter(
            "penstock_query_records", "Queries of the topic: answered, too_late, dead_lettered.", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        for outcome in OF_QUERIES:
            self._records.labels(outcome.value)
        for endpoint in ENDPOINTS:
            for status in ("200", *FAILURES):
                self._requests.labels(endpoint, status)
        self.answered, self._spent_ms, self._lock = 0, Counts[str](), threading.Lock()
        self.lag: Callable[[], int] | None = None
        """Queries on the topic that are not answered, where there is a topic."""
        self.under_way_now = 0
        Gauge("penstock_query_under_way", "Requests under way.", registry=self.registry).set_function(
            lambda: self.under_way_now
        )

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """A request is at work, while it lasts."""
        self.under_way_now += 1
        try:
            yield
        finally:
            self.under_way_now -= 1

    def request(self, endpoint: str, status: int) -> None:
        """A request is done."""
        self._requests.labels(endpoint, str(status)).inc()

    def took(self, endpoint: str, seconds: float, traceparent: str = "") -> None:
        """The whole of it, from arrival; ``traceparent`` is a valid one where it is traced."""
        self._whole.labels(endpoint).observe(max(0.0, seconds), exemplar(traceparent))

    def took_on_topic(self, record: Record, now_s: float, *, traced: bool = False) -> None:
        """The query of a record has its answer, or gets none any more; ``now_s`` in seconds since 1970."""
        if record.timestamp_ms is not None:
            self.took("topic", now_s - record.timestamp_ms / 1000, context_of(record.headers) if traced else "")

    def follow(self, watch: Watch) -> None:
        """Tell how far the topic of queries is behind."""
        self.lag = watch.lag
        self.registry.register(_Topic(lambda: watch.behind(time.time())))

    def answer(self, answer: Answer) -> None:
        """A query is answered."""
        with self._lock:  # HTTP and the topic answer in threads of their own
            self.answered += 1
            self._spent_ms.update(answer.timings_ms)
        for step, took_ms in answer.timings_ms.items():
            self._seconds.labels(step).observe(took_ms / 1000)
        if answer.not_reranked:
            self._not_reranked.labels(answer.not_reranked).inc()
            return
        for rank, document in enumerate(answer.documents, 1):
            self._moved.observe(abs(document.retrieval_rank - rank))

    def line(self, seconds: float) -> str:
        """What is done so far, for whoever watches."""
        with self._lock:
            mean = " ".join(f"{step} {spent / self.answered:.0f} ms" for step, spent in self._spent_ms.items())
        lag = "" if self.lag is None else f"  lag {self.lag():,}"
        rate = self.answered / max(seconds, 1e-9)
        return f"{self.answered:,} answers  {rate:,.1f}/s  {self.under_way_now} under way{lag}  {mean}".rstrip()

    def records(self, outcomes: Mapping[Outcome, int]) -> None:
        """A batch of the topic is done."""
        for outcome, count in outcomes.items():
            self._records.labels(outcome.value).inc(count)

    def watch(self, steps: Callable[[], Mapping[str, Batcher]]) -> None:
        """Count the batches of the steps that there are at the moment."""
        self.registry.register(_Batches(steps))


class _Topic(Collector):
    def __init__(self, behind: Callable[[], Mapping[Partition, Lag]]) -> None:
        self._behind = behind

    @override
    def collect(self) -> Iterator[Metric]:
        yield from lag_families("penstock_query_lag", self._behind())


class _Batches(Collector):
    """Reads what the batchers count anyway."""

    def __init__(self, steps: Callable[[], Mapping[str, Batcher]]) -> None:
        self._steps = steps

    @override
    def collect(self) -> Iterator[Metric]:
        batches = CounterMetricFamily(
            "penstock_query_batches", "Batches that queries share, of each step.", labels=["step"]
        )
        items = CounterMetricFamily("penstock_query_batch_items", "Items in the batches of each step.", labels=["step"])
        for name, step in self._steps().items():
            batches.add_metric([name], step.batches)
            items.add_metric([name], step.items)
        yield batches
        yield items
