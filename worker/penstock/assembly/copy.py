"""What a collection holds, into the one that a migration fills, beside the topic: for what the topic holds no more.

Copies have a recipe of their own that is lower than any: whatever the topic still holds of a document, the same event
even, is newer, since it has the text as it was and not as it lies in chunks.
"""

import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from typing_extensions import override

from penstock.adapters.kafka.connection import connect_producer
from penstock.adapters.kafka.dead_letters import KafkaDeadLetters
from penstock.adapters.qdrant.connection import Connection
from penstock.adapters.qdrant.documents import CollectionSource
from penstock.adapters.qdrant.members import members
from penstock.adapters.qdrant.migration import copy_rules, mark_copied, opened
from penstock.assembly.backfill import to_its_end
from penstock.assembly.beside import run_both
from penstock.assembly.index import IndexWorker
from penstock.assembly.membership import Joining, Stream
from penstock.assembly.monitor import BackfillMonitor
from penstock.assembly.stream import Retries
from penstock.core.documents import ChunkKey, DocumentKey, Stored, epoch_base
from penstock.core.errors import Misconfigured, Missing, Unavailable
from penstock.core.letters import COPIED_FROM
from penstock.core.members import PARTS, Member
from penstock.core.ports import DeadLetters, Ledger
from penstock.core.records import Letter, Partition, Record
from penstock.events.copied import read, written
from penstock.events.rules import DocumentRules
from penstock.observe.backfill_metrics import BackfillMetrics
from penstock.observe.live import Reporter
from penstock.observe.log import NamedOnce, log
from penstock.observe.watch import Watch
from penstock.settings import KafkaSettings, Settings

RECIPE = 0
"""Those that a collection gives begin with 1."""


@dataclass(frozen=True, slots=True)
class Copying:
    """A worker that fills ``to``, and the copy of ``origin`` behind it, until it is done."""

    settings: Settings
    origin: Member
    to: Member
    stop: threading.Event

    def __call__(self, live: IndexWorker, ledger: Ledger, retries: Retries, connection: Connection) -> Reporter:
        """As ``assembly.index.Beside``."""
        rules = live.chunker.rules.fingerprint
        if retries.of("qdrant").call(partial(copy_rules, connection, self.to.name, rules)) != rules:
            raise Misconfigured(
                f"copies in {self.to.name} are cut by other rules: set PENSTOCK_INDEX__CHUNK_TOKENS and its like as "
                "they were, or drop it and begin again"
            )
        watch = Watch()
        metrics = BackfillMetrics(live.monitor.metrics.registry, watch, live.side.shared.waited_s)
        with closing(self._stream(connection)) as stream:
            behind = replace(
                live,
                stream=stream,
                membership=Joining(stream, ledger, self.settings.index.on_gap).join(retries),
                recipe=RECIPE,
                monitor=BackfillMonitor.beside(live.monitor, watch, metrics),
                side=replace(live.side, behind=True),
            )
            done = threading.Event()
            front = replace(live, elsewhere=partial(self._before, connection, retries, done))
            return run_both(lambda: front.run(self.stop), partial(self._copy, behind, metrics, done), self.stop)

    def _copy(self, behind: IndexWorker, metrics: BackfillMetrics, done: threading.Event) -> None:
        report = to_its_end(behind, metrics, self.stop, bar=False)
        if not self.stop.is_set():
            done.set()
        report.summary("so_far" if self.stop.is_set() else "copied")

    def _before(
        self, connection: Connection, retries: Retries, done: threading.Event, keys: Sequence[ChunkKey]
    ) -> Mapping[ChunkKey, Stored]:
        """What is still to be copied of these: nothing, once all is."""
        retry = retries.of("qdrant")

        def report(error: Unavailable, failures: int, pause_s: float) -> None:
            if isinstance(error, Missing):
                raise _Gone from error
            retry.report(error, failures, pause_s)

        if done.is_set():
            return {}
        try:
            return replace(retry, report=report).call(lambda: self._read(connection, keys))
        except _Gone:
            return {}

    def _read(self, connection: Connection, keys: Sequence[ChunkKey]) -> Mapping[ChunkKey, Stored]:
        return connection.store(opened(connection, self.origin)).read(keys)

    def _stream(self, connection: Connection) -> Stream:
        passed_over = NamedOnce("passed_over")

        def told(key: DocumentKey) -> None:
            """Either it is being written, and the topic has it; or it was left half written, as an audit tells."""
            passed_over(self.origin.name, ["/".join(filter(None, key))])

        def copied(part: int) -> None:
            mark_copied(connection, self.to.name, part)
            log.info("copied_part", part=part, of=PARTS)

        source = CollectionSource(
            connection.points, self.origin.name, self._parts(connection), written, of=PARTS, copied=copied,
            passed_over=told,
        )  # fmt: skip
        kafka = self.settings.kafka
        letters = KafkaDeadLetters(connect_producer(kafka), kafka, epoch_base(self.settings.index.epoch))
        return Stream(source, _Letters(letters, kafka), DocumentRules(), read=read)

    def _parts(self, connection: Connection) -> Iterator[int]:
        """In any order, so that workers share them; those that another has done by then are left out."""
        while left := self._left(connection):
            yield random.choice(left)  # noqa: S311  # no secret

    def _left(self, connection: Connection) -> list[int]:
        there = {one.name: one for one in members(connection, self.settings.qdrant.collection)}
        if self.to.name not in there:
            raise Misconfigured(f"{self.to.name} is gone meanwhile")
        return [part for part in range(PARTS) if part not in there[self.to.name].copied]


class _Gone(Exception):
    """The collection was dropped: nothing of it is to come any more."""


class _Letters(DeadLetters):
    """Of copies: a document of a file has no dead letter topic of its own."""

    def __init__(self, letters: DeadLetters, kafka: KafkaSettings) -> None:
        self._letters, self._kafka = letters, kafka

    @override
    def put(self, letters: Sequence[Letter]) -> None:
        self._letters.put([replace(letter, record=self._of_topic(letter.record)) for letter in letters])

    @override
    def close(self, timeout_s: float) -> None:
        self._letters.close(timeout_s)

    def _of_topic(self, record: Record) -> Record:
        """With a header that says what it is: it is not to be sent back."""
        own, marked = record.partition, (*record.headers, (COPIED_FROM, str(record.partition.topic).encode()))
        topics = self._kafka.topics
        if not self._kafka.follows(own.topic) and topics:
            own = Partition(topics[0], 0)
        return replace(record, partition=own, headers=marked)
