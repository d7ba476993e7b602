"""Purge, put together: once, or now and then in an index worker."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from penstock.adapters.kafka.retention import KafkaRetention
from penstock.adapters.qdrant.channel import about_no_document
from penstock.adapters.qdrant.connection import Collection, Connection
from penstock.adapters.qdrant.inventory import QdrantInventory
from penstock.adapters.qdrant.ledger import QdrantLedger
from penstock.adapters.qdrant.metadata import IDENTITY, describe, resolve, state_of
from penstock.adapters.qdrant.store import QdrantStore
from penstock.core.errors import Misconfigured, Stopped, Unavailable
from penstock.core.identity import Origin
from penstock.core.inventory import Kind
from penstock.core.retention import Doubt, doubt
from penstock.observe.index_metrics import IndexMetrics
from penstock.observe.log import log, outage
from penstock.operate.purge import LOOKED_PER_REMOVED, PORTION, Allowance, Limits, Purge, Step, untold
from penstock.settings import KafkaSettings, PurgeSettings, Settings
from penstock.stream.retry import backoff

LEAVE_S, LOOK_S = 1.0, 0.25
TOMBSTONES = "PENSTOCK_PURGE__TOMBSTONES_S"


class Held(NamedTuple):
    """A collection that is there, for whoever looks after it."""

    name: str
    inventory: QdrantInventory
    store: QdrantStore
    ledger: QdrantLedger
    origin: Origin | None


def held_collection(connection: Connection, name: str) -> Held:
    """The one behind an alias, or of that name; raises Misconfigured where there is none of ours, or Unavailable."""
    with about_no_document():
        connection.check_version()
        if (actual := resolve(connection.collections, name)) is None:
            raise Misconfigured(f"there is no collection {name!r}; correct PENSTOCK_QDRANT__COLLECTION")
        metadata, shape = describe(connection.collections, actual)
    if metadata.get(IDENTITY) is None:
        raise Misconfigured(f"collection {name!r} was not made by penstock; correct PENSTOCK_QDRANT__COLLECTION")
    collection = Collection(actual, shape)
    ledger = QdrantLedger(connection, name, collection)
    store, origin = connection.store(collection), state_of(actual, metadata).origin
    return Held(actual, connection.inventory(actual), store, ledger, origin)


@dataclass(frozen=True, slots=True)
class Purged:
    """What has gone of a collection, or would have; ``kept`` says why tombstones stayed, where they did."""

    collection: str
    removed: Counter[Kind]
    kept: str


@dataclass(frozen=True, slots=True)
class Purging:
    """How one is asked for. ``older_than_s`` takes the place of the setting for tombstones, None does not.

    ``trust`` leaves the brokers unasked how long the topics keep their records.
    """

    older_than_s: float | None = None
    trust: bool = False
    dry_run: bool = False


def run_purge(settings: Settings, asked: Purging, step: Step) -> Purged:
    """One round; raises Misconfigured, also where tombstones would go too soon, or Unavailable: run it again then."""
    given = asked.older_than_s
    tombstones_s = settings.purge.tombstones_s if given is None else given
    with closing(Connection(settings.qdrant)) as connection:
        held = held_collection(connection, settings.qdrant.collection)
        told = Doubt()
        if held.origin is not None and not asked.trust:
            with closing(KafkaRetention(settings.kafka, settings.index.backfill)) as retention:
                told = doubt(retention.topics(), tombstones_s, TOMBSTONES if given is None else "--older-than-s")
        if told.reason and not told.never:
            raise Misconfigured(told.reason)
        pace = _Pace(settings.purge, threading.Event().wait)
        limits = _limits(settings.purge, None if told.reason else tombstones_s)
        purge = pace.over(held, settings.kafka, limits, dry_run=asked.dry_run)
        purge.run(step)
    return Purged(held.name, purge.removed, told.reason)


def _limits(purge: PurgeSettings, tombstones_s: float | None) -> Limits:
    now = datetime.now(UTC)
    oldest = None if tombstones_s is None else now - timedelta(seconds=tombstones_s)
    return Limits(now, oldest, now - timedelta(seconds=purge.orphans_s))


class _Pace:
    def __init__(self, settings: PurgeSettings, wait: Callable[[float], bool]) -> None:
        self._per_s, self._wait = settings.points_per_s, wait

    def over(self, held: Held, kafka: KafkaSettings, limits: Limits, *, dry_run: bool = False) -> Purge:
        """A round over the collection that keeps to it."""
        spend, look = (Allowance(self._per_s * times, self._wait, time.monotonic) for times in (1, LOOKED_PER_REMOVED))
        return Purge(
            held.inventory,
            held.store,
            held.ledger,
            limits,
            kafka.follows,
            spend=spend,
            look=look,
            portion=min(PORTION, self._per_s),
            dry_run=dry_run,
        )


@contextmanager
def purged_meanwhile(
    settings: Settings, held: Callable[[], Held], mine: Callable[[], bool], metrics: IndexMetrics, stop: threading.Event
) -> Iterator[None]:
    """Rounds in a thread of their own, if there are to be any; within a second of ``stop``, or of the end, it ends.

    ``mine`` says whether this worker is the one of its group that does it; if several are, that is harmless.
    """
    if settings.purge.every_s is None:
        yield
        return
    loop = _Loop(settings, settings.purge.every_s, held, mine, metrics, stop)
    thread = threading.Thread(target=loop.run, name="purge", daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.ended.set()
        thread.join(LEAVE_S)


@dataclass(frozen=True, slots=True)
class _Loop:
    settings: Settings
    every_s: float
    held: Callable[[], Held]
    mine: Callable[[], bool]
    metrics: IndexMetrics
    stop: threading.Event
    ended: threading.Event = field(default_factory=threading.Event)
    told: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Whatever befalls a round, the worker goes on; the first one comes after a while, in each at another time."""
        pause_s, failures = self.every_s * random.uniform(0.5, 1.0), 0  # noqa: S311  # no secret
        while not self._wait(pause_s):
            pause_s = self.every_s
            try:
                if self.mine():
                    self._round()
                failures = 0
            except Stopped:
                return
            except Unavailable as error:
                failures += 1
                pause_s = min(self.every_s, backoff(failures, random.random()))  # noqa: S311
                self._away(error, failures, pause_s)
            except Misconfigured as error:
                self._warn(str(error))
            except Exception as error:  # noqa: BLE001  # told, and no reason to end the worker
                if not self._over:
                    log.error("bug", where="purge", error=str(error), exc_info=error)

    def _round(self) -> None:
        began, held = time.monotonic(), self.held()
        told = self._doubt()
        if told.reason:
            self._warn(told.reason)
        limits = _limits(self.settings.purge, None if told.reason else self.settings.purge.tombstones_s)
        purge = _Pace(self.settings.purge, self._wait).over(held, self.settings.kafka, limits)
        try:
            purge.run(untold)
        finally:
            self.metrics.purged(purge.removed)
            if purge.removed:
                counts = {kind.value: purge.removed[kind] for kind in Kind}
                log.info("purged", collection=held.name, **counts, seconds=round(time.monotonic() - began, 1))

    def _doubt(self) -> Doubt:
        """While Kafka is away tombstones stay."""
        settings = self.settings
        with closing(KafkaRetention(settings.kafka, settings.index.backfill)) as retention:
            try:
                return doubt(retention.topics(), settings.purge.tombstones_s, TOMBSTONES)
            except Unavailable as error:
                return Doubt(str(error))

    def _warn(self, reason: str) -> None:
        """Once for each reason."""
        if reason not in self.told and not self._over:
            self.told.add(reason)
            log.warning("not_purged", reason=reason)

    def _away(self, error: Unavailable, failures: int, pause_s: float) -> None:
        if not self._over:
            self.metrics.retry("qdrant")
            outage(error, failures, pause_s)

    @property
    def _over(self) -> bool:
        return self.stop.is_set() or self.ended.is_set()

    def _wait(self, seconds: float) -> bool:
        """Whether it is time to end; looks for that now and then."""
        until = time.monotonic() + seconds
        while not self._over:
            if (left := until - time.monotonic()) <= 0:
                return False
            self.ended.wait(min(left, LOOK_S))
        return True
