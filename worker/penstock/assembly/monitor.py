"""Health, metrics and traces of the index worker."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from typing_extensions import override

from penstock import observe
from penstock.adapters.nvml import Gpu
from penstock.assembly.models import EmbeddingModel
from penstock.assembly.serve import served
from penstock.core.work import Work
from penstock.observe.backfill_metrics import BackfillMetrics
from penstock.observe.health import LOOP, Health
from penstock.observe.index_metrics import IndexMetrics
from penstock.observe.metrics import Metrics, ModelInfo
from penstock.observe.page import assembled
from penstock.observe.spans import NoTracer, Tracer, batch_span
from penstock.observe.watch import Watch
from penstock.settings import MonitorSettings
from penstock.stream.pipeline import Pipeline, StageTimer

FRESHNESS = Path(observe.__file__).parent / "static"

BACKFILL = "backfill"
"""The name of its loop."""


@dataclass(frozen=True, slots=True)
class Monitor:
    """What is counted and traced, and whether the worker lives."""

    metrics: IndexMetrics
    health: Health
    watch: Watch = field(default_factory=Watch)
    tracer: Tracer = field(default_factory=NoTracer)
    stages: list[StageTimer] = field(default_factory=list)

    @classmethod
    def of(cls, topics: Sequence[str], settings: MonitorSettings, tracer: Tracer | None = None) -> "Monitor":
        """For a worker that reads these topics; nothing is served yet."""
        metrics = IndexMetrics(topics)
        page = assembled(FRESHNESS, "freshness", ["freshness"])
        health = Health(settings.stall_s, settings.hang_s, metrics.exposed, page=page)
        return cls(metrics, health, tracer=tracer or NoTracer())

    def loaded(self, model: EmbeddingModel) -> None:
        """The model is there; each pass is a sign of life."""
        self.health.started = True
        model.loaded.forward.usage.ended = self.passed
        count_models(self.metrics, [model.info])

    def working(self, pipeline: Pipeline[Any]) -> None:
        """The stages are at work."""
        self._add(pipeline)
        self.metrics.watch(self.watch, pipeline.busy_s, pipeline.waited_s)

    def turned(self) -> None:
        """The loop has turned."""
        self.health.turn()

    def ended(self) -> None:
        """As a file does while others go on: its loop need not turn any more."""
        self.health.ended(LOOP)

    def passed(self) -> None:
        """A forward pass has ended, of a batch, or of documents that are written again without reuse."""
        for busy_s in self.stages:
            busy_s.sign("embed")
            busy_s.sign("write")

    def finished(self, work: Work) -> None:
        """A batch is done: counted and, if somebody collects traces, told as a span."""
        traced = not isinstance(self.tracer, NoTracer)
        self._count(work, traced=traced)
        if not traced:
            return  # nobody waits for what it costs to look through all headers
        outcomes = {str(outcome): count for outcome, count in work.outcomes.items()}
        if span := batch_span(work.batch.records, work.stages, outcomes):
            self.tracer.emit(span)

    def served(self, settings: MonitorSettings) -> AbstractContextManager[None]:
        """Answer on the port, if there is to be one; raises Misconfigured where it cannot be had."""
        return served(self.health, settings)

    def _add(self, pipeline: Pipeline[Any]) -> None:
        self.stages.append(pipeline.busy_s)
        self.health.silent = self._silent

    def _silent(self) -> tuple[str, float]:
        return max((busy_s.silent() for busy_s in self.stages), key=lambda one: one[1])

    def _count(self, work: Work, *, traced: bool) -> None:
        self.metrics.batch(work, traced=traced)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillMonitor(Monitor):
    """Of a backfill beside a live stream, whose metrics and health these are, too; the watch is its own."""

    backfill: BackfillMetrics

    @classmethod
    def beside(cls, live: Monitor, watch: Watch, backfill: BackfillMetrics) -> "BackfillMonitor":
        """``live`` is that of the live stream."""
        return cls(live.metrics, live.health, watch, live.tracer, live.stages, backfill=backfill)

    @override
    def working(self, pipeline: Pipeline[Any]) -> None:
        """The stages are at work. Which one is the bottleneck those of the live stream tell."""
        self._add(pipeline)
        self.watch.topic = partial(self.metrics.follow, live=False)

    @override
    def turned(self) -> None:
        self.health.turn(BACKFILL)

    @override
    def ended(self) -> None:
        self.health.ended(BACKFILL)

    @override
    def _count(self, work: Work, *, traced: bool) -> None:
        self.metrics.batch(work, traced=traced, live=False)
        self.backfill.batch(work)


def count_models(metrics: Metrics, models: list[ModelInfo]) -> None:
    """From now on their figures are told, and those of the GPU that they run on."""
    metrics.models(models)
    if any(model.provider != "cpu" for model in models) and (gpu := Gpu.first()) is not None:
        metrics.gpu(gpu.read)
