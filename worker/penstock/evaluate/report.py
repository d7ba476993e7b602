"""What a search is worth: as it is served, and what it would be at other dimensions or without its task."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field

from penstock.core.queries import Hit, Query
from penstock.core.vectors import Vector
from penstock.evaluate import exact
from penstock.evaluate.bootstrap import Gain, gain
from penstock.evaluate.labelled import LabelledQuery
from penstock.evaluate.metrics import measure, ndcg_by_query
from penstock.query.search import Search

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


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model behind a search, as far as it is measured.

    ``embed`` gives texts their vectors, as wide as those that are stored; ``prompt`` is what goes before a query,
    ``dimension`` what is searched by, and ``supports`` says which the model was made for.
    """

    about: dict[str, object]
    dimension: int
    prompt: str
    embed: Callable[[Sequence[str]], Vector]
    supports: Callable[[int], bool]


def measure_search(
    search: Search,
    model: ServedModel,
    stored: tuple[list[Hit], Vector],
    labelled: Sequence[LabelledQuery],
    options: Options,
    steps: Steps,
) -> Report:
    """``stored`` are all chunks of the tenant and their vectors. May take a while: see ``options.candidates``."""
    chunks, rows = stored
    documents = {hit.key.document for hit in chunks}
    missing = sum(name not in documents for query in labelled for name in query.relevant)
    report = Report(len(labelled), len(documents), len(chunks), missing, model.about)
    judgments = {query.id: query.relevant for query in labelled}
    by_query: list[list[float]] = []
    for reranked in (False, True) if search.scorer is not None else (False,):
        runs = asyncio.run(_served(search, labelled, options, steps, rerank=reranked))
        metrics = measure(judgments, runs, options.recall_at)
        report.rows.append(Row("as served", model.dimension, bool(model.prompt), reranked, metrics))
        by_query.append(ndcg_by_query(judgments, runs))
    if search.scorer is not None:
        report.reranking = gain(by_query[0], by_query[1], SEED)
    report.rows += _exact(model, labelled, chunks, rows, options)
    return report


async def _served(
    search: Search, labelled: Sequence[LabelledQuery], options: Options, steps: Steps, *, rerank: bool
) -> dict[str, list[str]]:
    """Through the query worker's own steps."""
    gate = asyncio.Semaphore(AT_ONCE)
    most = options.candidates
    with steps("searching and reranking" if rerank else "searching", len(labelled)) as advance:

        async def answer(query: LabelledQuery) -> list[str]:
            asked = Query(query.id, options.tenant, query.text, most, most, NO_HURRY_S, rerank=rerank)
            async with gate:
                documents = (await search.answer(asked)).documents
            advance(1)
            return [document.hit.key.document for document in documents]

        runs = await asyncio.gather(*(answer(query) for query in labelled))
    return {query.id: run for query, run in zip(labelled, runs, strict=True)}


def _exact(
    model: ServedModel, labelled: Sequence[LabelledQuery], chunks: Sequence[Hit], rows: Vector, options: Options
) -> list[Row]:
    """At every dimension with the task, and at the served one without."""
    judgments = {query.id: query.relevant for query in labelled}

    def row(queries: Vector, dimension: int, *, task: bool, trained: bool = True) -> Row:
        hits = exact.ranked(chunks, rows, queries, dimension, options.candidates)
        runs = {query.id: exact.documents(run) for query, run in zip(labelled, hits, strict=True)}
        metrics = measure(judgments, runs, options.recall_at)
        return Row("exact", dimension, task, False, metrics, trained)

    with_task = model.embed([model.prompt + query.text for query in labelled])
    result = [
        row(with_task, dimension, task=bool(model.prompt), trained=model.supports(dimension))
        for dimension in exact.dimensions(rows.shape[1])
    ]
    if model.prompt:
        result.append(row(model.embed([query.text for query in labelled]), model.dimension, task=False))
    return result
