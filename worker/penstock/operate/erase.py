"""A tenant's points out of a collection, and what its topics still hold of it.

Points go as they were found, beside workers that go on writing; then they are counted, until there are none for a
while. A tombstone holds no text, but keeps older events out, so those that are there stay until they are purged. With
tombstones on the topic every anchor becomes one in place: it keeps its version, which a null on the topic has not.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from penstock.core.errors import Misconfigured, Stopped
from penstock.core.inventory import Sought
from penstock.core.members import Member
from penstock.core.ports import Inventory
from penstock.core.records import Headers, Partition, Record
from penstock.operate.purge import PORTION, Step, portions

CALM, APART_S, MOST_ROUNDS = 2, 1.0, 20
"""So many counts of nothing, so far apart, end it; and so many rounds, in which something came each time."""


NO_KEY = "no key"
SHARED = "the last record of the key is not this tenant's, and compaction would remove that, too"
"""Why records take no null."""


class Counted(NamedTuple):
    """A tenant's points: those with text, and tombstones."""

    texts: int
    tombstones: int


def count(inventory: Inventory, tenant: str) -> Counted:
    """Exactly, as of now."""
    tombstones = inventory.count(Sought(tenant, tombstones=True))
    return Counted(max(0, inventory.count(Sought(tenant)) - tombstones), tombstones)


def erase(
    inventory: Inventory,
    tenant: str,
    *,
    bury: bool,
    spend: Callable[[int], None],
    wait: Callable[[float], bool],
    step: Step,
) -> int:
    """How many points have gone, or became tombstones (``bury``); what still comes, ``count`` tells afterwards.

    ``spend`` and ``wait`` as in Purge; raises Stopped.
    """
    gone = calm = rounds = 0
    while calm < CALM and rounds < MOST_ROUNDS:
        left = count(inventory, tenant).texts
        calm = 0 if left else calm + 1
        if left:
            rounds += 1
            with step("points", left) as advance:
                gone += _round(inventory, tenant, spend, advance, bury=bury)
        if calm < CALM and wait(APART_S):
            raise Stopped
    return gone


def _round(
    inventory: Inventory, tenant: str, spend: Callable[[int], None], advance: Callable[[int], None], *, bury: bool
) -> int:
    gone = 0
    for some in portions(inventory.scan(Sought(tenant)), PORTION):
        texts = [held for held in some if not held.tombstone]
        anchors = [held for held in texts if bury and held.key.chunk == 0]
        others = [held for held in texts if not (bury and held.key.chunk == 0)]
        spend(len(texts))
        if anchors:
            inventory.bury(anchors)
        if others:
            inventory.remove(others)
        gone += len(texts)
        advance(len(texts))
    return gone


def newest_tombstone(inventory: Inventory, tenant: str) -> str:
    """When the latest of a tenant's tombstones was written, RFC 3339; empty where there is none."""
    return max((held.indexed_at for held in inventory.scan(Sought(tenant, tombstones=True))), default="")


@dataclass(slots=True)
class Remains:
    """A tenant's records in one partition: how many, with a value or without, and from which offset to which."""

    records: int = 0
    values: int = 0
    first: int = -1
    last: int = -1
    newest_ms: int = 0

    def add(self, record: Record) -> None:
        """One more."""
        self.records += 1
        self.values += record.value is not None
        self.first = record.offset if self.first < 0 else self.first
        self.last = record.offset
        self.newest_ms = max(self.newest_ms, record.timestamp_ms or 0)


@dataclass(slots=True)
class Search:
    """What some topics hold of a tenant, record by record; ``whose`` says whose one is, None where nobody can tell.

    ``latest`` are the keys in the topics of documents, each with its last record: what a null has to follow. ``others``
    are those of them whose last record is not the tenant's; ``keyless`` counts records that no null can follow.
    """

    tenant: str
    documents: frozenset[str]
    whose: Callable[[Record], str | None]
    found: dict[Partition, Remains] = field(default_factory=dict)
    untold: dict[str, int] = field(default_factory=dict)
    latest: dict[tuple[Partition, bytes], Record] = field(default_factory=dict)
    others: set[tuple[Partition, bytes]] = field(default_factory=set)
    keyless: dict[str, int] = field(default_factory=dict)

    def look(self, records: Iterable[Record]) -> None:
        """These come next, in offset order within a partition."""
        for record in records:
            topic = record.partition.topic
            whose = self.whose(record)
            if whose is None:
                self.untold[topic] = self.untold.get(topic, 0) + 1
            if whose == self.tenant:
                self.found.setdefault(record.partition, Remains()).add(record)
            if topic in self.documents:
                self._keyed(record, mine=whose == self.tenant)

    def _keyed(self, record: Record, *, mine: bool) -> None:
        if record.key is None:
            if mine and record.value is not None:
                self.keyless[record.partition.topic] = self.keyless.get(record.partition.topic, 0) + 1
            return
        named = record.partition, record.key
        if mine:
            slim = None if record.value is None else b""  # a tenant's whole text would not fit into memory
            self.latest[named] = replace(record, value=slim)
            self.others.discard(named)
        elif named in self.latest:
            self.others.add(named)

    @property
    def living(self) -> list[Record]:
        """The last records of the keys whose last value is no null."""
        return [record for record in self.latest.values() if record.value is not None]

    def nulls(
        self, compacted: Collection[str], headers: Callable[[str], Headers], why_not: Callable[[Record], str]
    ) -> tuple[list[Record], dict[str, int]]:
        """The nulls that follow the living, and for what reasons how many records take none.

        ``headers`` are those of a topic's nulls, ``why_not`` says why one would delete nothing. In a topic that may be
        ``compacted`` one also removes the records of its key that are another tenant's.
        """
        nulls, unheard = [], Counter[str]()
        for record in self.living:
            topic = record.partition.topic
            null = replace(record, value=None, headers=headers(topic), timestamp_ms=None)
            if topic in compacted and record.key is not None and (record.partition, record.key) in self.others:
                unheard[SHARED] += 1
            elif reason := why_not(null):
                unheard[reason] += 1
            else:
                nulls.append(null)
        if keyless := sum(self.keyless.values()):
            unheard[NO_KEY] += keyless
        return nulls, dict(unheard)

    def of(self, topic: str) -> Mapping[int, Remains]:
        """By partition."""
        return {owned.number: self.found[owned] for owned in sorted(self.found) if owned.topic == topic}

    def in_words(self, topic: str) -> str:
        """How many, and where."""
        parts = self.of(topic)
        places = ", ".join(f"{number}: {one.first} to {one.last}" for number, one in parts.items())
        return f"{sum(one.records for one in parts.values())} records of it (by partition, offsets {places})"

    def told(self, topic: str) -> dict[str, Any]:
        """As a report has it."""
        parts = self.of(topic)
        return {
            "records": sum(one.records for one in parts.values()),
            "with_a_value": sum(one.values for one in parts.values()),
            "of_unknown_tenant": self.untold.get(topic, 0),
            "partitions": [
                {"partition": number, "records": one.records, "first_offset": one.first, "last_offset": one.last}
                for number, one in parts.items()
            ],
        }


def refuse_while_copied(members: Sequence[Member]) -> None:
    """A copy that is under way could write the tenant again: raises Misconfigured."""
    for member in members:
        if not member.whole:
            raise Misconfigured(
                f"a migration still copies into {member.name}: wait until penstock migrate --status says ready, then "
                "erase"
            )


def headers_of(tenant_from: str, header: str, tenant: str) -> Headers:
    """What a null needs beside its key to be that tenant's."""
    return ((header, tenant.encode()),) if tenant_from == "header" else ()
