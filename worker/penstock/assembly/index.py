"""Puts the parts together. The only module that knows every class."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from rich.console import Console

from penstock.adapters.files import FileDeadLetters, open_source
from penstock.adapters.kafka.connection import connect_consumer, connect_producer
from penstock.adapters.kafka.dead_letters import KafkaDeadLetters
from penstock.adapters.kafka.source import KafkaSource
from penstock.adapters.kafka.topics import check_topic
from penstock.adapters.qdrant.collection import number_recipe, open_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.assembly.models import Model
from penstock.assembly.monitor import Monitor
from penstock.core.documents import epoch_base
from penstock.core.errors import Unavailable
from penstock.core.identity import Origin
from penstock.core.ports import DeadLetters, Embedder, Source, VectorStore
from penstock.core.records import OF_DOCUMENTS, Batch, Outcome
from penstock.core.work import Interval, Work
from penstock.events.document import Rules
from penstock.index.chunking import Chunker, ChunkRules
from penstock.index.stages import Embed, IndexWork, InPipe, Prepare, WriteOut, completer
from penstock.observe.index_metrics import IndexMetrics, TimedStore
from penstock.observe.live import Reporter
from penstock.observe.log import log, outage
from penstock.observe.spans import NoTracer, batch_span
from penstock.observe.watch import Watch
from penstock.settings import IndexSettings, MonitorSettings, Settings
from penstock.stream.patience import Patience, PatientDeadLetters, PatientStore, backoff
from penstock.stream.pipeline import Pipeline, Stage
from penstock.stream.worker import CLOSE_SHARE, StreamWorker

TICKS_PER_S = 10_000
"""Files are ordered by the time of their run, in ticks of 100 µs: as many lines a second never overlap."""


W = TypeVar("W", bound=Work)


class Terms(NamedTuple):
    """Bytes to which a poll is cut, seconds for the end after a stop, and what a record can become.

    With a live line, or sums in the log. ``retry`` hears the name of a service that was away in a call, ``turned`` of
    every turn of the loop; ``lag`` says how many records are left where the source has no end.
    """

    batch_bytes: int
    drain_timeout_s: float
    outcomes: Sequence[Outcome]
    bar: bool = False
    retry: Callable[[str], None] = lambda _: None
    turned: Callable[[], None] = lambda: None
    lag: Callable[[], int | None] = lambda: None


@dataclass(frozen=True, slots=True)
class Feed:
    """Where records come from and dead letters go, and how the records are read."""

    source: Source
    dead_letters: DeadLetters
    rules: Rules
    origin: Origin | None

    @property
    def topic(self) -> str:
        """What it is called in logs and metrics."""
        return self.origin.topic if self.origin else "file"


def rules(settings: IndexSettings, sequence_base: int, *, keyed: bool) -> Rules:
    """How records are read, by the settings."""
    return Rules(
        tenant_from=settings.tenant_from,
        tenant=settings.tenant,
        tenant_header=settings.tenant_header,
        order=settings.order,
        sequence_base=sequence_base,
        max_bytes=settings.max_event_bytes,
        keyed=keyed,
    )


def kafka_feed(settings: Settings, watch: Watch | None = None, *, once: bool) -> Feed:
    """The topic; raises Misconfigured or Unavailable. ``watch`` is told of lag, commits and rebalances."""
    topic = check_topic(settings.kafka)
    base = epoch_base(settings.index.epoch)
    with ExitStack() as opened:
        letters = KafkaDeadLetters(connect_producer(settings.kafka), settings.kafka.dead_letters, base)
        opened.callback(letters.close, 0.0)
        consumer = connect_consumer(settings.kafka)
        opened.callback(consumer.close)
        source = KafkaSource(consumer, settings.kafka.topic, once=once, watch=watch)
        opened.pop_all()
    origin = Origin(settings.kafka.topic, topic.id, topic.partitions, settings.index.epoch)
    return Feed(source, letters, rules(settings.index, base, keyed=True), origin)


def file_feed(settings: Settings, path: str, now_s: float) -> Feed:
    """A file of JSON lines, or standard input; its dead letters go beside it. Raises Misconfigured."""
    source = open_source(path)
    letters = FileDeadLetters(Path("stdin.dlq.jsonl") if path == "-" else Path(f"{path}.dlq.jsonl"))
    return Feed(source, letters, rules(settings.index, int(now_s * TICKS_PER_S), keyed=False), None)


def chunker(settings: IndexSettings, model: Model) -> Chunker:
    """Cuts documents to what the settings ask and the model takes."""
    manifest = model.bundle.manifest
    size = min(settings.chunk_tokens, manifest.max_tokens)
    overlap = min(settings.chunk_overlap, size // 2)
    prompt = model.bundle.prompt("document")
    return Chunker(model.tokenizer, ChunkRules(size, overlap, settings.title, prompt, settings.max_chunks))


def patience(stop: threading.Event, retry: Callable[[], None] = lambda: None) -> Patience:
    """Waits out outages, a little differently in every worker, and says so; ``retry`` hears of each call."""

    def told(error: Unavailable, failures: int, pause_s: float) -> None:
        retry()
        outage(error, failures, pause_s)

    return Patience(lambda failures: backoff(failures, random.random()), told, stop)  # noqa: S311  # no secret


def index(
    settings: Settings,
    model: Model,
    connect: Callable[[], Feed],
    stop: threading.Event,
    *,
    bar: bool = False,
    monitor: Monitor | None = None,
) -> Reporter:
    """Run the index worker until its source ends or ``stop`` is set; returns what became of the records."""
    monitor = monitor or Monitor.of(settings.kafka.topic, settings.monitor)
    kafka, waiting = (patience(stop, partial(monitor.metrics.retry, name)) for name in ("kafka", "qdrant"))
    with _qdrant(settings) as connection:
        feed = kafka.call(connect)
        name, full = settings.qdrant.collection, settings.model.full_dimension or 0
        collection = waiting.call(lambda: open_collection(connection, name, model.identity, feed.origin, full))
        chunks = chunker(settings.index, model)
        recipe = waiting.call(lambda: number_recipe(connection, collection.name, chunks.rules.fingerprint))
        log.info("started", collection=collection.name, recipe=recipe, source=feed.topic)
        store = connection.store(collection)
        monitor.health.ready = True
        parts = Parts(feed, store, chunks, recipe, model.embedder)
        return run(settings.index, parts, stop, bar=bar, monitor=monitor)


class Parts(NamedTuple):
    """Implementations of the ports, and how documents are cut, under which number."""

    feed: Feed
    store: VectorStore
    chunks: Chunker
    recipe: int
    embedder: Embedder


def run(
    settings: IndexSettings,
    parts: Parts,
    stop: threading.Event,
    *,
    bar: bool = False,
    monitor: Monitor | None = None,
) -> Reporter:
    """The stages, their pipeline and the loop, over any implementation of the ports."""
    abort, monitor = threading.Event(), monitor or Monitor.of(parts.feed.topic, MonitorSettings())
    metrics, turned = monitor.metrics, monitor.health.turn
    terms = Terms(
        settings.batch_bytes, settings.drain_timeout_s, OF_DOCUMENTS, bar, metrics.retry, turned, monitor.watch.lag
    )
    pipeline = Pipeline([timed(stage) for stage in _stages(parts, abort, metrics)], abort)
    metrics.watch(monitor.watch, pipeline.busy_s, pipeline.waited_s)

    def done(work: IndexWork) -> None:
        metrics.batch(work)
        if isinstance(monitor.tracer, NoTracer):
            return  # nobody waits for what it costs to look through all headers
        if span := batch_span(work.batch.records, work.stages, {str(name): n for name, n in work.outcomes.items()}):
            monitor.tracer.emit(span)

    return follow(parts.feed.source, parts.feed.dead_letters, pipeline, IndexWork, terms, abort, stop, done)


def timed(stage: Stage[W]) -> Stage[W]:
    """The same, and the work knows when it was there."""

    def run(work: W) -> W:
        started = time.time_ns()
        done = stage.run(work)
        done.stages[stage.name] = Interval(started, time.time_ns())
        return done

    return Stage(stage.name, run)


def follow(
    source: Source,
    dead_letters: DeadLetters,
    pipeline: Pipeline[W],
    begin: Callable[[Batch], W],
    terms: Terms,
    abort: threading.Event,
    stop: threading.Event,
    done: Callable[[W], None] = lambda _: None,
) -> Reporter:
    """The loop over a source until it ends or ``stop`` is set; then everything is closed. ``done`` hears of batches."""
    reporter = Reporter(
        lambda: terms.lag() if (left := source.remaining()) is None else left,
        pipeline.busy_s,
        outcomes=terms.outcomes,
        console=Console(stderr=True) if terms.bar else None,
    )

    def report(work: W) -> None:
        done(work)
        reporter(work)

    worker = StreamWorker(
        source=source,
        pipeline=pipeline,
        begin=begin,
        batch_bytes=terms.batch_bytes,
        drain_timeout_s=terms.drain_timeout_s,
        outage=patience(abort, lambda: terms.retry("kafka")).pause_s,
        report=report,
        ending=lambda: log.info("draining", stopped=stop.is_set()),
        turned=terms.turned,
    )
    leave_s = terms.drain_timeout_s * CLOSE_SHARE
    try:
        worker.run(stop)
    finally:
        pipeline.close(leave_s)
        source.close(leave_s)
        dead_letters.close(leave_s)
        reporter.close()
    return reporter


def _stages(parts: Parts, abort: threading.Event, metrics: IndexMetrics) -> list[Stage[IndexWork]]:
    qdrant, kafka = (patience(abort, partial(metrics.retry, name)) for name in ("qdrant", "kafka"))
    store = PatientStore(TimedStore(parts.store, metrics.stored), qdrant)
    letters, in_pipe = PatientDeadLetters(parts.feed.dead_letters, kafka), InPipe()
    complete = completer(parts.chunks, parts.embedder)
    return [
        Stage("prepare", Prepare(parts.feed.rules, store, parts.chunks, parts.recipe, in_pipe)),
        Stage("embed", Embed(parts.embedder)),
        Stage("write", WriteOut(store, letters, complete, qdrant, in_pipe)),
    ]


@contextmanager
def _qdrant(settings: Settings) -> Iterator[Connection]:
    connection = Connection(settings.qdrant)
    try:
        yield connection
    finally:
        connection.close()
