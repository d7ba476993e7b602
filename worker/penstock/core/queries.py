"""Searches: what is asked of a store, what it finds, and what is answered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from penstock.core.documents import ChunkKey, Stored
from penstock.core.filters import Filter
from penstock.core.records import Place
from penstock.core.vectors import Vector


class Mode(StrEnum):
    """What candidates are found by: vectors, words, or both."""

    DENSE = "dense"
    SPARSE = "sparse"
    HYBRID = "hybrid"


NO_TIME = "the deadline was near"
"""Why candidates are not reranked."""


@dataclass(frozen=True, slots=True)
class Boost:
    """What is new comes first: the moment in ``field`` (timestamp, or a path into the metadata) lifts a chunk's score.

    By up to ``weight`` deviations of the candidates' scores; by half of that after ``half_life_days``.
    """

    field: str
    half_life_days: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Threshold:
    """The least that a hit must have; one that was not judged has no rerank score, and does not pass it."""

    rerank_score: float | None = None
    retrieval_score: float | None = None

    def passes(self, one: "Ranked") -> bool:
        """Whether it has that much of both."""
        if self.rerank_score is not None and (one.rerank_score is None or one.rerank_score < self.rerank_score):
            return False
        return self.retrieval_score is None or one.hit.score >= self.retrieval_score


@dataclass(frozen=True, slots=True)
class Shaping:
    """What an order goes by beside relevance. ``diversity`` from 0 to 1 is how much hits shall be unlike each other."""

    boost: Boost | None = None
    diversity: float = 0.0
    chunks_per_document: int = 1
    threshold: Threshold | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A search. ``candidates`` is how many chunks the reranker sees, ``top_k`` how many documents are wanted.

    ``rerank`` None means as far as there is a reranker. ``after`` must be searchable first. ``mode`` None means as this
    worker usually does, as far as the collection has terms. ``offset`` is how many documents of the order come before
    those that are wanted, None where nobody pages. Pages are cut from one order: ``fetched`` is how many chunks are in
    it then, however deep the page; those behind the candidates are not reranked. ``include`` None is all fields.
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
    mode: Mode | None = None
    shaping: Shaping = Shaping()
    offset: int | None = None
    fetched: int = 0
    highlight: bool = False
    include: frozenset[str] | None = None

    @property
    def depth(self) -> int:
        """How many documents of the order are looked at."""
        return (self.offset or 0) + self.top_k


@dataclass(frozen=True, slots=True)
class Lookup:
    """What is asked of a store: of the points that one tenant may see at that moment, the ``limit`` best.

    Those nearest to the vector, those with the words of the text, or so many of each where both are given. Hits have
    their own vectors only ``with_vectors``.
    """

    vector: Vector | None
    tenant: str
    limit: int
    now: datetime
    filter: Filter | None = None
    text: str = ""
    with_vectors: bool = False


FacetCounts = dict[str | int | bool, int]
"""Of the values of a field: how many documents have each, most first."""


class Side(NamedTuple):
    """What one way of searching says of a chunk; ``rank``, from 1, where it is among those that this way found."""

    score: float
    rank: int | None = None


class Hit(NamedTuple):
    """A chunk that was found.

    ``dense`` has its similarity to the query (cosine: -1 … 1), ``sparse`` its share of what the query's words could
    reach (0 … 1, see ``terms``); None where that was not asked, or not found by words at all. ``verbatim`` is the share
    that it has of what the query asks for as it is written. ``score`` is what the
    order is by: that of the only side, and of both what ``ranking.fused`` makes of them. ``place`` is where it lies in
    its document's text, as (start, end) in code points; ``headings`` are those above it there, the highest first.
    """

    key: ChunkKey
    score: float
    stored: Stored
    text: str
    title: str
    metadata: Mapping[str, Any]
    dense: Side | None = None
    sparse: Side | None = None
    timestamp: str | None = None
    vector: Vector | None = None
    verbatim: float = 0.0
    place: tuple[int, int] = (0, 0)
    headings: tuple[str, ...] = ()


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


class Highlights(NamedTuple):
    """Where the query's words are, as (start, end) in code points."""

    title: Sequence[tuple[int, int]]
    text: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document's best chunk, or one of its best.

    ``score`` is what the order is by: with a reranker 0 … 1, else the retrieval score.

    ``rerank_score`` is the reranker's probability alone, None without one. ``highlights`` where they were asked for.
    """

    hit: Hit
    score: float
    retrieval_rank: int
    rerank_score: float | None = None
    highlights: Highlights | None = None


class EmbeddedBy(NamedTuple):
    """The model that embedded a query, source@revision, and the length of its vectors."""

    model: str
    dimension: int


NO_MODEL = EmbeddedBy("", 0)


@dataclass(frozen=True, slots=True)
class Answer:
    """Chunks, the best first; ``not_reranked`` says why they are in the order of their retrieval, if they are.

    There was no time to rerank ``unjudged`` more candidates: these follow in the order of their retrieval. ``by`` is
    the model that embedded the query.
    """

    query: Query
    documents: list[Ranked]
    not_reranked: str
    timings_ms: Mapping[str, float]
    unjudged: int = 0
    by: EmbeddedBy = NO_MODEL
