"""Which documents are to be looked at again: all but those that are beyond doubt as they should be. Pure.

Of millions nearly all are passed here, by arrays; what remains is judged one by one (judge.py), as it is by then.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.core.documents import EPOCH_SHIFT
from penstock.core.records import Partition
from penstock.operate.audit.expectation import DELETED, NEVER, Expectation
from penstock.operate.audit.holdings import DEAD, Holdings
from penstock.operate.audit.table import PARTS, Rows, groups

Flags = NDArray[np.bool_]

MOST_ORPHANS = 5
"""Orphans are believed while they are no more than one document in so many."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the comparison goes by.

    ``ends`` are the offsets up to which partitions were read; ``whole`` says that a document without a record has never
    had one, or has been deleted; ``first`` that no record was removed for its age. ``expired_s`` is the moment that
    what expired before it should have been purged. Partitions are ``unread`` of which a record names no document.
    ``too_many`` says that what looks like orphans is too much to be true.
    """

    epoch: int
    ends: Mapping[Partition, int]
    whole: bool
    first: bool
    by_offset: bool
    now_s: float
    expired_s: float
    unread: AbstractSet[Partition] = frozenset()
    too_many: bool = False


class Expected(NamedTuple):
    """Events of records that are done, of those that are to come, and of those that were given up."""

    done: Expectation
    coming: Expectation
    given_up: Expectation


@dataclass(slots=True)
class Suspects:
    """The keys of documents to look at again, and how many need none.

    ``documents`` are those that should be there, ``unjudged`` those that are there and of which the topic has nothing,
    ``earlier`` those among them of an earlier epoch; ``nothing`` are those of this one that may be orphans.
    """

    keys: list[bytes] = field(default_factory=list)
    documents: int = 0
    unjudged: int = 0
    earlier: int = 0
    nothing: int = 0

    def too_many(self, alive: int) -> bool:
        """Whether so many orphans among documents that readers find are rather a fault of the settings."""
        return self.nothing * MOST_ORPHANS > alive


def suspects(expected: Expected, held: Holdings, at: Situation) -> Suspects:
    """Of all documents that either side knows."""
    found = Suspects()
    for number in range(PARTS):
        done, coming, given_up = (one.table.part(number) for one in expected)
        there = held.table.part(number)
        if len(done) or len(there):
            _compare(found, (done, coming, given_up), there, at)
    return found


def _compare(found: Suspects, events: tuple[Rows, Rows, Rows], held: Rows, at: Situation) -> None:
    done, coming, given_up = events
    first = groups(held["key"])
    there = held[first]
    whole = _whole(held, there, first)
    dead = (there["flags"] & DEAD) > 0
    is_done, should = _match(there, done)
    is_coming, next_one = _match(there, coming)
    is_given_up, _ = _match(there, given_up)
    fine = is_done & _same(there, should, dead)
    fine |= is_done & dead & ((should["flags"] & DELETED) > 0)
    fine |= is_coming & _same(there, next_one, dead)
    fine |= (is_done & _buried(there, should, dead, at)) | (is_coming & _buried(there, next_one, dead, at))
    nothing = ~(is_done | is_coming | is_given_up)
    fine |= ~is_done & ~nothing
    last = np.append(first[1:], len(held))[: len(first)] - 1
    epoch = held["sequence"][last] >> EPOCH_SHIFT  # of its newest point
    earlier = nothing & ~dead & (epoch > 0) & (epoch < at.epoch)
    unjudged = nothing & ~dead & (earlier | (not at.whole))
    fine |= (nothing & dead) | unjudged
    found.unjudged += int(unjudged.sum())
    found.earlier += int(earlier.sum())
    found.nothing += int((nothing & ~dead & ~unjudged & (epoch == at.epoch)).sum())
    late = ~dead & (there["expires"] != NEVER) & (there["expires"] <= at.expired_s)
    found.keys += _padded(there["key"][~(fine & whole) | late])
    gone = (done["flags"] & DELETED > 0) | ((done["expires"] != NEVER) & (done["expires"] <= at.now_s))
    found.documents += int((~gone).sum())
    absent = ~_match(done, there)[0]
    found.keys += _padded(done["key"][absent & ~gone])


def _padded(keys: NDArray[np.bytes_]) -> list[bytes]:
    """NumPy takes zeros at the end of a string away."""
    return [key.ljust(16, b"\0") for key in keys.tolist()]


def _whole(held: Rows, there: Rows, first: NDArray[np.intp]) -> Flags:
    """Whether a document's points are all of one event, one anchor among them, and just those that it names."""
    alone = np.diff(np.append(first, len(held))) == 1
    whole: Flags = alone & (there["anchors"] == 1) & (there["missing"] == 0) & (there["digest"] == 0)
    return whole


def _match(rows: Rows, among: Rows) -> tuple[Flags, Rows]:
    """Whether each row's key is among others, which are sorted, and the row that it is; some row where it is not."""
    if not len(among):
        return np.zeros(len(rows), bool), np.zeros(len(rows), among.dtype)
    where = np.minimum(np.searchsorted(among["key"], rows["key"]), len(among) - 1)
    found = among[where]
    return found["key"] == rows["key"], found


def _same(there: Rows, event: Rows, dead: Flags) -> Flags:
    deleted = (event["flags"] & DELETED) > 0
    same: Flags = (there["version"] == event["version"]) & (there["sequence"] == event["sequence"]) & (dead == deleted)
    return same


def _buried(there: Rows, event: Rows, dead: Flags, at: Situation) -> Flags:
    """Whether a tombstone is there in place of a document that has expired, as purge leaves it."""
    expired = (event["expires"] != NEVER) & (event["expires"] <= at.now_s)
    buried: Flags = dead & expired & (there["version"] == event["version"]) & (there["sequence"] == event["sequence"])
    return buried
