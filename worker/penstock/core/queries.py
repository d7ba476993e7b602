"""Searches: what is asked of a store, what it finds, and what is answered."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from penstock.core.documents import ChunkKey, Stored
from penstock.core.filters import Filter
from penstock.core.records import Place
from penstock.core.vectors import Vector


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
    """The hits that belong to their document as it is now: its anchor lives, and they are of the same event.

    An older one was left behind, a newer one belongs to a version that is being written, or was given up half-way. One
    that a newer recipe cut of the same event counts: its writer may have gone before it came to the anchor.
    """
    kept = []
    for hit in hits:
        anchor = anchors.get(ChunkKey(hit.key.tenant, hit.key.document, 0))
        if anchor is None or anchor.deleted or hit.stored.order != anchor.order:
            continue
        if hit.stored.recipe >= anchor.recipe:
            kept.append(hit)
    return kept


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document's best chunk. ``score`` is what the order is by: with a reranker 0 … 1, else the retrieval score.

    ``rerank_score`` is the reranker's probability alone, None without one.
    """

    hit: Hit
    score: float
    retrieval_rank: int
    rerank_score: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Documents, the best first; ``not_reranked`` says why they are in the order of their retrieval, if they are."""

    query: Query
    documents: list[Ranked]
    not_reranked: str
    timings_ms: Mapping[str, float]
