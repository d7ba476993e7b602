"""A tenant's erasure, put together: what there is of it, and what is done."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from penstock import __version__
from penstock.adapters.kafka.letters import Returns, whole
from penstock.adapters.kafka.progress import KafkaProgress
from penstock.adapters.kafka.retention import KafkaRetention
from penstock.adapters.qdrant.connection import Connection
from penstock.adapters.qdrant.members import members
from penstock.assembly.index import open_registry, rules_for
from penstock.assembly.purge import Held, held_collection
from penstock.core.documents import EPOCH_SHIFT
from penstock.core.errors import Misconfigured, Stopped, Unavailable
from penstock.core.records import Headers, Place, Record
from penstock.core.retention import Kept
from penstock.events.whose import deletes, tenant_of
from penstock.operate.erase import Counted, Search, count, erase, headers_of, newest_tombstone, refuse_while_copied
from penstock.operate.erased import Erased
from penstock.operate.purge import Allowance, Step
from penstock.settings import KafkaSettings, Settings

SENT_TOGETHER, ASK_S = 1000, 1.0


class Found(NamedTuple):
    """What there is of a tenant: in the collection, and in the topics; ``nulls`` follow the last records of its keys.

    ``unheard`` says why records take no null, by how many there are.
    """

    points: Counted
    topics: Sequence[Kept]
    search: Search
    nulls: Sequence[Record]
    unheard: dict[str, int]


@dataclass(slots=True)
class Erasure:
    """Of one tenant, out of every collection behind an alias, each with the group that writes it.

    ``wait`` waits so many seconds, and says whether to stop.
    """

    settings: Settings
    tenant: str
    everywhere: Mapping[str, Held]
    step: Step
    wait: Callable[[float], bool]
    found: Found = field(init=False)

    def look(self) -> Found:
        """Reads the topics from their first record; changes nothing. Raises Misconfigured or Unavailable."""
        kafka, index = self.settings.kafka, self.settings.index
        topics: list[Kept] = []
        if any(held.origin is not None for held in self.everywhere.values()):
            with closing(KafkaRetention(kafka, index.backfill)) as retention:
                topics = retention.topics()
        rules = rules_for(index, index.epoch << EPOCH_SHIFT, keyed=True, several=len(kafka.topics) != 1)
        rules = rules.asking(open_registry(self.settings.registry))
        documents = frozenset(kept.topic for kept in topics if not (kept.letters or kept.backfill))
        search = Search(self.tenant, documents, lambda record: tenant_of(record, rules))
        if topics:
            with whole(kafka, [kept.topic for kept in topics]) as opened, self.step("topics", opened.offsets) as passed:
                for records in opened.read(passed=passed):
                    search.look(records)
        compacted = {kept.topic for kept in topics if kept.policies != {"delete"}}
        nulls, unheard = search.nulls(compacted, self._headers, lambda null: deletes(null, rules))
        self.found = Found(self._counted(), topics, search, nulls, unheard)
        return self.found

    def _headers(self, topic: str) -> Headers:
        own = self.settings.index.of_topic(topic)
        return headers_of(own.tenant_from, own.tenant_header, self.tenant)

    def send_nulls(self) -> dict[str, int]:
        """A null for each key that has a value, in its own partition; the last of their offsets in each partition.

        Raises Misconfigured or Unavailable; sent again they do no harm.
        """
        last: dict[tuple[str, int], int] = {}
        nulls = self.found.nulls
        if not nulls:
            return {}
        with closing(Returns(self.settings.kafka)) as sender, self.step("nulls", len(nulls)) as advance:
            for begin in range(0, len(nulls), SENT_TOGETHER):
                some = nulls[begin : begin + SENT_TOGETHER]
                for null in some:
                    sender.send(Place(*null.partition, null.offset), null.partition, null.key, None, null.headers)
                for place in sender.settle().values():
                    if isinstance(place, str):
                        raise Misconfigured(f"a null for a document of tenant {self.tenant!r}: {place}")
                    last[place.topic, place.partition] = max(place.offset, last.get((place.topic, place.partition), -1))
                advance(len(some))
        return {f"{topic}/{number}": offset for (topic, number), offset in sorted(last.items())}

    def await_workers(self, last: dict[str, int], most_s: float) -> None:
        """Until every group has passed these offsets and all records of the tenant that were found before.

        Raises Unavailable where it has not by then, and Stopped.
        """
        documents = self.found.search.documents
        ends = {
            f"{on.topic}/{on.number}": one.last for on, one in self.found.search.found.items() if on.topic in documents
        }
        places = [Place(*_named(name), offset) for name, offset in (ends | last).items()]
        until = time.monotonic() + most_s
        for group in self.everywhere:
            self._await(self.settings.kafka.model_copy(update={"group": group}), places, until, most_s)

    def _await(self, kafka: KafkaSettings, places: Sequence[Place], until: float, most_s: float) -> None:
        with closing(KafkaProgress(kafka)) as progress, self.step("workers", len(places)) as advance:
            passed = 0
            while passed < len(places):
                done = sum(progress.searchable(places))
                advance(done - passed)
                passed = done
                if passed < len(places):
                    if time.monotonic() > until:
                        raise Unavailable(
                            f"group {kafka.group!r} has not passed the nulls after {most_s:g} s: does a "
                            "worker run? What was sent stays sent; run it again"
                        )
                    if self.wait(ASK_S):
                        raise Stopped

    def erase_points(self, *, bury: bool) -> int:
        """How many points have gone, or became tombstones."""
        spend = Allowance(self.settings.purge.points_per_s, self.wait, time.monotonic)
        return sum(
            erase(held.inventory, self.tenant, bury=bury, spend=spend, wait=self.wait, step=self.step)
            for held in self.everywhere.values()
        )

    @property
    def collections(self) -> str:
        """Their names."""
        return ", ".join(held.name for held in self.everywhere.values())

    def _counted(self) -> Counted:
        each = [count(held.inventory, self.tenant) for held in self.everywhere.values()]
        return Counted(sum(one.texts for one in each), sum(one.tombstones for one in each))

    def told(self, gone: int, last: dict[str, int], *, asked: bool, dry_run: bool = False) -> Erased:
        """What it has come to, counted now; ``asked``: nulls were to be sent."""
        found = self.found
        return Erased(
            tenant=self.tenant,
            collection=self.collections,
            version=__version__,
            at=datetime.now(UTC),
            before=found.points,
            after=self._counted(),
            gone=gone,
            newest=max(newest_tombstone(held.inventory, self.tenant) for held in self.everywhere.values()),
            tombstones_s=self.settings.purge.tombstones_s,
            topics=found.topics,
            search=found.search,
            asked=asked,
            nulls=len(found.nulls) if asked else 0,
            last=last,
            unheard=found.unheard,
            dry_run=dry_run,
        )


@contextmanager
def erasing(settings: Settings, tenant: str, step: Step, wait: Callable[[float], bool]) -> Iterator[Erasure]:
    """Out of what readers get, and of what a migration keeps beside it. Raises Misconfigured or Unavailable."""
    with ExitStack() as opened:
        connection = opened.enter_context(closing(Connection(settings.qdrant)))
        alias, group = settings.qdrant.collection, settings.kafka.group
        there = members(connection, alias)
        refuse_while_copied(there)
        if len(there) < 2:  # noqa: PLR2004  # no migration
            everywhere = {group: held_collection(connection, alias)}
        else:
            everywhere = {one.group: held_collection(connection, one.name) for one in there}
        yield Erasure(settings, tenant, everywhere, step, wait)


def carry_out(erasure: Erasure, *, tombstones: bool, wait_s: float | None) -> Erased:
    """What was found is erased. ``wait_s`` is how long workers may take for the nulls, None: no waiting.

    Nulls first: what is erased before could be indexed again by who reads the topic in between.
    """
    last = erasure.send_nulls() if tombstones else {}
    gone = erasure.erase_points(bury=tombstones)
    if wait_s is not None:
        erasure.await_workers(last, wait_s)
        gone += erasure.erase_points(bury=True)
    return erasure.told(gone, last, asked=tombstones)


def _named(name: str) -> tuple[str, int]:
    topic, _, number = name.rpartition("/")
    return topic, int(number)
