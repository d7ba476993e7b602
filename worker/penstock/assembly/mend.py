"""What an audit repairs, and how: by the write protocol itself, with what the topic's own record says.

The record is not sent to the topic once more. A topic that is compacted keeps the latest record of each document: one
that was sent again while its producer sent a newer one would be all that is left. And of a document that is broken at
the very order of its record a worker says that it is there already. So the record is read where it lies, and its
document is chunked, embedded and written here, under the same guards as by any worker: one that writes something
newer meanwhile wins, and this is then swept away.

Of a document that is half-written the points of just that order are removed first, between embedding and writing. For
that moment readers do not find it; killed in it, it is missing, and the next audit writes it.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import cast

from penstock.core.documents import ChunkKey, DocumentKey, Stored
from penstock.core.errors import NotFinite, Refused
from penstock.core.inventory import Held
from penstock.core.ports import Embedder, Inventory, VectorStore
from penstock.core.records import Batch, Place, Record
from penstock.events.rules import DocumentRules
from penstock.index.chunking import Chunker
from penstock.index.in_flight import InFlight
from penstock.index.stages import Embed, IndexWork, Prepare, completer
from penstock.index.write import write
from penstock.operate.audit.compare import Situation
from penstock.operate.audit.judge import Kind, left_over
from penstock.operate.audit.look import Finding
from penstock.operate.audit.table import key_of
from penstock.operate.audit.topic import Topics

AT_ONCE = 32
"""Documents that are written together."""

WRITTEN = frozenset({Kind.MISSING, Kind.STALE, Kind.UNDEAD, Kind.HALF_WRITTEN})


@dataclass(frozen=True, slots=True)
class Writing:
    """What a document is written with, as by a worker. ``recipe`` is the collection's number for the chunker."""

    store: VectorStore
    rules: DocumentRules
    chunker: Chunker
    embedder: Embedder
    recipe: int

    def write(
        self, records: Sequence[Record], doomed: Mapping[DocumentKey, list[Held]], inventory: Inventory
    ) -> dict[Place, str]:
        """Each record's document; of those that could not be written, why."""
        in_flight = InFlight()
        known = cast("VectorStore", _Without(self.store, doomed))
        work = Prepare(self.rules, known, self.chunker, self.recipe, in_flight)(IndexWork(Batch(tuple(records), {})))
        work = Embed(self.embedder, self.chunker.known, in_flight)(work)
        complete = completer(self.chunker, self.embedder)
        written = [one.event.key for one in work.writes]
        inventory.remove([point for key in written for point in doomed.get(key, ())])
        try:
            write(self.store, work.writes, complete, work.settled)
        except (Refused, NotFinite) as error:
            if len(records) > 1:
                return dict(chain(*(self.write([record], doomed, inventory).items() for record in records)))
            self.store.retract([point for one in work.writes for point in one.points])
            return {_place(records[0]): str(error)}
        return {_place(letter.record): str(letter.error) for letter in work.letters}


class _Without:
    """A store that does not tell of some documents."""

    def __init__(self, store: VectorStore, hidden: Mapping[DocumentKey, object]) -> None:
        self._store, self._hidden = store, hidden

    def read(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
        return self._store.read([key for key in keys if DocumentKey(key.tenant, key.document) not in self._hidden])


@dataclass(slots=True)
class Mend:
    """``operate.audit.run.Mender``. ``writing`` is None with ``dry_run``, when no model is needed.

    ``still`` raises where the topic or the collection are others by now; at most ``per_s`` documents in a second.
    """

    topics: Topics
    inventory: Inventory
    writing: Writing | None
    situation: Callable[[], Situation]
    still: Callable[[], None] = lambda: None
    per_s: float = 100.0
    wait: Callable[[float], object] = time.sleep
    clock: Callable[[], float] = time.monotonic

    @property
    def dry_run(self) -> bool:
        """Whether it only says what it would do."""
        return self.writing is None

    def mend(self, findings: Sequence[Finding]) -> dict[DocumentKey, str]:
        """Portion by portion."""
        became: dict[DocumentKey, str] = {}
        left = iter(findings)
        while some := list(islice(left, AT_ONCE)):
            began = self.clock()
            if self.writing is not None:
                self.still()
            done = self._portion(some)
            became |= done
            if self.writing is not None:
                self.wait(max(0.0, len(done) / self.per_s - (self.clock() - began)))
        return became

    def _portion(self, findings: Sequence[Finding]) -> dict[DocumentKey, str]:
        write = [finding for finding in findings if WRITTEN & set(finding.verdict.kinds)]
        became = self._write(write) if self.writing is not None else _would(write, "written from its record")
        for finding in findings:
            if not WRITTEN & set(finding.verdict.kinds) and (doomed := list(self._doomed(finding))):
                if self.writing is not None:
                    self.inventory.remove(doomed)
                became[finding.document] = f"{len(doomed)} points {'would be ' * self.dry_run}removed"
        return became

    def _doomed(self, finding: Finding) -> Iterator[Held]:
        """Anchors first: without it no reader sees a document any more. Nothing of one that may yet have a record."""
        kept, at = self.topics.kept, self.situation()
        if Kind.ORPHAN in finding.verdict.kinds and kept.first and kept.latest and not at.too_many:
            yield from sorted(finding.points, key=lambda point: point.key.chunk)
        elif Kind.LEFT_OVER in finding.verdict.kinds:
            anchors = [point for point in finding.points if point.key.chunk == 0]
            yield from left_over(anchors[0] if anchors else None, finding.points, at)

    def _write(self, findings: Sequence[Finding]) -> dict[DocumentKey, str]:
        by_key = {key_of(finding.document): finding for finding in findings}
        records = dict(self.topics.records_of(by_key))
        there = {by_key[key].document: record for key, record in records.items()}
        doomed = {finding.document: broken(finding) for finding in findings if broken(finding)}
        wrong = self.writing.write(list(there.values()), doomed, self.inventory) if self.writing and there else {}
        return {
            document: f"not written: {why}" if (why := wrong.get(_place(record))) else "written from its record"
            for document, record in there.items()
        }


def _place(record: Record) -> Place:
    return Place(*record.partition, record.offset)


def broken(finding: Finding) -> list[Held]:
    """The points of a half-written document at its anchor's order, unless its record is of a lower one."""
    newest = finding.known.newest
    if Kind.HALF_WRITTEN not in finding.verdict.kinds or newest is None:
        return []
    (anchor, *_) = [point.stored for point in finding.points if point.key.chunk == 0]
    if newest.order < anchor.order:
        return []
    return [point for point in finding.points if point.stored.same(anchor.order, anchor.recipe)]


def _would(findings: Sequence[Finding], done: str) -> dict[DocumentKey, str]:
    return {finding.document: f"would be {done}" for finding in findings}
