"""What a migration does to answers: the same queries to both collections, each by its own model."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from penstock.adapters.qdrant.connection import Connection
from penstock.adapters.qdrant.members import members
from penstock.adapters.qdrant.migration import opened
from penstock.assembly.models import EmbeddingModel, Models, load_models
from penstock.assembly.search import encoder_of, make_scorer
from penstock.core.errors import InvalidEvent, Misconfigured
from penstock.core.inventory import Sought
from penstock.core.members import Member, other
from penstock.core.queries import Query
from penstock.evaluate.canary import CanaryQuery, read_canaries
from penstock.evaluate.metrics import measure
from penstock.evaluate.report import Steps
from penstock.operate.migrate import overlap
from penstock.query.search import Search, TooLate
from penstock.query.served import Served
from penstock.query.sides import Retrieval
from penstock.settings import Settings

TOP = 10


class Side(NamedTuple):
    """How one collection answers: documents by query, the milliseconds of each, what it measures and holds."""

    collection: str
    answers: dict[str, list[str]]
    took_ms: list[float]
    ndcg: float | None
    points: int
    vector_bytes: int

    def as_json(self) -> dict[str, Any]:
        """For who reads it by a program."""
        return {
            "collection": self.collection,
            "ndcg@10": self.ndcg,
            "p50_ms": round(float(np.percentile(self.took_ms, 50)), 1),
            "p95_ms": round(float(np.percentile(self.took_ms, 95)), 1),
            "points": self.points,
            "vector_bytes": self.vector_bytes,
        }


class Comparison(NamedTuple):
    """The collection that readers get, and the other one; ``overlap`` is of the first ten documents, by query."""

    current: Side
    other: Side
    overlap: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """For who reads it by a program; the queries whose answers differ most come first."""
        return {
            "queries": len(self.overlap),
            "overlap@10": round(sum(self.overlap.values()) / len(self.overlap), 4),
            "current": self.current.as_json(),
            "other": self.other.as_json(),
            "least_alike": sorted(self.overlap, key=lambda query: self.overlap[query])[:TOP],
        }


def run_comparison(settings: Settings, file: Path, tenant: str, steps: Steps) -> Comparison:
    """Ask each query of the file of both; raises Misconfigured, or Unavailable."""
    canaries = read_canaries(file)
    models = load_models(settings.model, settings.rerank, settings.migration)
    with ExitStack() as open_so_far:
        connection = open_so_far.enter_context(closing(Connection(settings.qdrant)))
        there = members(connection, settings.qdrant.collection)
        pair = (there[0], other(there)) if there else ()
        if not pair:
            raise Misconfigured(f"there is no collection {settings.qdrant.collection!r} yet: index something first")
        searches = [_search(settings, models, connection, member) for member in pair]
        for search in searches:
            open_so_far.callback(search.close)
        queries = [_query(settings, canary, tenant) for canary in canaries]
        with steps("asking both", len(queries)) as advance:
            try:
                answers = asyncio.run(_ask(searches, queries, advance))
            except (InvalidEvent, TooLate) as error:
                raise Misconfigured(f"{file}: {error}") from None
        current, following = (
            _side(connection, member, [one[at] for one in answers], canaries) for at, member in enumerate(pair)
        )
    alike = {query.text: overlap(current.answers[query.id], following.answers[query.id]) for query in canaries}
    return Comparison(current, following, alike)


def _search(settings: Settings, models: Models, connection: Connection, member: Member) -> Search:
    model = _model(models, member)
    weight = settings.query.terms_weight
    collection = opened(connection, member)
    encoder = encoder_of(model.wide(collection.shape.widest), settings.query)
    served = Served(encoder, connection.store(collection), None, weight)
    return Search(served, make_scorer(settings, models), retrieval=Retrieval(settings.query.mode, weight))


def _model(models: Models, member: Member) -> EmbeddingModel:
    for model in models.embeddings:
        if model.identity == member.model:
            return model
    raise Misconfigured(
        f"no model at hand has made {member.name} ({member.model.source}, {member.model.dimension} dimensions): "
        "PENSTOCK_MODEL__BUNDLE and PENSTOCK_MIGRATION__BUNDLE have to name both"
    )


def _query(settings: Settings, canary: CanaryQuery, tenant: str) -> Query:
    candidates = max(TOP, settings.query.candidates)
    return Query(canary.id, tenant, canary.text, TOP, candidates, settings.query.max_timeout_s)


async def _ask(
    searches: Sequence[Search], queries: Sequence[Query], advance: Any
) -> list[list[tuple[list[str], float]]]:
    """One query at a time, of one and of the other by turns, so that neither has the machine to itself for longer."""
    await asyncio.gather(*(search.answer(queries[0]) for search in searches))
    answers = []
    for number, query in enumerate(queries):
        each: dict[int, tuple[list[str], float]] = {}
        for at in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            answer = await searches[at].answer(query)
            took_ms = (time.perf_counter() - began) * 1000
            each[at] = [ranked.hit.key.document for ranked in answer.documents], took_ms
        answers.append([each[0], each[1]])
        advance(1)
    return answers


def _side(
    connection: Connection,
    member: Member,
    answers: Sequence[tuple[list[str], float]],
    canaries: Sequence[CanaryQuery],
) -> Side:
    found = {canary.id: documents for canary, (documents, _) in zip(canaries, answers, strict=True)}
    judged = {canary.id: canary.relevant for canary in canaries if canary.relevant}
    ndcg = None
    if judged:
        ndcg = round(measure(judged, {query: found[query] for query in judged}, [TOP])["nDCG@10"], 4)
    points = connection.inventory(member.name).count(Sought())
    width = opened(connection, member).shape
    bytes_each = 4 * (width.dense + width.full)
    return Side(member.name, found, [took for _, took in answers], ndcg, points, points * bytes_each)
