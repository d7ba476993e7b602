"""A document as a collection holds it, put together of its chunks again."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from penstock.core.documents import DocumentKey, Order

NOTHING: Mapping[str, Any] = {}


class Piece(NamedTuple):
    """A stored chunk: its text, where it begins in the document's, and the headings above it."""

    text: str
    start: int
    path: tuple[str, ...] = ()


class Whole(NamedTuple):
    """A document as a collection holds it. ``source`` is topic/partition/offset of its event; no pieces: deleted."""

    key: DocumentKey
    order: Order
    source: str
    pieces: Sequence[Piece] = ()
    title: str = ""
    language: str | None = None
    timestamp: str | None = None
    expires_at: str | None = None
    metadata: Mapping[str, Any] = NOTHING
