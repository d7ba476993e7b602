"""Why a query finds a document, or not: at which step of the search it was dropped, and by which rule. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.core.queries import Hit, Query, Ranked


@dataclass(frozen=True, slots=True)
class Sought:
    """What each step made of a document. Places count from 1; None where it did not come so far.

    ``best`` is its best candidate, at ``retrieved`` among ``candidates``. ``ranked`` is what the order makes of it
    without the query's limits, at ``place``; ``answered`` is where it stands in the answer.
    """

    query: Query
    candidates: int
    best: Hit | None = None
    retrieved: int | None = None
    ranked: Ranked | None = None
    place: int | None = None
    answered: int | None = None
    not_reranked: str = ""


def sought(
    query: Query, document: str, hits: Sequence[Hit], whole: Sequence[Ranked], answer: Sequence[Ranked], why: str
) -> Sought:
    """Of what a search has found, ordered without limits (``whole``), and answered; ``why`` nothing was reranked."""
    among = [(rank, hit) for rank, hit in enumerate(hits, 1) if hit.key.document == document]
    places = [(place, one) for place, one in enumerate(whole, 1) if one.hit.key.document == document]
    answered = next((n for n, one in enumerate(answer, 1) if one.hit.key.document == document), None)
    retrieved, best = among[0] if among else (None, None)
    place, ranked = places[0] if places else (None, None)
    return Sought(query, len(hits), best, retrieved, ranked, place, answered, why)


@dataclass(frozen=True, slots=True)
class Alone:
    """What a search finds that looks at this document only: its best chunk there, None where even then nothing is.

    ``rank`` is its best chunk's place where more candidates are looked at, ``depth`` how many those were.
    """

    hit: Hit | None
    rank: int | None
    depth: int


def why_dropped(found: Sought) -> str:
    """Of one that was a candidate: which rule left it out of the answer; empty where it is in it."""
    threshold = found.query.shaping.threshold
    if found.answered is not None or found.ranked is None:
        return ""
    if threshold is not None and not threshold.passes(found.ranked):
        return "score_threshold: its scores are below it"
    if found.place is not None and found.place > found.query.depth:
        return f"top_k: it comes at place {found.place}, {found.query.depth} are answered"
    return "diversity: others that are unlike those before were taken instead"
