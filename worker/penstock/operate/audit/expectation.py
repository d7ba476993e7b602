"""What the topic's records ask for, document by document, in 62 bytes each. Pure.

Of a document the newest event is kept: by order, as a worker finds it that reads them one after the other. Where events
carry versions, a delete without one counts as the highest version that came before it.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.core.documents import Event, Op, Order
from penstock.core.records import Partition
from penstock.operate.audit.table import Rows, Table, groups, key_of

DELETED, UNVERSIONED = 1, 2
NEVER = 0
FIELDS = [("version", "i8"), ("sequence", "i8"), ("offset", "i8"), ("expires", "i8"), ("tomb", "i8"), ("at", "u4"),
          ("flags", "u2")]  # fmt: skip


def seconds(moment: str | None) -> int:
    """Since 1970, rounded up, so that nothing counts as expired too early; 0 for never."""
    return NEVER if not moment else -int(-datetime.fromisoformat(moment).timestamp() // 1)


class Newest(NamedTuple):
    """The newest event of a document: where its record lies, and what it says.

    ``tomb`` is the sequence of the latest delete without a version, -1 where there was none; ``expires`` in seconds
    since 1970, 0 for never.
    """

    order: Order
    place: tuple[Partition, int]
    deleted: bool
    expires: int = NEVER
    unversioned: bool = False
    tomb: int = -1

    def gone(self, now_s: float) -> bool:
        """Whether a store need not show it: deleted, or expired, so that it may have been purged."""
        return self.deleted or NEVER < self.expires <= now_s


class Expectation:
    """Of any number of documents, by their newest events among those that were added.

    Events of a document are added in the order in which workers read them.
    """

    def __init__(self) -> None:
        self.table = Table(FIELDS, newest)
        self.partitions: list[Partition] = []
        self._numbers: dict[Partition, int] = {}

    def add(self, events: Iterable[Event]) -> None:
        """Some more."""
        self.table.add(map(self._row, events))

    def find(self, key: bytes) -> Newest | None:
        """The newest event of the document with that key."""
        rows = self.table.find(key)
        if not len(rows):
            return None
        row = rows[0]
        flags = int(row["flags"])
        place = self.partitions[int(row["at"])], int(row["offset"])
        order = Order(int(row["version"]), int(row["sequence"]))
        unversioned, tomb = bool(flags & UNVERSIONED), int(row["tomb"])
        return Newest(order, place, bool(flags & DELETED), int(row["expires"]), unversioned, tomb)

    def number(self, partition: Partition) -> int:
        """By which rows name a partition."""
        if partition not in self._numbers:
            self._numbers[partition] = len(self.partitions)
            self.partitions.append(partition)
        return self._numbers[partition]

    def _row(self, event: Event) -> tuple[bytes, int, int, int, int, int, int, int]:
        deleted = event.op is Op.DELETE
        flags = deleted * DELETED | event.unversioned * UNVERSIONED
        tomb = event.order.sequence if event.unversioned else -1
        at = self.number(event.record.partition)
        return (key_of(event.key), *event.order, event.record.offset, seconds(event.expires_at), tomb, at, flags)


def newest(rows: Rows) -> Rows:
    """Of rows in the order in which they came, the newest of each document, sorted."""
    rows = rows[np.argsort(rows["key"], kind="stable")]
    first = groups(rows["key"])
    group = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(rows))))
    if (rows["flags"] & UNVERSIONED).any():
        _settle(rows, group)
    order = np.lexsort((rows["sequence"], rows["version"], group))
    last = np.append(first[1:], len(rows)) - 1
    found: Rows = rows[order[last]]
    found["tomb"] = np.maximum.reduceat(rows["tomb"], first)
    return found


def _settle(rows: Rows, group: NDArray[np.intp]) -> None:
    """Deletes without a version get the highest one of their document so far, by ranks that leave room for groups."""
    versions, ranks = np.unique(rows["version"], return_inverse=True)
    highest = np.maximum.accumulate(group.astype(np.int64) << 32 | ranks)
    settled = versions[highest & 0xFFFFFFFF]
    rows["version"] = np.where(rows["flags"] & UNVERSIONED, settled, rows["version"])


def following(before: Newest | None, after: Newest | None) -> Newest | None:
    """The newest of two runs of events of a document, of which one came after the other."""
    if before is None or after is None:
        return after if before is None else before
    tomb = max(before.tomb, after.tomb)
    best = max(before, after, key=lambda one: one.order)
    if before.order.version >= after.order.version and after.tomb > best.order.sequence:
        order = Order(before.order.version, after.tomb)
        return after._replace(order=order, deleted=True, expires=NEVER, unversioned=True, tomb=tomb)
    return best._replace(tomb=tomb)


def newest_of(events: Sequence[Event]) -> Newest | None:
    """As of an expectation that holds nothing else."""
    expectation = Expectation()
    expectation.add(events)
    return expectation.find(key_of(events[0].key)) if events else None
