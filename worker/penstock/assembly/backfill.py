"""A backfill beside the live stream of an index worker, put together: a topic or a file into the same collection."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial

from rich.console import Console

from penstock.adapters.kafka.group_offsets import GroupOffsets
from penstock.adapters.kafka.topics import check_topics
from penstock.adapters.kafka.upstream import KafkaUpstream
from penstock.adapters.qdrant.connection import Connection
from penstock.assembly.beside import run_both
from penstock.assembly.index import TICKS_PER_S, Beside, IndexWorker, open_file, rules_for
from penstock.assembly.membership import Joining, Stream
from penstock.assembly.monitor import BackfillMonitor
from penstock.assembly.stream import Retries, join_topic
from penstock.core.around import around_calls
from penstock.core.errors import Misconfigured
from penstock.core.identity import Origin
from penstock.core.ports import Ledger, Membership
from penstock.observe.backfill_metrics import BackfillMetrics
from penstock.observe.live import Reporter, live_lines
from penstock.observe.log import log
from penstock.observe.watch import Watch
from penstock.settings import KafkaSettings, LettersKept, Settings
from penstock.stream import backfill
from penstock.stream.joined import opened
from penstock.stream.pipeline import StageFailed

VARIABLE = "PENSTOCK_INDEX__BACKFILL"

Opened = tuple[Stream, Callable[[Retries], Membership]]


def backfill_beside(
    settings: Settings, stop: threading.Event, file: str | None, *, once: bool, anew: bool, bar: bool
) -> Beside | None:
    """Of the ``file``, or of the topic in the settings; None where there is neither. ``anew`` as of the worker."""
    if file is None and not settings.index.backfill:
        return None

    def run(live: IndexWorker, ledger: Ledger, retries: Retries, _connection: Connection) -> Reporter:
        lines = live_lines(Console(stderr=True)) if bar else None
        watch = Watch()
        metrics = BackfillMetrics(live.monitor.metrics.registry, watch, live.side.shared.waited_s)
        stream, membership = (
            _open_file(settings, file, ledger, retries)
            if file is not None
            else _Topic(settings=settings, watch=watch, once=once, anew=anew).join(ledger, retries)
        )
        stream = stream._replace(rules=stream.rules.asking(live.stream.rules.registry))
        with closing(stream):
            behind = replace(
                live,
                stream=stream,
                membership=membership,
                monitor=BackfillMonitor.beside(live.monitor, watch, metrics),
                side=replace(live.side, behind=True, lines=lines),
            )
            front = replace(live, side=replace(live.side, lines=lines))
            log.info("backfill_started", source=file or stream.name)
            return run_both(lambda: front.run(stop, bar=bar), lambda: _to_its_end(behind, metrics, stop, bar=bar), stop)

    return run


def _to_its_end(behind: IndexWorker, metrics: BackfillMetrics, stop: threading.Event, *, bar: bool) -> None:
    to_its_end(behind, metrics, stop, bar=bar).summary("ended")


def to_its_end(behind: IndexWorker, metrics: BackfillMetrics, stop: threading.Event, *, bar: bool) -> Reporter:
    """Until it ends or is stopped; returns what became of it. What does not fit is raised as Misconfigured."""
    metrics.running.set(1)
    try:
        return behind.run(stop, bar=bar)
    except (StageFailed, Misconfigured) as error:
        reason = error.__cause__ if isinstance(error, StageFailed) else error
        if not isinstance(reason, Misconfigured):
            raise
        log.error("backfill_stopped", reason=str(reason))
        raise reason from None
    finally:
        metrics.running.set(0)
        behind.monitor.ended()


def _open_file(settings: Settings, file: str, ledger: Ledger, retries: Retries) -> Opened:
    stream = open_file(settings.index, file, time.time())
    return stream, Joining(stream, ledger, settings.index.on_gap).join(retries)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Topic:
    """The topic of the settings, read by a group of its own."""

    settings: Settings
    watch: Watch
    once: bool
    anew: bool

    @property
    def kafka(self) -> KafkaSettings:
        """As this group reads that topic."""
        return self.settings.kafka.behind(self.settings.index.backfill)

    def join(self, ledger: Ledger, retries: Retries) -> Opened:
        """Raises Misconfigured where it, its group and the collection do not fit."""
        kafka, index = self.kafka, self.settings.index
        calls, asked = retries.of("kafka"), around_calls(ledger, retries.of("qdrant").around)
        kept = LettersKept.of(self.settings.setup, self.settings.purge)
        identity = calls.call(lambda: check_topics(kafka, VARIABLE, index.needs, kept))
        upstream = KafkaUpstream(kafka, index.needs, kept)
        with ExitStack() as open_so_far:
            open_so_far.callback(upstream.close)
            now = int(time.time() * TICKS_PER_S)
            begun = backfill.begin(kafka.topic, identity, asked, now, retries.ended.wait)
            if self.anew:
                self._begin_again(begun, asked, retries)
            backfill.join(begun, around_calls(upstream, calls.around), asked)
            joined = calls.call(lambda: join_topic(kafka, begun.base, self.watch, identity.id, once=self.once))
            open_so_far.pop_all()
        origin = Origin.of(kafka.topic, identity, 0, index.order)
        stream = Stream(*joined, rules_for(index, begun.base, keyed=True), origin, upstream)
        return stream, partial(self._membership, begun, upstream, ledger)

    def _begin_again(self, begun: backfill.Backfill, ledger: Ledger, retries: Retries) -> None:
        with closing(GroupOffsets(self.kafka, VARIABLE)) as group:
            starts = retries.of("kafka").call(group.begins)
            retries.of("kafka").call(partial(group.set, starts))
        ledger.advance(begun.sequences(starts))
        log.info("backfill_from_beginning", offsets={f"{one.topic}/{one.number}": at for one, at in starts.items()})

    def _membership(
        self, begun: backfill.Backfill, upstream: KafkaUpstream, ledger: Ledger, retries: Retries
    ) -> Membership:
        kafka, qdrant = (retries.of(service).around for service in ("kafka", "qdrant"))
        asked = around_calls(ledger, qdrant)
        on_gap, wait = self.settings.index.on_gap, retries.ended.wait
        return backfill.OfBackfill(begun, around_calls(upstream, kafka), asked, opened(asked), on_gap, wait)
