"""What a collection holds, point by point, for whoever looks after it: purge, erasure and audit."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from penstock.core.documents import ChunkKey, Stored


class Kind(StrEnum):
    """Why a point is purged."""

    EXPIRED = "expired"
    TOMBSTONE = "tombstone"
    LEFT_OVER = "left_over"
    ORPHAN = "orphan"


class Held(NamedTuple):
    """A point as it was found. ``source`` is topic/partition/offset of its event; times are RFC 3339, or empty."""

    key: ChunkKey
    stored: Stored
    indexed_at: str = ""
    expires_at: str = ""
    source: str = ""

    @property
    def tombstone(self) -> bool:
        """Whether it says of a document that it is deleted."""
        return self.key.chunk == 0 and self.stored.deleted


@dataclass(frozen=True, slots=True)
class Sought:
    """Which points: all, unless something is said.

    Of a ``tenant``, and of that only of these ``documents``; only ``tombstones``; only those that are no ``anchors``;
    only those whose ``expires_at`` is at or before ``expired``.
    """

    tenant: str | None = None
    tombstones: bool = False
    expired: datetime | None = None
    documents: tuple[str, ...] = ()
    anchors: bool = True
