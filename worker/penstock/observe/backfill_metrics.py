"""What an index worker tells Prometheus of a backfill that it does beside its live stream."""

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from penstock.core.records import OF_DOCUMENTS
from penstock.core.work import Work
from penstock.observe.metrics import lag_families
from penstock.observe.watch import Watch


class BackfillMetrics:
    """In the registry of the worker's metrics, which count the backfill's records by its topic, too."""

    def __init__(
        self,
        registry: CollectorRegistry,
        watch: Watch,
        waited_s: Callable[[], Mapping[str, float]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``waited_s``: seconds that it has waited for live documents, by stage. ``clock`` as in IndexMetrics."""
        self._records = Counter(
            "penstock_index_backfill_records",
            "Records of the backfill done, by outcome: those of penstock_index_records_total that are no live ones.",
            ["outcome"], registry=registry,
        )  # fmt: skip
        self._tokens = Counter(
            "penstock_index_backfill_tokens",
            "Tokens of the backfill: of penstock_model_tokens_total, its share.",
            registry=registry,
        )
        self.running = Gauge(
            "penstock_index_backfill_running", "1 while the backfill goes on; 0 once it has ended, or has stopped.",
            registry=registry,
        )  # fmt: skip
        for outcome in OF_DOCUMENTS:
            self._records.labels(outcome.value)
        registry.register(_Backfill(watch, waited_s, clock))

    def batch(self, work: Work) -> None:
        """A batch is done and may be committed."""
        for outcome, count in work.outcomes.items():
            self._records.labels(outcome.value).inc(count)
        self._tokens.inc(work.tokens)


class _Backfill(Collector):
    def __init__(self, watch: Watch, waited_s: Callable[[], Mapping[str, float]], clock: Callable[[], float]) -> None:
        self._watch, self._waited_s, self._clock = watch, waited_s, clock

    @override
    def collect(self) -> Iterator[Metric]:
        yield from lag_families("penstock_index_backfill_lag", self._watch.behind(self._clock()))
        waited = CounterMetricFamily(
            "penstock_index_backfill_waited_seconds",
            "Time that the backfill has waited for live documents, before each stage (prepare, embed, write).",
            labels=["stage"],
        )
        for stage, seconds in self._waited_s().items():
            waited.add_metric([stage], seconds)
        yield waited
