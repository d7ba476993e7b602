"""The decisions of indexing, as pure functions: which event counts, and what is to be done for it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b

from penstock.core.documents import Chunk, DocumentKey, Event, Op, Order, Point, Stored
from penstock.core.vectors import Vector


def text_hash(text: str) -> str:
    """Fingerprint of an embedded text: 128 bits of BLAKE2b, as 32 hex digits."""
    return blake2b(text.encode(), digest_size=16).hexdigest()


def settle(event: Event, known: Order | None) -> Event:
    """Gives a delete that came without a version the highest one known of its document."""
    if not event.unversioned or known is None or known.version <= event.order.version:
        return event
    return replace(event, order=Order(known.version, event.order.sequence))


def collapse(events: Iterable[Event], known: Mapping[DocumentKey, Order]) -> tuple[list[Event], list[Event]]:
    """The newest event of each document, and the others, which it supersedes.

    Newest by order, not by arrival; of equals (a record delivered twice) the first. ``known`` is the highest
    order that the store or the pipe holds per document.
    """
    newest: dict[DocumentKey, Event] = {}
    superseded: list[Event] = []
    for arrived in events:
        event = settle(arrived, known.get(arrived.key))
        best = newest.get(event.key)
        if best is None:
            newest[event.key] = event
            continue
        event, best = settle(event, best.order), settle(best, event.order)
        first, second = (event, best) if event.order > best.order else (best, event)
        newest[event.key] = first
        superseded.append(second)
    return list(newest.values()), superseded


class Step(StrEnum):
    """What an event asks of the rest of the path."""

    STALE = "stale"  # something newer is stored
    REPEATED = "repeated"  # this very event is stored
    DELETE = "delete"
    EMBED = "embed"


def decide(event: Event, anchor: Stored | None, recipe: int) -> Step:
    """What to do for a document's newest event, given its stored anchor."""
    if anchor is not None and not anchor.older(event.order, recipe):
        return Step.STALE if anchor.newer(event.order, recipe) else Step.REPEATED
    return Step.DELETE if event.op is Op.DELETE else Step.EMBED


def kept(chunks: Sequence[Chunk], anchor: Stored | None, recipe: int) -> frozenset[int]:
    """Indices of the chunks whose stored vector still stands: same place, same text, same recipe."""
    if anchor is None or anchor.deleted or anchor.recipe != recipe:
        return frozenset()
    pairs = zip(chunks, anchor.hashes, strict=False)
    return frozenset(i for i, (chunk, stored) in enumerate(pairs) if chunk.hash == stored)


@dataclass(frozen=True, slots=True)
class Write:
    """What the store is to hold of a document afterwards; no chunks means a tombstone.

    ``keep`` are the indices of chunks whose vectors are already there, ``vectors`` those of the others. ``known`` says
    whether anything was known of the document before.
    """

    event: Event
    recipe: int
    chunks: tuple[Chunk, ...] = ()
    keep: frozenset[int] = frozenset()
    vectors: Mapping[int, Vector] | None = None
    known: bool = True

    def point(self, index: int) -> Point:
        """The point of one chunk; index 0 is the anchor, which also holds the hashes of all."""
        hashes = tuple(chunk.hash for chunk in self.chunks) if index == 0 else ()
        if not self.chunks:
            return Point(self.event, 0, self.recipe)
        vector = self.vectors.get(index) if self.vectors else None
        return Point(self.event, index, self.recipe, hashes, self.chunks[index], vector)

    @property
    def points(self) -> list[Point]:
        """Of all chunks, or the tombstone."""
        return [self.point(index) for index in range(len(self.chunks) or 1)]

    @property
    def missing(self) -> tuple[int, ...]:
        """Indices of the chunks that need a vector and have none yet."""
        have = self.vectors or {}
        return tuple(i for i in range(len(self.chunks)) if i not in self.keep and i not in have)
