"""What a search is worth: as it is served, and what it would be at other dimensions or without its task."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace

from penstock.core.errors import InvalidEvent, Misconfigured
from penstock.core.queries import Hit, Mode, Query, Ranked
from penstock.core.vectors import Vector
from penstock.evaluate import exact
from penstock.evaluate.advice import BOTH, RERANKER, SEARCH, compared, compared_modes, weight_of_both
from penstock.evaluate.bootstrap import Gain
from penstock.evaluate.labelled import LabelledQuery
from penstock.evaluate.metrics import measure, ndcg_by_query
from penstock.query.ranking import in_order_of_retrieval, reranked
from penstock.query.search import Search

Steps = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]

AT_ONCE = 32
"""Queries under way at once."""

SERVED, EXACT = "as served", "exact"
"""Ways to search: with the index and the settings of the workers, or over all stored vectors."""

TOP_K = 10
"""Documents that are wanted at least; the metrics look at all candidates."""

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
    """One way to search, and how good it was.

    ``order`` is who made the order: search, reranker or both; ``mode`` what found the candidates.
    """

    search: str
    dimension: int
    instruction: bool
    order: str
    metrics: dict[str, float]
    trained: bool = True
    mode: str = Mode.DENSE


@dataclass(slots=True)
class Report:
    """All of them. ``missing`` counts relevant documents that are not in the collection: nothing can find those.

    ``gains`` are what one order, and one mode, has over another in nDCG@10, of the search as it is served; ``serve``
    says in a line each which to serve. ``not_reranked`` are the queries whose reranking failed, and why.
    """

    queries: int
    documents: int
    chunks: int
    missing: int
    model: dict[str, object]
    rows: list[Row] = field(default_factory=list)
    gains: dict[str, Gain] = field(default_factory=dict)
    serve: list[str] = field(default_factory=list)
    not_reranked: dict[str, str] = field(default_factory=dict)

    def advise(self, gains: Mapping[str, Gain], serve: str) -> None:
        """What was compared, and which is to be served."""
        self.gains |= gains
        self.serve.append(serve)

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return asdict(self) | {"gains": {name: one._asdict() for name, one in self.gains.items()}}


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
    """``stored`` are all chunks of the tenant and their vectors. May take a while: see ``options.candidates``.

    Raises Misconfigured for a query that the models have no room for, before anything is computed.
    """
    _check_lengths(search, labelled, options)
    chunks, rows = stored
    documents = {hit.key.document for hit in chunks}
    missing = sum(name not in documents for query in labelled for name in query.relevant)
    report = Report(len(labelled), len(documents), len(chunks), missing, model.about)
    judgments = {query.id: query.relevant for query in labelled}
    by_order: dict[str, list[float]] = {}
    by_mode: dict[str, list[float]] = {}
    for (mode, order), runs in asyncio.run(_served(search, labelled, options, steps, report.not_reranked)).items():
        metrics, by_query = measure(judgments, runs, options.recall_at), ndcg_by_query(judgments, runs)
        report.rows.append(Row(SERVED, model.dimension, bool(model.prompt), order, metrics, mode=mode))
        if mode == report.rows[0].mode:
            by_order[order] = by_query
        if order == SEARCH:
            by_mode[mode] = by_query
    if len(by_mode) > 1:
        report.advise(*compared_modes(by_mode))
    if search.scorer is not None:
        report.advise(*compared(by_order, weight_of_both(search.scorer.weight)))
    report.rows += _exact(model, labelled, chunks, rows, options)
    return report


def _check_lengths(search: Search, labelled: Sequence[LabelledQuery], options: Options) -> None:
    for query in labelled:
        try:
            search.served.encoder.query(_asked(query, options), judged=False)
            if search.scorer is not None:
                search.scorer.pairs.encode(query.text, ["a"], search.scorer.task(None))
        except InvalidEvent as error:
            raise Misconfigured(f"{query.place or query.id}: {error}") from None


def _asked(query: LabelledQuery, options: Options) -> Query:
    return Query(query.id, options.tenant, query.text, min(TOP_K, options.candidates), options.candidates, NO_HURRY_S)


async def _served(
    search: Search, labelled: Sequence[LabelledQuery], options: Options, steps: Steps, failed: dict[str, str]
) -> dict[tuple[Mode, str], dict[str, list[str]]]:
    """Documents by mode, order and query, through the query worker's own steps; every pair is scored once.

    The mode that is served comes first; the others are measured in their own order alone. A query whose reranking fails
    is answered in the order of the search, as a worker does; ``failed`` hears why.
    """
    gate, scorer = asyncio.Semaphore(AT_ONCE), search.scorer
    served, *others = search.modes
    with steps("searching" if scorer is None else "searching and reranking", len(labelled)) as advance:

        async def answer(query: LabelledQuery) -> dict[tuple[Mode, str], list[Ranked]]:
            asked = _asked(query, options)
            async with gate:
                found = await search.retrieve(asked, whole=True)
                logits, why_not = (None, "") if scorer is None else await search.score(found)
                unserved = {
                    mode: (await search.retrieve(replace(asked, mode=mode), whole=True)).hits for mode in others
                }
            advance(1)
            by_search = in_order_of_retrieval(found.hits)
            orders = {(served, SEARCH): by_search}
            if scorer is not None and logits is None:
                failed[query.id] = why_not
                orders |= {(served, order): by_search for order in (RERANKER, BOTH)}
            elif scorer is not None and logits is not None:
                weights = {RERANKER: 1.0, BOTH: weight_of_both(scorer.weight)}
                orders |= {(served, order): reranked(found.hits, logits, weight) for order, weight in weights.items()}
            return orders | {(mode, SEARCH): in_order_of_retrieval(hits) for mode, hits in unserved.items()}

        answers = await asyncio.gather(*(answer(query) for query in labelled))
    runs: dict[tuple[Mode, str], dict[str, list[str]]] = {}
    for query, orders in zip(labelled, answers, strict=True):
        for way, documents in orders.items():
            runs.setdefault(way, {})[query.id] = [document.hit.key.document for document in documents]
    return runs


def _exact(
    model: ServedModel, labelled: Sequence[LabelledQuery], chunks: Sequence[Hit], rows: Vector, options: Options
) -> list[Row]:
    """At every dimension with the task, and at the served one without."""
    judgments = {query.id: query.relevant for query in labelled}

    def row(queries: Vector, dimension: int, *, task: bool, trained: bool = True) -> Row:
        hits = exact.ranked(chunks, rows, queries, dimension, options.candidates)
        runs = {query.id: exact.documents(run) for query, run in zip(labelled, hits, strict=True)}
        metrics = measure(judgments, runs, options.recall_at)
        return Row(EXACT, dimension, task, SEARCH, metrics, trained)

    with_task = model.embed([model.prompt + query.text for query in labelled])
    result = [
        row(with_task, dimension, task=bool(model.prompt), trained=model.supports(dimension))
        for dimension in exact.dimensions(rows.shape[1])
    ]
    if model.prompt:
        result.append(row(model.embed([query.text for query in labelled]), model.dimension, task=False))
    return result
