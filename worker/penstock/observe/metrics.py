"""What both workers tell Prometheus: their version, their models, the services they wait for, and the GPU."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from penstock import __version__
from penstock.adapters.nvml import Gpu
from penstock.models.forward import Usage
from penstock.models.runtime import Loaded

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody asks for

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Running(NamedTuple):
    """A model and what it does: embedding or reranking."""

    task: str
    source: str
    revision: str
    loaded: Loaded


class Metrics:
    """Of one worker; each has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
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
        for service in ("kafka", "qdrant"):  # there from the start: the first of them must be a change
            self._retries.labels(service)

    def models(self, running: Sequence[Running]) -> None:
        """These are loaded."""
        for one in running:
            loaded = one.loaded
            self._info.labels(one.task, one.source, one.revision, loaded.provider, loaded.graph.precision).set(1)
        self.registry.register(_Models(running))
        if any(one.loaded.provider != "cpu" for one in running) and (gpu := Gpu.first()) is not None:
            self.registry.register(_Gpu(gpu))

    def retry(self, service: str) -> None:
        """A call failed and is made again."""
        self._retries.labels(service).inc()

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self.registry)


class _Models:
    """Reads what the models count anyway."""

    def __init__(self, running: Sequence[Running]) -> None:
        self._running = running

    def collect(self) -> Iterator[Metric]:
        """As the library asks."""
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
        for one in self._running:
            usage: Usage = one.loaded.forward.usage
            for family, value in zip((passes, tokens, padded, busy), usage.read(), strict=True):
                family.add_metric([one.task], value)
        yield from (passes, tokens, padded, busy)


class _Gpu:
    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def collect(self) -> Iterator[Metric]:
        """As the library asks."""
        used, total, busy = self._gpu.read()
        yield GaugeMetricFamily("penstock_gpu_memory_used_bytes", "Memory of the GPU in use, by all processes.", used)
        yield GaugeMetricFamily("penstock_gpu_memory_total_bytes", "Memory of the GPU.", total)
        yield GaugeMetricFamily("penstock_gpu_utilization_ratio", "Share of the last moments it was busy.", busy)
