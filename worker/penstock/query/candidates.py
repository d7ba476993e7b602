"""How many chunks are fetched, so that as many documents come of them as are wanted. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from penstock.core.queries import Hit, Query

UNRANKED_PER_DOCUMENT = 3
"""Chunks fetched at first per document wanted, where no reranker needs to see them all."""

CROWDED, CROWDED_STEP = 3000, 5
"""Where a few long documents crowd out the others: most chunks that are fetched, and by how much more each time."""

CROWDED_SHARE = 0.3
"""Of the time that is left, what one more such lookup may take."""


class Found(NamedTuple):
    """What a lookup found; ``all`` of it, where the store has no more."""

    hits: list[Hit]
    all: bool


def first_limit(query: Query, *, reordered: bool) -> int:
    """Where nothing changes the order, a few chunks per document wanted nearly always do."""
    if query.offset is not None:
        return max(query.fetched, query.candidates)
    return query.candidates if reordered else min(query.candidates, query.top_k * UNRANKED_PER_DOCUMENT)


def next_limit(query: Query, limit: int, found: Found, took_s: float, left_s: float) -> int | None:
    """How many to fetch instead, or None where these do, or where there is no time for more."""
    if query.offset is not None:
        return None
    documents = Counter(hit.key.document for hit in found.hits)
    fill = sum(min(chunks, query.shaping.chunks_per_document) for chunks in documents.values())
    if found.all or fill >= query.top_k or limit >= CROWDED:
        return None
    more = query.candidates if limit < query.candidates else min(CROWDED, limit * CROWDED_STEP)
    return more if took_s * more / limit < left_s * CROWDED_SHARE else None


def chosen(query: Query, hits: Sequence[Hit]) -> list[Hit]:
    """The candidates, and of the hits behind them the best of each new document, until there are ``top_k``.

    Where pages are cut, all hits.
    """
    if query.offset is not None:
        return list(hits)
    candidates = list(hits[: query.candidates])
    seen = {hit.key.document for hit in candidates}
    for hit in hits[query.candidates :]:
        if len(seen) >= query.top_k:
            break
        if hit.key.document not in seen:
            seen.add(hit.key.document)
            candidates.append(hit)
    return candidates
