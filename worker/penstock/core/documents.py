"""Documents: their keys and order, the events that change them, and the chunks and points they become."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from penstock.core.bodies import Heading
from penstock.core.records import Record
from penstock.core.vectors import Vector

TENANT = re.compile(r"[A-Za-z0-9._-]{1,128}")

LARGEST_INTEGER = 2**53 - 1
"""Qdrant compares numbers as doubles: larger ones would no longer be told apart."""

LARGEST_EPOCH = 31
EPOCH_SHIFT = 48


class Order(NamedTuple):
    """The place of an event among all events of its document; compared in this order. Each is 0 … 2^53 - 1."""

    version: int
    sequence: int


def epoch_base(epoch: int) -> int:
    """First sequence of a topic's epoch (1 … 31)."""
    if not 1 <= epoch <= LARGEST_EPOCH:
        raise ValueError(f"an epoch is 1 … {LARGEST_EPOCH}, not {epoch}")
    return epoch << EPOCH_SHIFT


class DocumentKey(NamedTuple):
    """Identity of a document. ``tenant`` is empty where there are no tenants."""

    tenant: str
    document: str


class ChunkKey(NamedTuple):
    """Identity of a chunk, hence of a point. Chunk 0 is its document's anchor."""

    tenant: str
    document: str
    chunk: int


def titled(title: str, text: str) -> str:
    """A text with its title before it, as it is searched by words and reranked."""
    return f"{title}\n{text}" if title else text


class Op(StrEnum):
    """What an event asks for."""

    UPSERT = "upsert"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Event:
    """A decoded record.

    ``unversioned`` marks a delete that came without a version where versions decide: it counts as the
    highest version known of its document, which only the store can tell. ``timestamp`` and ``expires_at``
    are RFC 3339 strings in UTC. ``unknown`` names the body's fields that nobody reads, ``through`` the
    frame and the envelope that it lay in. ``headings`` are where the text has some.
    """

    record: Record
    key: DocumentKey
    order: Order
    op: Op
    title: str = ""
    text: str = ""
    language: str | None = None
    timestamp: str | None = None
    expires_at: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    unversioned: bool = False
    unknown: tuple[str, ...] = ()
    through: tuple[str, ...] = ()
    headings: tuple[Heading, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document's text: ``text`` is the original's characters ``start`` … ``end``.

    ``hash`` is that of the exact text embedded (prompt, title and all). ``tokens`` are its ids, special ones
    included; empty while the chunk is kept and nobody needs them. ``path`` are the headings above it.
    """

    text: str
    start: int
    end: int
    hash: str
    tokens: tuple[int, ...] = ()
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store remembers of a point, as far as writing needs it. ``hashes`` only on an anchor.

    ``recipe`` is the number of the rules by which the document was cut; rules that came later have a higher one.
    """

    order: Order
    recipe: int
    hash: str = ""
    hashes: tuple[str, ...] = ()
    deleted: bool = False

    def older(self, order: Order, recipe: int) -> bool:
        """Whether this gives way to a point of that order and recipe. Every guard in the store is this rule."""
        return (self.order, self.recipe) < (order, recipe)

    def same(self, order: Order, recipe: int) -> bool:
        """Whether this was written for the same event by the same rules."""
        return (self.order, self.recipe) == (order, recipe)

    def newer(self, order: Order, recipe: int) -> bool:
        """Whether a point of that order and recipe gives way to this."""
        return (self.order, self.recipe) > (order, recipe)


@dataclass(frozen=True, slots=True)
class Point:
    """A chunk on its way into the store. A deleted anchor (a tombstone) has no vector and no chunk."""

    event: Event
    index: int
    recipe: int
    hashes: tuple[str, ...] = ()
    chunk: Chunk | None = None
    vector: Vector | None = None

    @property
    def key(self) -> ChunkKey:
        """The point's identity."""
        return ChunkKey(*self.event.key, self.index)
