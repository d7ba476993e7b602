"""What the index worker tells Prometheus."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from penstock.core.inventory import Kind
from penstock.core.letters import SEQUENCE
from penstock.core.records import OF_DOCUMENTS, Partition, Record
from penstock.core.work import Work
from penstock.observe.metrics import SECONDS, Metrics, lag_families
from penstock.observe.spans import context_of, exemplar
from penstock.observe.watch import Watch, kind_of

T = TypeVar("T")

FRESH_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600, 14400)
RECORDS = (1, 3, 10, 30, 100, 300, 1000)

LETTERS = (
    ("decode", "InvalidEvent"), ("decode", "Unforeseen"), ("chunk", "InvalidEvent"), ("embed", "InvalidEvent"),
    ("write", "InvalidEvent"), ("write", "Refused"),
)  # fmt: skip
"""Who gives up a record, and why."""


class IndexMetrics(Metrics):
    """Counts every batch that is done; the rest is read where it is kept, when Prometheus asks."""

    def __init__(self, topics: Sequence[str], clock: Callable[[], float] = time.time) -> None:
        """``topics`` are those that are counted before there is a record of them; ``clock`` in seconds since 1970."""
        super().__init__()
        self._clock = clock
        self._records = self._counter(
            "records",
            "Records done: indexed, unchanged, superseded, deleted, deleted_unknown, dead_lettered.",
            "topic",
            "outcome",
        )
        self._letters = self._counter(
            "dead_letters", "Records given up, by the stage that did and the error.", "topic", "stage", "reason"
        )
        self._gaps = self._counter(
            "gap_offsets", "Offsets that the topic's retention removed before their records were read.", "topic"
        )
        self._chunks = self._counter("chunks", "Chunks of documents, embedded or kept as stored.", "result")
        self._fresh = Histogram(
            "penstock_index_freshness_seconds",
            "From a record's time on the topic to when it is done: searchable. Backlog is what lay in its partition "
            "when that was assigned; live came later.",
            ["topic", "kind"], buckets=FRESH_S, registry=self.registry,
        )  # fmt: skip
        self._newest = Gauge(
            "penstock_index_newest_record_timestamp_seconds", "Time of the newest record that is done, since 1970.",
            ["topic"], registry=self.registry,
        )  # fmt: skip
        self._newest_s: dict[str, float] = {}
        self._batches = Histogram(
            "penstock_index_batch_records", "Records in a batch.", buckets=RECORDS, registry=self.registry
        )
        self._store = Histogram(
            "penstock_index_store_seconds",
            "Time of each call of the store: read, upsert, patch, sweep; failed ones are left out.",
            ["operation"], buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._purged = purged_points(self.registry)
        self._assigned_ends: Callable[[], Mapping[Partition, int]] = dict
        self._known = set[str]()
        for topic in topics:
            self.follow(topic)

    def follow(self, topic: str, *, live: bool = True) -> None:
        """From now on it is counted, at nought: what comes first must be a change.

        How fresh one is that is not ``live`` is never told.
        """
        if topic in self._known:
            return
        self._known.add(topic)
        for outcome in OF_DOCUMENTS:
            self._records.labels(topic, outcome.value)
        for stage, reason in LETTERS:
            self._letters.labels(topic, stage, reason)
        self._gaps.labels(topic)
        if live:
            self._fresh.labels(topic, "live")

    def batch(self, work: Work, *, traced: bool = False, live: bool = True) -> None:
        """A batch is done and may be committed; where it is ``traced``, freshness tells its records' trace ids.

        The age of records that are not ``live`` says nothing.
        """
        now_s, records = self._clock(), work.batch.records
        self._batches.observe(len(records))
        for (topic, outcome), count in work.by_topic.items():
            self._records.labels(topic, outcome.value).inc(count)
        self.given_up(work.letters)
        for letter in work.letters:
            topic = letter.record.partition.topic
            self._letters.labels(topic, letter.stage, type(letter.error).__name__).inc()
        for gap in work.batch.gaps:
            self._gaps.labels(gap.partition.topic).inc(gap.found - gap.expected)
        if live:
            self._timed(records, now_s, traced=traced)
        self._chunks.labels("embedded").inc(work.chunks)
        self._chunks.labels("kept").inc(work.kept)

    def _timed(self, records: Sequence[Record], now_s: float, *, traced: bool) -> None:
        ends = self._assigned_ends()
        for record in records:
            if record.timestamp_ms is None or any(name == SEQUENCE for name, _ in record.headers):
                continue  # a letter that was sent back has the time of its first delivery
            topic, time_s = record.partition.topic, record.timestamp_ms / 1000
            self._newest_s[topic] = max(self._newest_s.get(topic, 0.0), time_s)
            kind = kind_of(record.offset, ends.get(record.partition, 0))
            trace = exemplar(context_of(record.headers)) if traced else None
            self._fresh.labels(topic, kind).observe(max(0.0, now_s - time_s), trace)
        for topic, newest_s in self._newest_s.items():
            self._newest.labels(topic).set(newest_s)

    def purged(self, removed: Mapping[Kind, int]) -> None:
        """So many points have gone."""
        for kind, count in removed.items():
            self._purged.labels(kind.value).inc(count)

    def store_timed(self, operation: str, call: Callable[[], T]) -> T:
        """A call of the store; what it takes is counted, unless it fails."""
        started = time.perf_counter()
        result = call()
        self._store.labels(operation).observe(time.perf_counter() - started)
        return result

    def watch(self, watch: Watch, busy_s: Mapping[str, float], waited_s: Mapping[str, float]) -> None:
        """Read lag, commits and rebalances here, and the seconds that stages worked and were waited for."""
        self._assigned_ends = watch.assigned_ends
        watch.topic = self.follow
        self.registry.register(_Stream(watch, busy_s, waited_s, self._clock))

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"penstock_index_{name}", about, labels, registry=self.registry)


class _Stream(Collector):
    def __init__(
        self, watch: Watch, busy_s: Mapping[str, float], waited_s: Mapping[str, float], clock: Callable[[], float]
    ) -> None:
        self._watch, self._busy_s, self._waited_s, self._clock = watch, busy_s, waited_s, clock

    @override
    def collect(self) -> Iterator[Metric]:
        yield from lag_families("penstock_index_lag", self._watch.behind(self._clock()))
        yield GaugeMetricFamily(
            "penstock_index_kafka_silent_seconds",
            "Since Kafka last answered a heartbeat of the worker's consumer.",
            self._watch.silent_s,
        )
        yield _counted("commits", "Commits: done, or refused and sent again.", "result", self._watch.commits)
        yield _counted(
            "rebalances",
            "Changes of the assignment of partitions: assigned, revoked, lost.",
            "event",
            self._watch.rebalances,
        )
        yield _counted(
            "stage_busy_seconds", "Time that each stage (prepare, embed, write) has worked.", "stage", self._busy_s
        )
        yield _counted("stage_waiting_seconds", "Time that batches waited for each stage.", "stage", self._waited_s)


def _counted(name: str, about: str, label: str, values: Mapping[str, Any]) -> Metric:
    family = CounterMetricFamily(f"penstock_index_{name}", about, labels=[label])
    for key, value in dict(values).items():
        family.add_metric([key], value)
    return family


def purged_points(registry: CollectorRegistry) -> Counter:
    """Each kind at nought."""
    about = "Points that nobody needs any more, removed: expired, tombstone, left_over, orphan."
    purged = Counter("penstock_purged_points", about, ["kind"], registry=registry)
    for kind in Kind:
        purged.labels(kind.value)
    return purged
