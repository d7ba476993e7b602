"""The metrics. The only importer of ir-measures."""

from collections.abc import Mapping, Sequence

from worker.errors import Misconfigured

Run = Mapping[str, Sequence[str]]
"""Documents by query, the best first."""

Judgments = Mapping[str, Mapping[str, int]]
"""By query, the grade of each document that is relevant: above 0."""


def measure(judged: Judgments, run: Run, recall_at: Sequence[int]) -> dict[str, float]:
    """nDCG@10, R@k and RR@10 (the mean reciprocal rank), over all judged queries; one that found nothing counts as 0.

    Definitions and implementation are those of ir-measures.
    """
    try:
        import ir_measures  # noqa: PLC0415  # an extra
        from ir_measures import RR, R, nDCG  # noqa: PLC0415
    except ImportError:
        raise Misconfigured(
            "penstock evaluate needs ir-measures, the extra evaluate; every file in requirements/ has it"
        ) from None
    wanted = [nDCG @ 10, *(R @ k for k in recall_at), RR @ 10]
    qrels = [
        ir_measures.Qrel(query, document, grade) for query, own in judged.items() for document, grade in own.items()
    ]
    scored = [
        ir_measures.ScoredDoc(query, document, float(-rank))
        for query, documents in run.items()
        for rank, document in enumerate(documents)
    ]
    found = ir_measures.calc_aggregate(wanted, qrels, scored)
    return {str(one): float(found[one]) for one in wanted}
