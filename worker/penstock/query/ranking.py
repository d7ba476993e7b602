"""Which of the hits count, and which document comes first. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from penstock.core.documents import ChunkKey, Stored, titled
from penstock.core.queries import Hit, Ranked, Shaping, owned
from penstock.core.terms import contained
from penstock.query.shape import Shaper

RELEVANCE = Shaper(Shaping(), datetime.min.replace(tzinfo=UTC))
"""Nothing beside it: each document once."""

LEAST_LOGIT = -700.0
"""Below it the exponential would overflow."""

ALIKE = 1e-6
"""Retrieval scores that lie closer together differ by rounding only."""


def disown(
    candidates: Sequence[Sequence[Hit]], read: Callable[[Sequence[ChunkKey]], Mapping[ChunkKey, Stored]]
) -> list[list[Hit]]:
    """Without the hits that do not belong to their document any more; reads the anchors that are not among them."""
    anchors: dict[ChunkKey, Stored] = {hit.key: hit.stored for hits in candidates for hit in hits if hit.key.chunk == 0}
    wanted = {ChunkKey(hit.key.tenant, hit.key.document, 0) for hits in candidates for hit in hits}
    if missing := [key for key in wanted if key not in anchors]:
        anchors |= read(missing)
    return [owned(hits, anchors) for hits in candidates]


def fused(hits: Sequence[Hit], weight: float, verbatim: Sequence[str] = ()) -> list[Hit]:
    """Best first by vectors and words together: the similarity, and ``weight`` deviations more for a full match.

    The deviation is that of the candidates' similarities, so that the weight means the same for every model. What the
    words add fades by itself where a query's words are not in the documents, as in another language; the usual ways,
    sums of standardized scores and reciprocal ranks, lose up to a fifth of what such queries find. What a chunk has of
    ``verbatim`` (see ``terms``) adds up to another full match. By words alone (no hit has a similarity) their share
    counts.
    """
    if not hits:
        return []
    near = [hit.dense.score for hit in hits if hit.dense]
    full_match = weight * float(np.std(near)) if near else 1.0
    scored = []
    for hit in hits:
        exact = contained(titled(hit.title, hit.text), verbatim) if verbatim else 0.0
        matching = (hit.sparse.score if hit.sparse else 0.0) + exact
        similarity = hit.dense.score if hit.dense else 0.0
        scored.append(hit._replace(score=similarity + full_match * matching, verbatim=exact))
    return sorted(scored, key=lambda hit: -hit.score)


def in_order_of_retrieval(hits: Sequence[Hit], shaper: Shaper = RELEVANCE) -> list[Ranked]:
    """Documents, each by its best chunk, as the search has them, and as the ``shaper`` wants it."""
    ranks, scores = _ranks(hits), shaper.boosted(hits, [hit.score for hit in hits])
    return shaper.chosen([Ranked(hits[i], scores[i], ranks[hits[i].key.document]) for i in _best_first(scores)])


def reranked(hits: Sequence[Hit], logits: Sequence[float], weight: float, shaper: Shaper = RELEVANCE) -> list[Ranked]:
    """Documents, each by its best chunk, by what reranker and search say together, see ``blend``.

    What was asked for as it is written stays in front, whatever a reranker, which reads meanings, makes of it. Where
    only the first hits have a logit, the others follow as far behind as their retrieval scores are.
    """
    blended = np.asarray(_with_others([hit.score for hit in hits], logits, weight))
    lifted = blended + (np.ptp(blended) if hits else 0.0) * np.asarray([hit.verbatim for hit in hits])
    ranks, scores = _ranks(hits), shaper.boosted(hits, lifted.tolist())
    judged = [*map(probability, logits), *[None] * (len(hits) - len(logits))]
    return shaper.chosen(
        [Ranked(hits[i], probability(scores[i]), ranks[hits[i].key.document], judged[i]) for i in _best_first(scores)]
    )


def blend(retrieval: Sequence[float], logits: Sequence[float], weight: float) -> list[float]:
    """Per candidate, ``weight`` of its logit and the rest of its retrieval score, brought to the scale of the logits.

    Both are standardized over the candidates (z-scores), the retrieval scores are given the mean and the deviation of
    the logits. So 1 leaves the logits as they are, and 0 the order of retrieval; scores that are all alike say nothing.
    """
    if not logits:
        return []
    found, judged = np.asarray(retrieval, dtype=np.float64), np.asarray(logits, dtype=np.float64)
    z_scores = (found - found.mean()) / found.std() if np.ptp(found) > ALIKE else np.zeros_like(found)
    blended = weight * judged + (1 - weight) * (judged.mean() + judged.std() * z_scores)
    return [float(score) for score in blended]


def _with_others(retrieval: Sequence[float], logits: Sequence[float], weight: float) -> list[float]:
    judged, others = retrieval[: len(logits)], retrieval[len(logits) :]
    blended = blend(judged, logits, weight)
    if not others or not logits:
        return blended
    spread = np.std(judged) if np.ptp(judged) > ALIKE else np.std(retrieval)
    steep = float(np.std(logits) / (spread or 1.0))
    return [*blended, *(min(blended) - steep * (judged[-1] - score) for score in others)]


def _ranks(hits: Sequence[Hit]) -> dict[str, int]:
    """Of each document, from 1."""
    return {name: rank for rank, name in enumerate(dict.fromkeys(hit.key.document for hit in hits), 1)}


def _best_first(scores: Sequence[float]) -> list[int]:
    """Equals stay in the order of retrieval."""
    return sorted(range(len(scores)), key=lambda i: -scores[i])


def probability(logit: float) -> float:
    """That the answer is "yes" and not "no", of which the logit is the difference: a sigmoid."""
    return 1 / (1 + math.exp(-max(LEAST_LOGIT, logit)))
