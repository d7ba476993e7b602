"""What every worker tells Prometheus: their version, their models, the services they wait for, and the GPU."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from typing_extensions import override

from penstock import __version__
from penstock.core.errors import Unforeseen
from penstock.core.records import Letter, Partition
from penstock.observe.watch import Lag

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody asks for

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class ModelInfo(NamedTuple):
    """A model, what it does (embedding or reranking), and what it really runs on.

    ``usage`` says what it has computed so far: passes, tokens, tokens with padding, and seconds with a pass under way.
    """

    task: str
    source: str
    revision: str
    provider: str
    precision: str
    usage: Callable[[], tuple[int, int, int, float]]


class Metrics:
    """Of one worker; each has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, GCCollector, PlatformCollector):
            collector(registry=self.registry)
        self._info = Gauge(
            "penstock_model_info", "The models that are loaded, and what they really run on; always 1.",
            ["task", "source", "revision", "provider", "precision"], registry=self.registry,
        )  # fmt: skip
        Gauge("penstock_build_info", "The version that runs; always 1.", ["version"], registry=self.registry).labels(
            __version__
        ).set(1)
        self._retries = Counter(
            "penstock_retries", "Calls that are made again because a service was away, by service.", ["service"],
            registry=self.registry,
        )  # fmt: skip
        for service in ("kafka", "qdrant", "registry"):  # there from the start: the first of them must be a change
            self._retries.labels(service)
        self._unforeseen = Counter(
            "penstock_unforeseen",
            "Records and requests whose reading raised what nobody planned, by stage or endpoint: a bug, see the log.",
            ["where"], registry=self.registry,
        )  # fmt: skip
        self._unforeseen.labels("decode")

    def models(self, models: Sequence[ModelInfo]) -> None:
        """These are loaded."""
        for model in models:
            self._info.labels(model.task, model.source, model.revision, model.provider, model.precision).set(1)
        self.registry.register(_Models(models))

    def gpu(self, read: Callable[[], tuple[float, float, float]]) -> None:
        """There is one; ``read`` gives the bytes in use, the bytes in all, and the share of time that it was busy."""
        self.registry.register(_Gpu(read))

    def retry(self, service: str) -> None:
        """A call failed and is made again."""
        self._retries.labels(service).inc()

    def given_up(self, letters: Sequence[Letter]) -> None:
        """These records became dead letters."""
        for letter in letters:
            if isinstance(letter.error, Unforeseen):
                self.unforeseen(letter.stage)

    def unforeseen(self, where: str) -> None:
        """Reading something raised what nobody planned."""
        self._unforeseen.labels(where).inc()

    def text(self) -> bytes:
        """Everything, as any Prometheus reads it."""
        return generate_latest(self.registry)

    def exposed(self, accept: str = "") -> tuple[bytes, str]:
        """Everything and its content type: in OpenMetrics, with exemplars, for who asks for that; else plain text."""
        if "application/openmetrics-text" in accept:
            encoded: bytes = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
            return encoded, openmetrics.CONTENT_TYPE_LATEST
        return self.text(), PLAIN


class _Models(Collector):
    """Reads what the models count anyway."""

    def __init__(self, models: Sequence[ModelInfo]) -> None:
        self._models = models

    @override
    def collect(self) -> Iterator[Metric]:
        passes = CounterMetricFamily("penstock_model_passes", "Forward passes.", labels=["task"])
        tokens = CounterMetricFamily(
            "penstock_model_tokens", "Tokens of the texts that were computed.", labels=["task"]
        )
        padded = CounterMetricFamily(
            "penstock_model_padded_tokens", "Tokens computed, padding included: 1 - tokens / padded is its share.",
            labels=["task"],
        )  # fmt: skip
        busy = CounterMetricFamily(
            "penstock_model_busy_seconds", "Time in which at least one pass was under way.", labels=["task"]
        )
        for model in self._models:
            for family, value in zip((passes, tokens, padded, busy), model.usage(), strict=True):
                family.add_metric([model.task], value)
        yield from (passes, tokens, padded, busy)


class _Gpu(Collector):
    def __init__(self, read: Callable[[], tuple[float, float, float]]) -> None:
        self._read = read

    @override
    def collect(self) -> Iterator[Metric]:
        used, total, busy = self._read()
        yield GaugeMetricFamily("penstock_gpu_memory_used_bytes", "Memory of the GPU in use, by all processes.", used)
        yield GaugeMetricFamily("penstock_gpu_memory_total_bytes", "Memory of the GPU.", total)
        yield GaugeMetricFamily("penstock_gpu_utilization_ratio", "Share of the last moments it was busy.", busy)


def lag_families(name: str, behind: Mapping[Partition, Lag]) -> Iterator[Metric]:
    """How far a consumer is from the end of each of its partitions."""
    place = ["topic", "partition"]
    records = GaugeMetricFamily(
        f"{name}_records", "Records of a partition that are not committed, as of the latest answer.", labels=place
    )
    seconds = GaugeMetricFamily(
        f"{name}_seconds", "Age of the oldest record that was read and is not committed.", labels=place
    )
    for (topic, number), lag in behind.items():
        records.add_metric([topic, str(number)], lag.records)
        seconds.add_metric([topic, str(number)], lag.seconds)
    yield from (records, seconds)
