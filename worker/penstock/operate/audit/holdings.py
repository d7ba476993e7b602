"""What the collection holds, document by document, in 60 bytes each. Pure.

The points of a document that are of one order and recipe are one row: nearly always that is all of them. An anchor says
how many chunks there are and what is in them, each chunk that is there says so, too; what is left of both differences
says whether all are there, and none is another.
"""

from collections.abc import Iterable

import numpy as np

from penstock.core.documents import DocumentKey
from penstock.core.inventory import Held
from penstock.operate.audit.expectation import NEVER, seconds
from penstock.operate.audit.table import Rows, Table, groups, key_of

DEAD = 1
FIELDS = [("version", "i8"), ("sequence", "i8"), ("recipe", "i4"), ("expires", "i8"), ("missing", "i4"),
          ("digest", "u8"), ("anchors", "u2"), ("flags", "u2")]  # fmt: skip
MASK = (1 << 64) - 1


class Holdings:
    """Of any number of points, which may come in any order."""

    def __init__(self) -> None:
        self.table = Table(FIELDS, _together)
        self.points = 0

    def add(self, points: Iterable[Held]) -> None:
        """Some more."""
        rows = [_row(point) for point in points]
        self.points += len(rows)
        self.table.add(rows)


def _row(point: Held) -> tuple[bytes, int, int, int, int, int, int, int, int]:
    key = key_of(DocumentKey(point.key.tenant, point.key.document))
    stored, chunk = point.stored, point.key.chunk
    anchor = chunk == 0
    expected = sum(map(_digest, range(len(stored.hashes)), stored.hashes)) if anchor else 0
    there = 0 if point.tombstone else _digest(chunk, stored.hash)
    missing = len(stored.hashes) * anchor - (not point.tombstone)
    expires = seconds(point.expires_at) if anchor else NEVER
    dead = DEAD * point.tombstone
    return (key, *stored.order, stored.recipe, expires, missing, (expected - there) & MASK, int(anchor), dead)


def _digest(chunk: int, text_hash: str) -> int:
    """Of a chunk's place and content; sums of them differ where chunks do. Python's own, of this process alone."""
    return hash((chunk, text_hash))


def _together(rows: Rows) -> Rows:
    rows = rows[np.lexsort((rows["recipe"], rows["sequence"], rows["version"], rows["key"]))]
    if not len(rows):
        return rows
    same = [groups(rows[name]) for name in ("key", "version", "sequence", "recipe")]
    first = np.unique(np.concatenate(same))
    found = rows[first]
    for name in ("missing", "digest", "anchors"):
        found[name] = np.add.reduceat(rows[name], first)
    found["expires"] = np.maximum.reduceat(rows["expires"], first)
    found["flags"] = np.bitwise_or.reduceat(rows["flags"], first)
    return found
