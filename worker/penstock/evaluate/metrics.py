"""The metrics. The only importer of ir-measures."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.core.errors import Misconfigured

Run = Mapping[str, Sequence[str]]
"""Documents by query, the best first."""

Judgments = Mapping[str, Mapping[str, int]]
"""By query, the grade of each document that is relevant: above 0."""


def measure(judged: Judgments, run: Run, recall_at: Sequence[int]) -> dict[str, float]:
    """nDCG@10, R@k and RR@10 (the mean reciprocal rank), over all judged queries; one that found nothing counts as 0.

    Definitions and implementation are those of ir-measures.
    """
    library = ir_measures()
    wanted = [library.nDCG @ 10, *(library.R @ k for k in recall_at), library.RR @ 10]
    values = library.calc_aggregate(wanted, _qrels(judged), _scored(run))
    return {str(metric): float(values[metric]) for metric in wanted}


def ndcg_by_query(judged: Judgments, run: Run) -> list[float]:
    """nDCG@10 of each judged query, in their order."""
    library = ir_measures()
    values = library.iter_calc([library.nDCG @ 10], _qrels(judged), _scored(run))
    by_query = {value.query_id: float(value.value) for value in values}
    return [by_query.get(query, 0.0) for query in judged]


def ir_measures() -> Any:
    """The library; raises Misconfigured where it is not installed."""
    try:
        import ir_measures as library  # noqa: PLC0415  # an extra
    except ImportError:
        raise Misconfigured(
            "penstock evaluate needs ir-measures, the extra evaluate; every file in requirements/ has it"
        ) from None
    return library


def _qrels(judged: Judgments) -> list[Any]:
    make = ir_measures().Qrel
    return [make(query, document, grade) for query, grades in judged.items() for document, grade in grades.items()]


def _scored(run: Run) -> list[Any]:
    make = ir_measures().ScoredDoc
    return [
        make(query, document, float(-rank))
        for query, documents in run.items()
        for rank, document in enumerate(documents)
    ]
