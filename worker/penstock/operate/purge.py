"""What a collection holds that nobody needs any more, removed beside workers that go on writing.

Everything goes only in the form in which it was found, so whatever is written meanwhile stays, and a round that was
broken off, or that runs in several places at once, is simply run again.

- **Expired** documents become tombstones of the same order, at once: their text is gone, and an older event that comes
  late finds something newer, as after a delete. Were they removed, it would be indexed.
- **Tombstones** go when nothing older can be delivered any more, the chunks of their documents first: what was left
  behind would be newer than a document that begins anew, and keep its chunks out.
- **Left over** is what is older than its anchor, or not newer than a tombstone: no reader sees it, no writer keeps it.
- **Orphans** are chunks without an anchor. An anchor is written last, so they may belong to a document that is being
  written. Their age does not tell: a batch waits for as long as the store is away, and one that is delivered again
  finds its own chunks and leaves them as old as they are. So only those go whose record lies before where the
  collection says that everything is written, as long as their anchor is missing when it is looked for after that.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Protocol

from penstock.core.documents import EPOCH_SHIFT, ChunkKey, Stored
from penstock.core.errors import Stopped
from penstock.core.inventory import Held, Kind, Sought
from penstock.core.ports import Inventory
from penstock.core.records import Partition

LOOKED_AT, PORTION = 1000, 250
"""Points that are looked at together, and that are removed at once, at most."""

LOOKED_PER_REMOVED = 20
"""A point that is looked at costs the store so much less than one that is removed."""

Step = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""A part of the work, of about so many points; what it yields hears of how many are done."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Tombstones that are older go, none where it is None; orphans that are older may. ``now`` says what is expired."""

    now: datetime
    tombstones: datetime | None
    orphans: datetime


