"""Plain values that pass between the parts of Penstock."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from worker.filters import Filter

Vector = npt.NDArray[np.float32]
Headers = tuple[tuple[str, bytes | None], ...]


class Partition(NamedTuple):
    """A Kafka partition, or the one partition of a file (number 0, the file's name as topic)."""

    topic: str
    number: int


class Position(NamedTuple):
    """Where to go on in a partition, and under which assignment of it this was read.

    ``offset`` is the next one to read, so it is what is committed. ``generation`` counts the assignments
    of the partition to this consumer; a position of an earlier one must not be committed any more.
    """

    offset: int
    generation: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it was read, bytes untouched.

    ``damage`` says why this is not a record but the bytes of a batch that could not be decoded. ``timestamp_ms`` is
    the topic's: when the record was produced, in milliseconds since 1970.
    """

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    damage: str = ""
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in offset order per partition, and the positions that may be committed once all are done."""

    records: tuple[Record, ...]
    positions: Mapping[Partition, Position]


class Order(NamedTuple):
    """The place of an event among all events of its document; compared in this order. Each is 0 … 2^53 - 1."""

    version: int
    sequence: int


class DocumentKey(NamedTuple):
    """Identity of a document. ``tenant`` is empty where there are no tenants."""

    tenant: str
    document: str


class ChunkKey(NamedTuple):
    """Identity of a chunk, hence of a point. Chunk 0 is its document's anchor."""

    tenant: str
    document: str
    chunk: int


class Op(StrEnum):
    """What an event asks for."""

    UPSERT = "upsert"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Event:
    """A decoded record.

    ``unversioned`` marks a delete that came without a version where versions decide: it counts as the
    highest version known of its document, which only the store can tell. ``timestamp`` and ``expires_at``
    are RFC 3339 strings in UTC.
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


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document's text: ``text`` is the original's characters ``start`` … ``end``.

    ``hash`` is that of the exact text embedded (prompt, title and all). ``tokens`` are its ids, special ones
    included; empty while the chunk is kept and nobody needs them.
    """

    text: str
    start: int
    end: int
    hash: str
    tokens: tuple[int, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Lookup:
    """What is asked of a store: the ``limit`` points nearest to a vector that one tenant may see at that moment."""

    vector: Vector
    tenant: str
    limit: int
    now: datetime
    filter: Filter | None = None


class Hit(NamedTuple):
    """A chunk that was found, with its similarity to the query (cosine: -1 … 1)."""

    key: ChunkKey
    score: float
    stored: Stored
    text: str
    title: str
    metadata: Mapping[str, Any]


def owned(hits: Iterable[Hit], anchors: Mapping[ChunkKey, Stored]) -> list[Hit]:
    """The hits that belong to their document as it is now: its anchor lives, and they are not older than it."""
    kept = []
    for hit in hits:
        anchor = anchors.get(ChunkKey(hit.key.tenant, hit.key.document, 0))
        if anchor is not None and not anchor.deleted and not hit.stored.older(anchor.order, anchor.recipe):
            kept.append(hit)
    return kept


class Place(NamedTuple):
    """A record's coordinates."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Query:
    """A search. ``candidates`` is how many chunks the reranker sees, ``top_k`` how many documents are wanted.

    ``rerank`` None means as far as there is a reranker. ``after`` must be searchable first.
    """

    id: str
    tenant: str
    text: str
    top_k: int
    candidates: int
    timeout_s: float
    instruction: str | None = None
    rerank: bool | None = None
    filter: Filter | None = None
    after: Place | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A record to be sent."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers = ()


class Outcome(StrEnum):
    """What became of a record. Every record has exactly one."""

    INDEXED = "indexed"
    UNCHANGED = "unchanged"
    SUPERSEDED = "superseded"
    DELETED = "deleted"
    ANSWERED = "answered"
    TOO_LATE = "too_late"
    DEAD_LETTERED = "dead_lettered"


OF_QUERIES = (Outcome.ANSWERED, Outcome.TOO_LATE, Outcome.DEAD_LETTERED)
OF_DOCUMENTS = tuple(outcome for outcome in Outcome if outcome not in OF_QUERIES[:2])


@dataclass(frozen=True, slots=True)
class Letter:
    """A record that was given up, why, and in which stage of the data path."""

    record: Record
    error: Exception
    stage: str


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What decides the meaning of a vector. Collections of different identities must never mix."""

    source: str
    revision: str
    pooling: str
    end_of_text: str
    document_prompt: str
    dimension: int

    @property
    def digest(self) -> str:
        """Short fingerprint, part of the collection's name."""
        return blake2b(json.dumps(asdict(self), sort_keys=True).encode(), digest_size=4).hexdigest()


@dataclass(frozen=True, slots=True)
class Origin:
    """The stream whose offsets order a collection's events."""

    topic: str
    topic_id: str
    partitions: int
    epoch: int
