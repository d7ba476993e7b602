"""``penstock audit``, put together: what is opened, and what is told of it."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from penstock.adapters.kafka.topics import check_topics
from penstock.adapters.kafka.upstream import KafkaUpstream
from penstock.adapters.qdrant.audited import foreign, look_at, samples
from penstock.adapters.qdrant.collection import number_recipe
from penstock.adapters.qdrant.connection import Collection, Connection
from penstock.adapters.qdrant.ledger import QdrantLedger
from penstock.adapters.qdrant.members import members
from penstock.assembly.index import chunker_for, open_registry, rules_for
from penstock.assembly.mend import Mend, Writing
from penstock.assembly.models import EmbeddingModel, load_model
from penstock.core.documents import ChunkKey, DocumentKey, epoch_base
from penstock.core.errors import Misconfigured
from penstock.core.identity import Origin
from penstock.core.members import Member
from penstock.core.ports import Embedder
from penstock.core.records import Batch
from penstock.index.chunking import Chunker
from penstock.models.bundle import load
from penstock.observe.audit_metrics import AuditMetrics
from penstock.operate.audit.judge import HARMLESS, Kind
from penstock.operate.audit.report import Example, Report
from penstock.operate.audit.run import Audit, Step
from penstock.operate.audit.topic import Topics
from penstock.settings import Settings
from penstock.stream.doubts import unfit_origin
from penstock.stream.joined import OfTopic

DAY_S = 24 * 3600.0
ALIKE = 0.9
"""Cosine between a stored vector and one made anew of the same text: other precisions differ less, models more."""

NO_REPAIR = {
    Kind.AHEAD: "ahead: was the topic restored, or made anew without another PENSTOCK_INDEX__EPOCH?",
    Kind.WRONG_MODEL: "wrong-model: set the bundle that the collection was built by, or index into a new collection",
    Kind.BURIED: "buried: left: purged before its time, or erased; send the document again if it should be there",
    Kind.EXPIRED: "expired: penstock purge removes them",
    Kind.FOREIGN: "foreign: whoever wrote them has to say whether they are needed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """As the command has them."""

    repair: bool = False
    dry_run: bool = False
    examples: int = 5
    sample: int = 0
    parts: int = 1
    per_s: float = 100.0


def run_audit(settings: Settings, options: AuditOptions, step: Step) -> Report:
    """The report; raises Misconfigured and Unavailable."""
    began = time.monotonic()
    kafka, index = settings.kafka, settings.index
    origin = Origin.of(kafka.topic, check_topics(kafka, needs=index.needs, make=False), index.epoch, index.order)
    bundle = load(settings.model.bundle)
    bundle.expect("embedding")
    writes = options.repair and not options.dry_run
    model = load_model(settings.model) if options.sample or writes else None
    with ExitStack() as opened:
        upstream = opened.enter_context(closing(KafkaUpstream(kafka, index.needs, make=False)))
        connection = opened.enter_context(closing(Connection(settings.qdrant)))
        identity = bundle.identity(bundle.dimension(settings.model.dimension))
        collection, differs = look_at(connection, settings.qdrant.collection, kafka.group, identity)
        rules = rules_for(index, epoch_base(index.epoch), keyed=True, several=len(kafka.topics) != 1)
        topics = Topics(kafka, rules.asking(open_registry(settings.registry)), upstream)
        inventory = connection.inventory(collection.name)
        expired_s = settings.purge.every_s or DAY_S
        audit = Audit(
            topics, inventory, index.epoch, index.order == "offset", expired_s,
            Report(collection.name, options.examples, dry_run=options.dry_run), step, options.parts, options.sample,
        )  # fmt: skip
        doubt = _doubt(connection, settings.qdrant.collection, collection, origin)
        if options.repair:
            refuse_repair(doubt or copying(members(connection, settings.qdrant.collection), collection.name))
            still = _still(connection, settings, collection, upstream, origin)
            writing = _writing(settings, connection, collection, model, topics, differs) if writes else None
            audit.mender = Mend(topics, inventory, writing, audit.situation, still, options.per_s)
        audit.run()
        report = audit.report
        report.notes += [doubt] if doubt else []
        _of_model(report, audit, differs)
        if count := foreign(connection, collection):
            report.add(Example(Kind.FOREIGN, DocumentKey("", ""), "nothing", f"{count} points"), count)
        if model is not None and options.sample and not differs:
            chunker, embedder = chunker_for(settings.index, model), model.embedder
            _sampled(report, connection, collection, audit.sampled, chunker, embedder)
        report.notes += [said for kind, said in NO_REPAIR.items() if report.damaged[kind]]
    report.seconds = time.monotonic() - began
    return report


def tell(report: Report, textfile: Path | None, pushgateway: str) -> None:
    """Metrics of what was found; raises Misconfigured and Unavailable."""
    if textfile is None and not pushgateway:
        return
    metrics = AuditMetrics()
    told = report.left | {kind: report.damaged[kind] for kind in HARMLESS}
    left = {str(kind): told.get(kind, 0) for kind in Kind}
    not_judged = report.given_up + report.unjudged
    metrics.ended(report.collection, report.documents, left, not_judged, report.seconds, time.time())
    if textfile is not None:
        metrics.write(textfile)
    if pushgateway:
        metrics.push(pushgateway, report.collection)


def copying(among: Sequence[Member], name: str) -> str:
    """Why a collection is not to be repaired that a migration copies into; empty where none does."""
    if all(member.whole for member in among if member.name == name):
        return ""
    return (
        f"--repair: a migration is copying into collection {name!r}, and what looks broken may be on its way: wait for "
        "it; penstock migrate --status tells how far it is"
    )


def refuse_repair(why: str) -> None:
    """Raises Misconfigured where there is a reason."""
    if why:
        raise Misconfigured(why)


def _doubt(connection: Connection, name: str, collection: Collection, origin: Origin) -> str:
    """Why orders in the topic and in the collection cannot be compared; empty where they can."""
    state = QdrantLedger(connection, name, collection).state()
    return unfit_origin(state.origin, origin) if state is not None else f"collection {name!r} is gone"


def _still(
    connection: Connection, settings: Settings, collection: Collection, upstream: KafkaUpstream, origin: Origin
) -> Callable[[], None]:
    """What a worker asks before it writes."""
    ledger = QdrantLedger(connection, settings.qdrant.collection, collection)
    if (state := ledger.state()) is None:
        raise Misconfigured(f"collection {settings.qdrant.collection!r} is gone")

    def wait(seconds: float) -> bool:
        time.sleep(seconds)
        return False

    joined = OfTopic(upstream, ledger, origin, state, settings.index.on_gap, wait)
    return lambda: joined.advance(Batch((), {}))


def _writing(
    settings: Settings, connection: Connection, collection: Collection, model: EmbeddingModel | None, topics: Topics,
    differs: str,
) -> Writing:  # fmt: skip
    if differs or model is None:
        raise Misconfigured(f"--repair writes vectors of this model, and collection {collection.name} has {differs}")
    chunker = chunker_for(settings.index, model)
    recipe = number_recipe(connection, collection.name, chunker.rules.fingerprint)
    return Writing(connection.store(collection), topics.rules, chunker, model.embedder, recipe)


def _of_model(report: Report, audit: Audit, differs: str) -> None:
    if differs and (alive := audit.alive()):
        told = ("vectors of this model", f"vectors of another: {differs}")
        report.add(Example(Kind.WRONG_MODEL, DocumentKey("", ""), *told), alive)


def _sampled(
    report: Report, connection: Connection, collection: Collection, keys: list[ChunkKey], chunker: Chunker,
    embedder: Embedder,
) -> None:  # fmt: skip
    """Chunks by chance: whether their vectors are those of their texts."""
    found = samples(connection, collection, keys)
    report.sampled = len(found)
    made = embedder.embed([chunker.tokens(one.title, one.chunk) for one in found]) if found else ()
    for one, vector in zip(found, made, strict=True):
        stored = np.array(one.vector, np.float32)
        cosine = float(stored @ vector) / max(1e-9, float(np.linalg.norm(stored) * np.linalg.norm(vector)))
        if cosine < ALIKE:
            document = DocumentKey(one.key.tenant, one.key.document)
            told = ("the model's own vector of its text", f"one with cosine {cosine:.3f} to that")
            report.add(Example(Kind.WRONG_MODEL, document, *told, f"chunk {one.key.chunk}"))
