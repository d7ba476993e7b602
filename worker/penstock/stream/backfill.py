"""A backfill: another topic into the same collection, behind everything that the collection's own stream says.

Its events are of epoch 0, where files are, too: any live event of the same document is newer, an upsert as well as a
delete. Where versions order the events, they do as always.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from typing_extensions import override

from penstock.core.errors import Misconfigured, Stopped
from penstock.core.identity import CollectionState, TopicIdentity
from penstock.core.ports import Ledger, Membership, Upstream
from penstock.core.records import Batch, Partition
from penstock.stream.doubts import REREAD, OnGap, changed_collection, lost_records
from penstock.stream.joined import CONFIRM_S, confirmed

AGAIN = "start again"


@dataclass(frozen=True, slots=True)
class Backfill:
    """The topic as it was joined, and what is added to its offsets to make sequences.

    ``base`` is when the first worker began with this topic, in ticks as of files: so it is the same for all workers
    and after every restart, a topic that is made anew has a later one, and a later backfill wins over an earlier one.
    """

    topic: str
    identity: TopicIdentity
    base: int

    @property
    def beginning(self) -> Partition:
        """Under which the collection remembers the base: no topic is called so."""
        return _beginning(self.topic, self.identity)

    def sequences(self, offsets: Mapping[Partition, int]) -> dict[Partition, int]:
        """How far the collection holds each partition, when everything before these offsets is written."""
        return {owned: self.base + offset for owned, offset in offsets.items()}


def _beginning(topic: str, identity: TopicIdentity) -> Partition:
    return Partition(f"{topic}@{identity.id}", 0)


def begin(topic: str, identity: TopicIdentity, ledger: Ledger, now: int, wait: Callable[[float], bool]) -> Backfill:
    """The backfill as the collection remembers it; begun ``now``, in ticks, where it does not.

    Workers that begin at the same moment agree on the latest of them; one that does not is told by ``OfBackfill``.
    """
    place = _beginning(topic, identity)
    if place not in ledger.read([place]):
        ledger.advance({place: now})
        if wait(CONFIRM_S):
            raise Stopped
    return Backfill(topic, identity, ledger.read([place]).get(place, now))


def join(backfill: Backfill, upstream: Upstream, ledger: Ledger) -> None:
    """Raises Misconfigured where the collection lacks what the backfill's group has committed."""
    committed = backfill.sequences(upstream.committed())
    if reason := lacking(backfill, committed, ledger.read(committed)):
        raise Misconfigured(reason)


def lacking(backfill: Backfill, expected: Mapping[Partition, int], held: Mapping[Partition, int]) -> str:
    """Which partition a collection holds less far than expected, and what to do; empty where none is."""
    for owned, sequence in sorted(expected.items()):
        offset = max(0, held.get(owned, 0) - backfill.base)
        if offset < sequence - backfill.base:
            return (
                f"the collection holds the backfill {owned.topic}/{owned.number} up to offset {offset}, what was "
                f"committed or written before is {sequence - backfill.base}: it was emptied, restored, or never got "
                f"those records. {REREAD}"
            )
    return ""


@dataclass(slots=True)
class OfBackfill(Membership):
    """What a worker found when it joined a backfill. The collection's origin is asked by the worker's live half."""

    backfill: Backfill
    upstream: Upstream
    ledger: Ledger
    collection: CollectionState
    on_gap: OnGap
    wait: Callable[[float], bool]
    _held: dict[Partition, int] = field(default_factory=dict)

    @override
    def verify(self, batch: Batch) -> None:
        """Topic, collection, what was written before, and the way to the batch's first record."""
        confirmed(lambda: self._topic() or self._collection() or self._progress(), self.wait)
        if reason := lost_records([gap for gap in batch.gaps if gap.found > gap.expected], self.on_gap):
            raise Misconfigured(reason)

    @override
    def verify_collection(self) -> None:
        confirmed(self._collection, self.wait)

    @override
    def advance(self, batch: Batch) -> None:
        """Topic and collection once more; then the collection remembers how far it holds the backfill."""
        confirmed(lambda: self._topic() or self._collection(), self.wait)
        if sequences := self.backfill.sequences({owned: at.offset for owned, at in batch.positions.items()}):
            self.ledger.advance(sequences)
            self._held |= {owned: max(sequence, self._held.get(owned, 0)) for owned, sequence in sequences.items()}

    def _topic(self) -> str:
        now, joined = self.upstream.identity(), self.backfill.identity
        if now is None:
            return (
                f"the backfill's topic {self.backfill.topic!r} is gone: correct PENSTOCK_INDEX__BACKFILL, or empty it"
            )
        if now.id != joined.id:
            return f"the backfill's topic {self.backfill.topic!r} was deleted and made anew: {AGAIN}"
        if now.partitions != joined.partitions:
            return (
                f"the backfill's topic {self.backfill.topic!r} has {now.partitions} partitions, it had "
                f"{joined.partitions}: events of a document may lie in two. Send them to a topic that is made anew"
            )
        return ""

    def _collection(self) -> str:
        return changed_collection(self.collection, self.ledger.state())

    def _progress(self) -> str:
        place, base = self.backfill.beginning, self.backfill.base
        held = self.ledger.read([place, *self._held])
        if held.get(place) != base:
            return f"another worker has begun with the backfill {self.backfill.topic!r} at the same time: {AGAIN}"
        return lacking(self.backfill, self._held, held)
