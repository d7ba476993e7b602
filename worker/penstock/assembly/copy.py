"""What a collection holds, into the one that a migration fills, beside the topic: for what the topic holds no more.

Copies have a recipe of their own that is lower than any: whatever the topic still holds of a document, the same event
even, is newer, since it has the text as it was and not as it lies in chunks.
"""

import random
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from penstock.adapters.kafka.connection import connect_producer
from penstock.adapters.kafka.dead_letters import KafkaDeadLetters
from penstock.adapters.qdrant.connection import Connection
from penstock.adapters.qdrant.documents import CollectionSource
from penstock.adapters.qdrant.members import members
from penstock.adapters.qdrant.migration import mark_copied
from penstock.assembly.beside import run_both
from penstock.assembly.index import IndexWorker
from penstock.assembly.membership import Joining, Stream
from penstock.assembly.monitor import BackfillMonitor
from penstock.assembly.stream import Retries
from penstock.core.documents import DocumentKey, epoch_base
from penstock.core.members import PARTS, Member
from penstock.core.ports import Ledger
from penstock.events.copied import read, written
from penstock.events.rules import DocumentRules
from penstock.observe.backfill_metrics import BackfillMetrics
from penstock.observe.live import Reporter
from penstock.observe.log import NamedOnce, log
from penstock.observe.watch import Watch
from penstock.settings import Settings

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
            return run_both(lambda: live.run(self.stop), partial(self._copy, behind, metrics), self.stop)

    def _copy(self, behind: IndexWorker, metrics: BackfillMetrics) -> None:
        metrics.running.set(1)
        try:
            report = behind.run(self.stop)
        finally:
            metrics.running.set(0)
            behind.monitor.ended()
        report.summary("so_far" if self.stop.is_set() else "copied")

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
        return Stream(source, letters, DocumentRules(), read=read)

    def _parts(self, connection: Connection) -> Iterator[int]:
        """In any order, so that workers share them; those that another has done by then are left out."""
        for part in random.sample(range(PARTS), PARTS):
            there = members(connection, self.settings.qdrant.collection)
            if part not in next(one for one in there if one.name == self.to.name).copied:
                yield part
