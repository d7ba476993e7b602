"""The index worker, put together: what is opened, in which order, and what closes it."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from penstock import __version__
from penstock.adapters.bodies.html import read_html
from penstock.adapters.bodies.markdown import read_markdown
from penstock.adapters.files import FileDeadLetters, open_source
from penstock.adapters.kafka.group_offsets import GroupOffsets
from penstock.adapters.kafka.topics import BY_BROKER, check_topics
from penstock.adapters.kafka.upstream import KafkaUpstream
from penstock.adapters.opentelemetry import open_tracer
from penstock.adapters.qdrant.collection import number_recipe, open_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.adapters.qdrant.ledger import QdrantLedger
from penstock.assembly.beside import Shared, Side
from penstock.assembly.membership import ASK_S, Joining, Stream, ending_with
from penstock.assembly.models import EmbeddingModel, load_model
from penstock.assembly.monitor import Monitor
from penstock.assembly.purge import held_collection, purged_meanwhile
from penstock.assembly.stream import Loop, Retries, join_topic
from penstock.core.around import around_calls
from penstock.core.documents import ChunkKey, Stored, epoch_base
from penstock.core.errors import Misconfigured
from penstock.core.identity import Origin
from penstock.core.ports import Embedder, Ledger, Membership, Registry, VectorStore
from penstock.core.records import OF_DOCUMENTS, Outcome
from penstock.events.first_ids import LOOKED_AT, FirstIds
from penstock.events.rules import DocumentRules
from penstock.index.chunking import Chunker, ChunkRules
from penstock.index.stages import Embed, IndexWork, Prepare, WriteOut, completer
from penstock.models.embedder import OnnxEmbedder
from penstock.models.forward import Turn
from penstock.observe.live import Reporter
from penstock.observe.log import NamedOnce, log, traces_lost
from penstock.observe.watch import Watch
from penstock.settings import IndexSettings, KafkaSettings, LettersKept, MonitorSettings, RegistrySettings, Settings
from penstock.stream.breaker import Breaker
from penstock.stream.pace import Pace
from penstock.stream.pipeline import Stage
from penstock.stream.precedence import Precedence

INVALID_WINDOW = 1000
"""Records of which a share may be invalid."""

BODIES = {"html": read_html, "markdown": read_markdown}

TICKS_PER_S = 10_000
"""Files are ordered by the time of their run, in ticks of 100 µs: as many lines a second never overlap."""


def run_index_worker(
    settings: Settings,
    stop: threading.Event,
    *,
    file: str | None = None,
    once: bool = False,
    anew: bool = False,
    bar: bool = False,
    beside: "Beside | None" = None,
    only: str = "",
) -> None:
    """Until the topic (or ``file``) ends, or ``stop`` is set; the log says what became of it.

    With ``anew`` the group first goes back to where the topic begins; ``beside`` runs another worker, too; ``only`` is
    the collection that it may write. Raises Misconfigured, Stopped, StageFailed, OwnershipLost.
    """
    with ExitStack() as opened:
        tracer = opened.enter_context(closing(open_tracer(settings.trace, "penstock-index", __version__, traces_lost)))
        monitor = Monitor.of(settings.kafka.topics if file is None else (), settings.monitor, tracer)
        opened.enter_context(monitor.served(settings.monitor))
        model = load_model(settings.model)
        monitor.loaded(model)
        connection = opened.enter_context(closing(Connection(settings.qdrant)))
        retries = Retries(stop, monitor.metrics.retry)
        stream = opened.enter_context(closing(_open_stream(settings, file, monitor.watch, retries, once=once)))
        name, full = settings.qdrant.collection, settings.model.full_dimension or 0
        chunker, qdrant = chunker_for(settings.index, model), retries.of("qdrant")
        writer = settings.kafka.group if file is None else ""
        collection = qdrant.call(lambda: open_collection(connection, name, model.identity, full, writer, only))
        recipe = qdrant.call(lambda: number_recipe(connection, collection.name, chunker.rules.fingerprint))
        joining = Joining(stream, QdrantLedger(connection, name, collection), settings.index.on_gap)
        if anew:
            with closing(GroupOffsets(settings.kafka)) as offsets:
                joining.begin_again(offsets, retries)
        membership = joining.join(retries)
        words = collection.shape.terms is not None
        log.info("started", collection=collection.name, recipe=recipe, terms=words, source=stream.name)
        monitor.health.ready = True
        held = partial(held_collection, connection, collection.name)
        if stream.origin is not None:
            opened.enter_context(purged_meanwhile(settings, held, monitor.watch.has_first, monitor.metrics, stop))
        store, side = connection.store(collection), Side(Shared(_places(model)), partial(_by_turns, model))
        worker = IndexWorker(settings.index, stream, membership, store, chunker, recipe, model.embedder, monitor, side)
        report = worker.run(stop, bar=bar) if beside is None else beside(worker, joining.ledger, retries, connection)
        conclude(report, None if stop.is_set() else file)


def _open_stream(settings: Settings, file: str | None, watch: Watch, retries: Retries, *, once: bool) -> Stream:
    if file is None:
        kept = LettersKept.of(settings.setup, settings.purge)
        topic = partial(open_topic, settings.kafka, settings.index, watch, kept, once=once)
        stream = retries.of("kafka").call(topic)
    else:
        stream = open_file(settings.index, file, time.time())
    return stream._replace(rules=stream.rules.asking(open_registry(settings.registry)))


def _places(model: EmbeddingModel) -> Precedence:
    """Of its passes. On processors a live one waits for none: their scheduler lets it go first."""
    return Precedence(model.loaded.forward.passes, waits=model.loaded.provider != "cpu")


def _by_turns(model: EmbeddingModel, turn: Turn, pass_s: float) -> Embedder:
    return OnnxEmbedder(model.loaded.forward.by_turns(turn, pass_s), model.embedder.dimension)


def conclude(report: Reporter, file: str | None) -> None:
    """Sums up; raises Misconfigured for a file whose records all became dead letters. An empty one is no failure."""
    report.summary("ended")
    total = report.totals.total()
    if file is not None and total and report.totals[Outcome.DEAD_LETTERED] == total:
        name = "standard input" if file == "-" else file
        raise Misconfigured(
            f"nothing of {name} could be indexed: {total} of {total} records are dead letters, in {letters_of(file)}; "
            f"the first: {report.first_reason}"
        )


def letters_of(file: str) -> Path:
    """Where the dead letters of a file go, or those of standard input."""
    return Path("stdin.dlq.jsonl") if file == "-" else Path(f"{file}.dlq.jsonl")


@dataclass(frozen=True, slots=True)
class IndexWorker:
    """An index worker over any implementation of the ports.

    ``membership`` says whether the stream and the collection are still those that were joined; ``recipe`` is the
    collection's number for the chunker; ``side`` is which of two streams beside each other this is;
    ``elsewhere`` as of Prepare.
    """

    settings: IndexSettings
    stream: Stream
    membership: Callable[[Retries], Membership]
    store: VectorStore
    chunker: Chunker
    recipe: int
    embedder: Embedder
    monitor: Monitor = field(default_factory=lambda: Monitor.of((), MonitorSettings()))
    side: Side = field(default_factory=lambda: Side(Shared()))
    elsewhere: Callable[[Sequence[ChunkKey]], Mapping[ChunkKey, Stored]] = lambda _: {}

    def run(self, stop: threading.Event, *, bar: bool = False) -> Reporter:
        """Until the source ends or ``stop`` is set; returns what became of the records. ``bar`` shows a live line."""
        metrics, watch = self.monitor.metrics, self.monitor.watch
        return Loop(
            source=self.stream.source,
            dead_letters=self.stream.dead_letters,
            stages=self._stages,
            begin=IndexWork,
            started=self.monitor.working,
            retried=metrics.retry,
            batch_bytes=self.settings.batch_bytes,
            drain_timeout_s=self.settings.drain_timeout_s,
            outcomes=OF_DOCUMENTS,
            finished=self.monitor.finished,
            turned=self.monitor.turned,
            lag=watch.lag,
            ask_s=ASK_S,
            pace=Pace(),
            batch_s=self.side.batch_s,
            name=self.side.name,
            lines=self.side.lines,
            together=LOOKED_AT if self.stream.rules.maps else 0,
        ).run(stop, bar=bar)

    def _breaker(self) -> Breaker:
        """For a topic; a file has an end, and whoever reads it looks at its dead letters."""
        if self.stream.origin is None:
            return Breaker(0, 0, 0)
        return Breaker(self.settings.stop_after_invalid, self.settings.stop_at_invalid_share, INVALID_WINDOW)

    def _stages(self, retries: Retries) -> list[Stage[IndexWork]]:
        """Prepare, embed, write: an outage of a service is waited out inside each."""
        membership, in_flight = self.membership(retries), self.side.shared.in_flight
        embedder = self.side.embedder(self.embedder, retries)
        qdrant = ending_with(retries.of("qdrant"), membership)
        store = around_calls(around_calls(self.store, self.monitor.metrics.store_timed), qdrant.around)
        store = self.side.store(store, retries)
        letters = around_calls(self.stream.dead_letters, retries.of("kafka").around)
        told = NamedOnce("unknown_field"), NamedOnce("envelope")
        rules = self.stream.rules
        if rules.registry is not None:
            rules = rules.asking(around_calls(rules.registry, retries.of("registry").around))
        first_ids = FirstIds(LOOKED_AT if self.settings.stop_after_invalid else 0)
        read = self.stream.read
        given = (rules, store, self.chunker, self.recipe, in_flight, read, self._breaker(), *told, first_ids)
        prepare = Prepare(*given, self.elsewhere)
        complete = completer(self.chunker, embedder)
        stages: list[Stage[IndexWork]] = [
            Stage("prepare", prepare),
            Stage("embed", Embed(embedder, self.chunker.known, in_flight)),
            Stage("write", WriteOut(membership, store, letters, complete, qdrant, in_flight)),
        ]
        return [self.side.stage(stage, retries) for stage in stages]


Beside = Callable[[IndexWorker, Ledger, Retries, Connection], Reporter]
"""Runs a worker, and another one beside it, over what these opened: see ``assembly/{backfill,copy}.py``."""


def open_topic(
    kafka: KafkaSettings, index: IndexSettings, watch: Watch, kept: LettersKept = BY_BROKER, *, once: bool
) -> Stream:
    """The topic; raises Misconfigured or Unavailable. ``watch`` is told of lag, commits and rebalances.

    ``kept`` says how long dead letters stay.
    """
    topic = check_topics(kafka, needs=index.needs, kept=kept)
    base = epoch_base(index.epoch)
    source, letters = join_topic(kafka, base, watch, topic.id, once=once)
    origin = Origin.of(kafka.topic, topic, index.epoch, index.order)
    return Stream(
        source,
        letters,
        rules_for(index, base, keyed=True, several=len(kafka.topics) != 1),
        origin,
        KafkaUpstream(kafka, index.needs, kept),
    )


def open_file(index: IndexSettings, path: str, now_s: float) -> Stream:
    """A file of JSON lines, or standard input; its dead letters go beside it. Raises Misconfigured."""
    letters = FileDeadLetters(letters_of(path))
    return Stream(open_source(path), letters, rules_for(index, int(now_s * TICKS_PER_S), keyed=False))


def open_registry(settings: RegistrySettings) -> Registry | None:
    """The schema registry, where there is one; raises Misconfigured without its extra."""
    if not settings.url:
        return None
    from penstock.adapters.registry.client import ConfluentRegistry  # noqa: PLC0415  # an extra

    return ConfluentRegistry(settings)


def rules_for(settings: IndexSettings, sequence_base: int, *, keyed: bool, several: bool = False) -> DocumentRules:
    """How records are read, by the settings; ``several`` says that there is more than one topic."""

    def read(settings: IndexSettings) -> DocumentRules:
        return DocumentRules(
            tenant_from=settings.tenant_from,
            tenant=settings.tenant,
            tenant_header=settings.tenant_header,
            order=settings.order,
            sequence_base=sequence_base,
            max_bytes=settings.max_event_bytes,
            max_metadata_bytes=settings.max_metadata_bytes,
            keyed=keyed,
            key=settings.key,
            key_format=settings.key_format,
            unknown_fields=settings.unknown_fields,
            envelope=settings.envelope,
            version_from=settings.version_from,
            empty_data=settings.empty_data,
            mapping=settings.mapping,
            headers=settings.headers,
            record_timestamp=settings.record_timestamp,
            format=settings.format,
            bodies=BODIES,
            scattered=several or settings.key == "ignore",
        )

    return replace(read(settings), own={name: read(settings.of_topic(name)) for name in settings.topics})


def chunker_for(settings: IndexSettings, model: EmbeddingModel) -> Chunker:
    """Cuts documents to what the settings ask and the model takes."""
    manifest = model.bundle.manifest
    size = min(settings.chunk_tokens, manifest.max_tokens)
    overlap = min(settings.chunk_overlap, size // 2)
    prompt = model.bundle.prompt("document")
    rules = ChunkRules(size, overlap, settings.title, prompt, settings.max_chunks, settings.heading_path)
    return Chunker(model.tokenizer, rules)
