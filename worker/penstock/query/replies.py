"""Answers as JSON: the model that mirrors ``schemas/reply.v1``."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, StrictFloat

from penstock.core.queries import NO_TIME, Answer, EmbeddedBy, Mode, Ranked, Side


class _Answered(BaseModel):
    """Readers ignore what they do not know: it may come from a later version."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SideBody(_Answered):
    """What one way of searching says of a chunk; no rank where it is not among those that this way found."""

    score: float
    rank: int | None = None


class HighlightsBody(_Answered):
    """Where the query's words are, as (start, end) in code points."""

    title: tuple[tuple[int, int], ...] = ()
    text: tuple[tuple[int, int], ...] = ()


class HitBody(_Answered):
    """A document that was found, by its best chunk; without what ``include`` left out."""

    document: str
    chunk: int
    start: int = 0
    end: int = 0
    title: str = ""
    headings: tuple[str, ...] = ()
    text: str = ""
    metadata: Mapping[str, JsonValue] = {}
    timestamp: str | None = None
    score: float
    rerank_score: float | None = None
    retrieval_score: float = 0.0
    retrieval_rank: int = 0
    highlights: HighlightsBody | None = None
    dense: SideBody | None = None
    sparse: SideBody | None = None


class ModelBody(_Answered):
    """What answered."""

    embedding: str
    dimension: int
    reranker: str | None = None


class ReplyBody(_Answered):
    """An answer, version 1; ``error`` instead of hits where there is none."""

    id: str | None
    hits: tuple[HitBody, ...] = ()
    mode: Mode | None = None
    reranked: bool = False
    not_reranked: str | None = None
    timings_ms: Mapping[str, StrictFloat] = {}
    model: ModelBody | None = None
    error: str | None = None


def model_body(by: EmbeddedBy, reranker: str | None) -> ModelBody:
    """What answered, in the words of the schema."""
    return ModelBody(embedding=by.model, dimension=by.dimension, reranker=reranker)


def to_reply(answer: Answer, reranker: str | None) -> ReplyBody:
    """An answer in the words of the schema; ``reranker`` is the one that this worker has."""
    return ReplyBody(
        id=answer.query.id,
        hits=tuple(_hit(document, answer.query.include) for document in answer.documents),
        mode=answer.query.mode,
        reranked=not answer.not_reranked,
        not_reranked=answer.not_reranked or _partly(answer.unjudged),
        timings_ms=answer.timings_ms,
        model=model_body(answer.by, reranker),
    )


def _hit(document: Ranked, include: frozenset[str] | None) -> HitBody:
    hit, spans = document.hit, document.highlights
    fields: dict[str, Any] = {
        "start": hit.place[0],
        "end": hit.place[1],
        "title": hit.title,
        "headings": hit.headings,
        "text": hit.text,
        "metadata": hit.metadata,
        "timestamp": hit.timestamp,
        "rerank_score": document.rerank_score,
        "retrieval_score": hit.score,
        "retrieval_rank": document.retrieval_rank,
        "dense": _side(hit.dense),
        "sparse": _side(hit.sparse),
    }
    if include is not None:
        some = {name: hit.metadata[name] for name in hit.metadata if f"metadata.{name}" in include}
        fields = {name: value for name, value in fields.items() if name in include} | (
            {"metadata": some} if some and "metadata" not in include else {}
        )
    if spans is not None:
        fields["highlights"] = HighlightsBody(title=tuple(spans.title), text=tuple(spans.text))
    return HitBody(document=hit.key.document, chunk=hit.key.chunk, score=document.score, **fields)


def _side(side: Side | None) -> SideBody | None:
    return None if side is None else SideBody(**side._asdict())


def _partly(unjudged: int) -> str | None:
    return f"{NO_TIME}: {unjudged} candidates more are in the order of the search" if unjudged else None


def to_json(reply: ReplyBody) -> bytes:
    """An answer as it is sent; a reply without hits has no fields but its id and the error."""
    return reply.model_dump_json(exclude_unset=True).encode()
