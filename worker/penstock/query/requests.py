"""Queries as JSON: the model that mirrors ``schemas/query.v1``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from penstock.core.documents import LARGEST_INTEGER, TENANT
from penstock.core.errors import InvalidEvent
from penstock.core.filters import FieldType, Filter, check
from penstock.core.operands import not_vast
from penstock.core.paths import HOW, is_path
from penstock.core.queries import Boost, Mode, Query, Shaping, Threshold
from penstock.core.records import Place
from penstock.events.validation import few_fields, parse, untrusted

Text = StrictStr
Positive = Annotated[StrictInt, Field(ge=1)]


Number = StrictInt | StrictFloat

INCLUDED = (
    "start", "end", "title", "headings", "text", "metadata", "timestamp",
    "rerank_score", "retrieval_score", "retrieval_rank", "dense", "sparse",
)  # fmt: skip
"""What a hit has beside its document, chunk and score."""

MOST_INCLUDED = 64

MOST_DAYS, MOST_WEIGHT = 36_500, 10
"""Of a boost: a century, and more than what distinguishes the best from the average."""


def _of_moments(field: str) -> str:
    if field != "timestamp" and not is_path(field):
        raise ValueError(f"{field!r} is none: timestamp, or {HOW}")
    return field


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    _few = model_validator(mode="before")(few_fields)


class PlaceBody(_Body):
    """A record of the document stream."""

    topic: Annotated[Text, Field(min_length=1, max_length=249)]
    partition: Annotated[StrictInt, Field(ge=0, lt=2**31)]
    offset: Annotated[StrictInt, Field(ge=0, le=LARGEST_INTEGER)]


class BoostBody(_Body):
    """What is new comes first."""

    field: Annotated[Text, AfterValidator(_of_moments)]
    half_life_days: Annotated[Number, Field(gt=0, le=MOST_DAYS)]
    weight: Annotated[Number, Field(ge=0, le=MOST_WEIGHT)] = 1.0


class ThresholdBody(_Body):
    """The least that a hit must have."""

    rerank_score: Annotated[Number, Field(ge=0, le=1)] | None = None
    retrieval_score: Number | None = None

    @model_validator(mode="after")
    def _of_something(self) -> Self:
        if self.rerank_score is None and self.retrieval_score is None:
            raise ValueError("rerank_score or retrieval_score: needed")
        return self


def _scores(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError('of which score? {"rerank_score": 0.5}, or {"retrieval_score": 0.3}')  # noqa: TRY004
    return value


def _field(name: str) -> str:
    if name not in INCLUDED and not (name.startswith("metadata.") and name != "metadata."):
        raise ValueError(f"{name!r} is no field of a hit: {', '.join(INCLUDED)}, or metadata.<name>")
    return name


class QueryBody(_Body):
    """A query, version 1. Unknown fields are errors: a misspelt filter must not widen the search."""

    id: Annotated[Text, Field(min_length=1, max_length=1024)] | None = None
    tenant: Annotated[Text, Field(pattern=f"^{TENANT.pattern}$")] | None = None
    query: Text
    instruction: Text | None = None
    top_k: Positive | None = None
    candidates: Positive | None = None
    rerank: StrictBool | None = None
    mode: Mode | None = None
    boost: BoostBody | None = None
    diversity: Annotated[Number, Field(ge=0, le=1)] | None = None
    chunks_per_document: Positive | None = None
    score_threshold: Annotated[ThresholdBody | None, BeforeValidator(_scores)] = None
    offset: Annotated[StrictInt, Field(ge=0)] | None = None
    include: Annotated[tuple[Annotated[Text, AfterValidator(_field)], ...], Field(max_length=MOST_INCLUDED)] | None = (
        None
    )
    highlight: StrictBool | None = None
    filter: Annotated[Filter | None, BeforeValidator(not_vast)] = None
    after: PlaceBody | None = None
    timeout_ms: Positive | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a query that says nothing gets, and the most that one may ask for."""

    top_k: int = 10
    candidates: int = 100
    timeout_s: float = 10.0
    most_top_k: int = 100
    most_candidates: int = 500
    longest_timeout_s: float = 60.0
    most_characters: int = 8192
    most_conditions: int = 64
    most_values: int = 1000
    filter_fields: Mapping[str, FieldType] | None = None


@untrusted
def read_query(value: bytes, limits: Limits) -> QueryBody:
    """The body of a query; raises InvalidEvent that says what is wrong."""
    body = parse(QueryBody, value)
    check_text("query", body.query, limits.most_characters)
    if body.instruction is not None:
        check_text("instruction", body.instruction, limits.most_characters)
    for name, wanted, most in (
        ("top_k", body.top_k, limits.most_top_k),
        ("candidates", body.candidates, limits.most_candidates),
        ("timeout_ms", body.timeout_ms, limits.longest_timeout_s * 1000),
    ):
        if wanted is not None and wanted > most:
            raise InvalidEvent(f"{name}: {wanted} is more than {most:.0f}, the most allowed here")
    deepest = (body.offset or 0) + (body.top_k or limits.top_k)
    if deepest > limits.most_candidates:
        raise InvalidEvent(
            f"offset: with top_k that is document {deepest}; {limits.most_candidates} are looked at here"
        )
    if body.filter is not None:
        check(body.filter, limits.filter_fields or {}, limits.most_conditions, limits.most_values)
    return body


def to_query(body: QueryBody, limits: Limits, name: str, tenant: str) -> Query:
    """The query that a body asks, with what it leaves out."""
    top_k = body.top_k or limits.top_k
    return Query(
        id=body.id or name,
        tenant=tenant,
        text=body.query,
        top_k=top_k,
        candidates=max(top_k, body.candidates or limits.candidates),
        timeout_s=body.timeout_ms / 1000 if body.timeout_ms else limits.timeout_s,
        instruction=body.instruction,
        rerank=body.rerank,
        filter=body.filter,
        after=None if body.after is None else Place(**body.after.model_dump()),
        mode=body.mode,
        shaping=Shaping(
            None if body.boost is None else Boost(**body.boost.model_dump()),
            body.diversity or 0.0,
            body.chunks_per_document or 1,
            None if body.score_threshold is None else Threshold(**body.score_threshold.model_dump()),
        ),
        offset=body.offset,
        fetched=0 if body.offset is None else limits.most_candidates,
        highlight=bool(body.highlight),
        include=None if body.include is None else frozenset(body.include),
    )


def check_text(name: str, text: str, most: int) -> None:
    """Raises InvalidEvent for a text that is blank or too long."""
    if not text.strip():
        raise InvalidEvent(f"{name}: is empty")
    if len(text) > most:
        raise InvalidEvent(f"{name}: has {len(text)} characters; at most {most} are allowed here")
