"""Whether this is still the stream, and still the store, that the worker joined.

Asked at the start, before a batch is written, before its offsets are committed, and every few seconds while nothing
comes. A no ends the worker before a record of another stream is written or an offset moves: what it says is what to do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from typing_extensions import override

from penstock.core.documents import epoch_base
from penstock.core.errors import Misconfigured, OwnershipLost, Stopped
from penstock.core.identity import CollectionState, Origin, TopicIdentity
from penstock.core.ports import Ledger, Membership, Upstream
from penstock.core.records import Batch, Partition
from penstock.stream.doubts import (
    REREAD,
    OnGap,
    changed_collection,
    changed_topic,
    lost_progress,
    lost_records,
    unfit_origin,
)

CONFIRM_S = 1.0
"""A no is asked for twice: a broker or a node that has just come up may not know yet what the others know."""


def confirmed(doubt: Callable[[], str], wait: Callable[[float], bool]) -> None:
    """Raises Misconfigured with what is wrong, if it still is after a moment.

    ``wait`` waits so many seconds, and says whether the worker was told to stop.
    """
    if not doubt():
        return
    if wait(CONFIRM_S):
        raise Stopped
    if reason := doubt():
        raise Misconfigured(reason)


@dataclass(frozen=True, slots=True)
class OfFile(Membership):
    """For a file: it has no offsets that outlive a run, but the collection may go."""

    ledger: Ledger
    collection: CollectionState
    wait: Callable[[float], bool]

    @override
    def verify(self, batch: Batch) -> None:
        self.verify_collection()

    @override
    def verify_collection(self) -> None:
        confirmed(lambda: changed_collection(self.collection, self.ledger.state()), self.wait)

    @override
    def advance(self, batch: Batch) -> None:
        self.verify_collection()


@dataclass(frozen=True, slots=True)
class OfQueries(Membership):
    """For a topic of queries: it may grow, but what was committed says nothing of another one of the same name."""

    upstream: Upstream
    topic: str
    joined: TopicIdentity
    wait: Callable[[float], bool]

    @override
    def verify(self, batch: Batch) -> None:
        confirmed(self._doubt, self.wait)

    @override
    def verify_collection(self) -> None:
        """Readers follow the alias, see ``assembly/alias.py``."""

    @override
    def advance(self, batch: Batch) -> None:
        self.verify(batch)

    def _doubt(self) -> str:
        now = self.upstream.identity()
        if now is None:
            return f"topic {self.topic!r} is gone: make it anew, or correct PENSTOCK_QUERY__TOPIC"
        return "" if now.id == self.joined.id else f"topic {self.topic!r} was deleted and made anew: start again"


@dataclass(slots=True)
class OfTopic(Membership):
    """For a topic: what a worker found when it joined. ``wait`` as in ``confirmed``."""

    upstream: Upstream
    ledger: Ledger
    origin: Origin
    collection: CollectionState
    on_gap: OnGap
    wait: Callable[[float], bool]
    _held: dict[Partition, int] = field(default_factory=dict)
    _generations: dict[Partition, int] = field(default_factory=dict)

    @override
    def verify(self, batch: Batch) -> None:
        """Topic, collection, progress, and the way to the batch's first record."""
        confirmed(lambda: self._stream() or self._store() or self._progress(batch), self.wait)
        if reason := lost_records(batch.gaps, self.on_gap):
            raise Misconfigured(reason)

    @override
    def verify_collection(self) -> None:
        confirmed(self._store, self.wait)

    @override
    def advance(self, batch: Batch) -> None:
        """Topic and collection once more; then the collection remembers how far it holds the stream."""
        confirmed(lambda: self._stream() or self._store(), self.wait)
        if sequences := self._sequences({owned: at.offset for owned, at in batch.positions.items()}):
            self.ledger.advance(sequences)
            self._held |= {owned: max(sequence, self._held.get(owned, 0)) for owned, sequence in sequences.items()}

    def _stream(self) -> str:
        return changed_topic(self.origin, self.upstream.identity())

    def _store(self) -> str:
        now = self.ledger.state()
        if now is None or (reason := changed_collection(self.collection, now)):
            return changed_collection(self.collection, now)
        if now.origin is None:
            return f"collection {now.name} follows no stream any more; {REREAD}"
        reason = unfit_origin(now.origin, self.origin)
        if now.origin.epoch > self.origin.epoch:
            raise OwnershipLost(reason)
        return reason

    def _progress(self, batch: Batch) -> str:
        """What was committed is asked for first: a worker writes its progress before it commits."""
        fresh = [owned for owned, at in batch.positions.items() if self._generations.get(owned) != at.generation]
        expected = dict(self._held)
        if fresh:
            committed = self._sequences(self.upstream.committed())
            expected |= {
                owned: max(committed[owned], self._held.get(owned, 0)) for owned in fresh if owned in committed
            }
        held = self.ledger.read(expected) if expected else {}
        reason = lost_progress(expected, held, self.origin.epoch, whose="what was committed or written before is")
        if not reason:
            self._held = {owned: held.get(owned, sequence) for owned, sequence in expected.items()}
            self._generations |= {owned: batch.positions[owned].generation for owned in fresh}
        return reason

    def _sequences(self, offsets: Mapping[Partition, int]) -> dict[Partition, int]:
        return {owned: epoch_base(self.origin.epoch) + offset for owned, offset in offsets.items()}


def join(upstream: Upstream, ledger: Ledger, origin: Origin) -> CollectionState:
    """At the start, when the collection is there: raises Misconfigured where it and the stream do not fit."""
    collection = fitting(ledger, origin)
    base = epoch_base(origin.epoch)
    committed = {owned: base + offset for owned, offset in upstream.committed().items()}
    held = ledger.read(committed) if committed else {}
    if committed and collection.origin is not None and collection.origin.epoch < origin.epoch:
        raise Misconfigured(
            f"PENSTOCK_INDEX__EPOCH is {origin.epoch}, the collection follows epoch {collection.origin.epoch}, and so "
            f"do the offsets of the group: stop all its workers, which a rolling update does not. Then {REREAD}"
        )
    if not collection.birth and not held and collection.origin == origin:
        ledger.advance(committed)  # a collection of before there were progress points
        held = committed
    if reason := lost_progress(committed, held, origin.epoch, whose="the group has committed"):
        raise Misconfigured(reason)
    if collection.origin != origin:
        ledger.follow(origin)
    return collection


def begin_again(ledger: Ledger, origin: Origin, starts: Mapping[Partition, int]) -> None:
    """The group reads the stream again from these offsets; what the collection holds beyond them it may keep."""
    ledger.follow(origin)
    ledger.advance({owned: epoch_base(origin.epoch) + offset for owned, offset in starts.items()})


def fitting(ledger: Ledger, origin: Origin) -> CollectionState:
    """The collection; raises Misconfigured where it follows another stream."""
    collection = opened(ledger)
    if reason := unfit_origin(collection.origin, origin):
        raise Misconfigured(reason)
    return collection


def opened(ledger: Ledger) -> CollectionState:
    """The collection that was there a moment ago; raises Misconfigured where it is not."""
    if (state := ledger.state()) is None:
        raise Misconfigured("the collection went while it was opened: start again")
    return state
