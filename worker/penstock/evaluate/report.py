"""``penstock evaluate``: the search as it is served, and what it would be at other dimensions or without its task."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field

from penstock.assembly import search as searching
from penstock.core.errors import Misconfigured
from penstock.core.queries import Answer, Hit, Query
from penstock.core.vectors import Vector
from penstock.evaluate import exact
from penstock.evaluate.bootstrap import Gain, gain
from penstock.evaluate.labelled import Labelled
from penstock.evaluate.metrics import Judgments, measure, ndcg_by_query
from penstock.query.search import Search
from penstock.settings import Settings

Steps = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]

AT_ONCE = 32
"""Queries under way at once."""

SEED = 0
"""Of the bootstrap: the same figures every time."""

NO_HURRY_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured: by ``candidates`` per query, for recall at these cutoffs, for a tenant's documents."""

    candidates: int = 100
    recall_at: Sequence[int] = (10, 100)
    tenant: str = ""
    rerank: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One way to search, and how good it was."""

    search: str
    dimension: int
    instruction: bool
    reranked: bool
    metrics: dict[str, float]
    trained: bool = True


@dataclass(slots=True)
class Report:
    """All of them. ``missing`` counts relevant documents that are not in the collection: nothing can find those.

    ``reranking`` is what the reranker adds to nDCG@10 of the search as it is served.
    """

    queries: int
    documents: int
    chunks: int
    missing: int
    model: dict[str, object]
    rows: list[Row] = field(default_factory=list)
    reranking: Gain | None = None

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return asdict(self) | {"reranking": self.reranking._asdict() if self.reranking else None}


def evaluate(settings: Settings, labelled: Sequence[Labelled], options: Options, steps: Steps) -> Report:
    """Raises Misconfigured; may take a while: see ``options.candidates`` and ``options.rerank``."""
    if settings.rerank.enabled and not options.rerank:
        settings = settings.model_copy(update={"rerank": settings.rerank.model_copy(update={"enabled": False})})
    models = searching.load_models(settings)
    judged = {one.id: one.relevant for one in labelled}
    with searching.reading(settings) as connection:
        search = searching.make_search(settings, models, connection, None)
        try:
            collection = searching.find(settings, models, connection)
            chunks, rows = connection.store(collection).vectors(options.tenant)
            if not chunks:
                raise Misconfigured(f"no documents of tenant {options.tenant!r} to evaluate on")
            there = {hit.key.document for hit in chunks}
            missing = sum(name not in there for one in labelled for name in one.relevant)
            report = Report(len(labelled), len(there), len(chunks), missing, models.body.model_dump())
            dense, task = models.embedding.dimension, bool(models.embedding.query_prompt)
            by_query: list[list[float]] = []
            for reranked in (False, True) if search.judge is not None else (False,):
                runs = asyncio.run(_served(search, labelled, options, steps, rerank=reranked))
                report.rows.append(Row("as served", dense, task, reranked, _measured(judged, runs, options)))
                by_query.append(ndcg_by_query(judged, runs))
            if search.judge is not None:
                report.reranking = gain(by_query[0], by_query[1], SEED)
            _add_exact(report, models, labelled, (chunks, rows), options)
        finally:
            search.close()
    return report


async def _served(
    search: Search, labelled: Sequence[Labelled], options: Options, steps: Steps, *, rerank: bool
) -> dict[str, list[str]]:
    """Through the query worker's own steps."""
    gate = asyncio.Semaphore(AT_ONCE)
    most = options.candidates
    with steps("searching and reranking" if rerank else "searching", len(labelled)) as advance:

        async def one(given: Labelled) -> list[str]:
            asked = Query(given.id, options.tenant, given.text, most, most, NO_HURRY_S, rerank=rerank)
            async with gate:
                answer: Answer = await search.answer(asked)
            advance(1)
            return [document.hit.key.document for document in answer.documents]

        runs = await asyncio.gather(*(one(given) for given in labelled))
    return {given.id: run for given, run in zip(labelled, runs, strict=True)}


def _add_exact(
    report: Report,
    models: searching.Models,
    labelled: Sequence[Labelled],
    stored: tuple[list[Hit], Vector],
    options: Options,
) -> None:
    """At every dimension with the task, and at the served one without."""
    chunks, rows = stored
    model = models.embedding.wide(rows.shape[1])
    judged = {one.id: one.relevant for one in labelled}

    def embedded(before: str) -> Vector:
        limit = model.bundle.manifest.max_tokens
        return model.embedder.embed(model.tokenizer.encode([before + one.text for one in labelled], limit))

    def run(asked: Vector, dimension: int) -> dict[str, float]:
        found = exact.ranked(chunks, rows, asked, dimension, options.candidates)
        runs = {one.id: exact.documents(hits) for one, hits in zip(labelled, found, strict=True)}
        return _measured(judged, runs, options)

    with_task = embedded(model.query_prompt)
    for dimension in exact.dimensions(rows.shape[1]):
        metrics = run(with_task, dimension)
        report.rows.append(
            Row("exact", dimension, bool(model.query_prompt), False, metrics, model.bundle.supports(dimension))
        )
    if model.query_prompt:
        metrics = run(embedded(""), models.embedding.dimension)
        report.rows.append(Row("exact", models.embedding.dimension, False, False, metrics))


def _measured(judged: Judgments, runs: dict[str, list[str]], options: Options) -> dict[str, float]:
    return measure(judged, runs, options.recall_at)