class Anchors(Protocol):
    """The part of ``ports.VectorStore`` that is needed."""

    def read(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
        """As there."""


class HeldSoFar(Protocol):
    """The part of ``ports.Ledger`` that is needed."""

    def read(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """As there."""


@dataclass(frozen=True, slots=True)
class Purge:
    """One round over a collection. ``follows`` says of a topic whether workers write this collection from it.

    ``spend`` waits until so many points may be removed, ``look`` until so many may be looked at; both may raise
    Stopped. ``portion`` are removed at once; ``removed`` is what has gone so far, or with ``dry_run`` what would.
    """

    inventory: Inventory
    anchors: Anchors
    ledger: HeldSoFar
    limits: Limits
    follows: Callable[[str], bool]
    spend: Callable[[int], None] = lambda _: None
    look: Callable[[int], None] = lambda _: None
    portion: int = PORTION
    dry_run: bool = False
    removed: Counter[Kind] = field(default_factory=Counter)

    def run(self, step: Step) -> None:
        """Everything, once."""
        for part in (self.bury_expired, self.end_tombstones, self.sort_chunks):
            part(step)

    def bury_expired(self, step: Step) -> None:
        """Documents whose time is over."""
        expired = Sought(expired=self.limits.now)
        with step("expired documents", self.inventory.count(expired)) as advance:
            for some in self._scan(expired, advance):
                anchors, chunks = (_part(some, anchors=which) for which in (True, False))
                self._take(Kind.EXPIRED, anchors, self.inventory.bury)
                self._take(Kind.EXPIRED, chunks, self.inventory.remove)

    def end_tombstones(self, step: Step) -> None:
        """Those that are old enough, if any may go."""
        if (limit := self.limits.tombstones) is None:
            return
        tombstones = Sought(tombstones=True)
        with step("tombstones", self.inventory.count(tombstones)) as advance:
            for some in self._scan(tombstones, advance):
                self._end([held for held in some if held.tombstone and before(held, limit)])

    def sort_chunks(self, step: Step) -> None:
        """What is left over, and what has no anchor."""
        chunks = Sought(anchors=False)
        with step("left-over chunks", self.inventory.count(chunks)) as advance:
            for some in self._scan(chunks, advance):
                self._sort_out(some)

    def _end(self, tombstones: Sequence[Held]) -> None:
        """Chunks first, then the tombstones themselves."""
        by_tenant: dict[str, list[Held]] = {}
        for held in tombstones:
            by_tenant.setdefault(held.key.tenant, []).append(held)
        for tenant, theirs in by_tenant.items():
            ends = {held.key: held.stored for held in theirs}
            documents = tuple(held.key.document for held in theirs)
            for some in portions(self.inventory.scan(Sought(tenant, documents=documents, anchors=False)), LOOKED_AT):
                doomed = [held for held in some if left_over(held, ends[anchor_of(held)])]
                if not self.dry_run:  # else they are counted where left-over chunks are looked for
                    self._take(Kind.LEFT_OVER, doomed, self.inventory.remove)
            self._take(Kind.TOMBSTONE, theirs, self.inventory.remove)

    def _sort_out(self, chunks: Sequence[Held]) -> None:
        chunks = [held for held in chunks if not expired(held, self.limits.now)]
        anchors = self._read(chunks)
        alone = [held for held in chunks if anchor_of(held) not in anchors and before(held, self.limits.orphans)]
        doomed = [held for held in chunks if (at := anchors.get(anchor_of(held))) is not None and left_over(held, at)]
        self._take(Kind.LEFT_OVER, doomed, self.inventory.remove)
        if not alone:
            return
        done = self.ledger.read([place for held in alone if (place := placed(held)) is not None])
        ended = [held for held in alone if written_out(held, done, self.follows)]
        anchors = self._read(ended)  # after the ledger: what is written out now had its anchor by then
        self._take(Kind.ORPHAN, [held for held in ended if anchor_of(held) not in anchors], self.inventory.remove)

    def _read(self, chunks: Iterable[Held]) -> dict[ChunkKey, Stored]:
        keys = list(dict.fromkeys(map(anchor_of, chunks)))
        return self.anchors.read(keys) if keys else {}

    def _take(self, kind: Kind, found: Sequence[Held], remove: Callable[[Sequence[Held]], None]) -> None:
        for some in portions(found, self.portion):
            if not self.dry_run:
                self.spend(len(some))
                remove(some)
            self.removed[kind] += len(some)

    def _scan(self, sought: Sought, advance: Callable[[int], None]) -> Iterator[list[Held]]:
        for some in portions(self.inventory.scan(sought), LOOKED_AT):
            self.look(len(some))
            yield some
            advance(len(some))


def portions(found: Iterable[Held], size: int) -> Iterator[list[Held]]:
    """In lists of at most so many."""
    left = iter(found)
    while some := list(islice(left, size)):
        yield some


def anchor_of(held: Held) -> ChunkKey:
    """The first chunk of its document."""
    return held.key._replace(chunk=0)


def _part(found: Iterable[Held], *, anchors: bool) -> list[Held]:
    return [held for held in found if (held.key.chunk == 0) is anchors]


def left_over(held: Held, anchor: Stored) -> bool:
    """Whether a chunk is of an event before its anchor's, or of none after a delete."""
    order, recipe = anchor.order, anchor.recipe
    return held.stored.older(order, recipe) or (anchor.deleted and not held.stored.newer(order, recipe))


def expired(held: Held, now: datetime) -> bool:
    """Whether its time is over."""
    return bool(held.expires_at) and datetime.fromisoformat(held.expires_at) <= now


def before(held: Held, moment: datetime) -> bool:
    """Whether it was written before that; no, where nothing says when."""
    return bool(held.indexed_at) and datetime.fromisoformat(held.indexed_at) < moment


def placed(held: Held) -> Partition | None:
    """The partition of its event; None where nothing says which."""
    parts = held.source.rsplit("/", 2)
    return Partition(parts[0], int(parts[1])) if len(parts) == 3 else None  # noqa: PLR2004  # as they are joined


def written_out(held: Held, done: Mapping[Partition, int], follows: Callable[[str], bool]) -> bool:
    """Whether the batch of its event was written to its end, as far as ``done`` says, which are sequences.

    Nothing is said of files, which are not read again in the same order: there age alone decides.
    """
    if (partition := placed(held)) is None:
        return False
    if partition not in done:
        return not follows(partition.topic)
    own, offset = held.stored.order.sequence, int(held.source.rpartition("/")[2])
    # a letter that was sent back keeps its first sequence, one of a backfill counts from another base
    return max(own, (own >> EPOCH_SHIFT << EPOCH_SHIFT) + offset) < done[partition]


@contextmanager
def untold(_name: str, _total: int) -> Iterator[Callable[[int], None]]:
    """A ``Step`` of which nobody hears."""
    yield lambda _: None


class Allowance:
    """So many a second, waited for."""

    def __init__(self, per_s: float, wait: Callable[[float], bool], clock: Callable[[], float]) -> None:
        """``wait`` waits so many seconds, and says whether to stop; ``clock`` in seconds."""
        self._per_s, self._wait, self._clock = per_s, wait, clock
        self._from_s = clock()

    def __call__(self, count: int) -> None:
        """Returns when they may go; raises Stopped."""
        now_s = self._clock()
        if self._wait(max(0.0, self._from_s - now_s)):
            raise Stopped
        self._from_s = max(self._from_s, now_s) + count / self._per_s
