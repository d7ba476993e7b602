"""Which of the hits count, and which document comes first. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence

from penstock.core.documents import ChunkKey, Stored
from penstock.core.queries import Hit, Ranked, owned

LEAST_LOGIT = -700.0
"""Below it the exponential would overflow."""


def disown(
    candidates: Sequence[Sequence[Hit]], read: Callable[[Sequence[ChunkKey]], Mapping[ChunkKey, Stored]]
) -> list[list[Hit]]:
    """Without the hits that do not belong to their document any more; reads the anchors that are not among them."""
    anchors: dict[ChunkKey, Stored] = {hit.key: hit.stored for hits in candidates for hit in hits if hit.key.chunk == 0}
    wanted = {ChunkKey(hit.key.tenant, hit.key.document, 0) for hits in candidates for hit in hits}
    if missing := [key for key in wanted if key not in anchors]:
        anchors |= read(missing)
    return [owned(hits, anchors) for hits in candidates]


def best_per_document(hits: Sequence[Hit], logits: Sequence[float] | None) -> list[Ranked]:
    """Documents, the best first, each by its best chunk: by logit, or in the order of retrieval without any."""
    ranks: dict[str, int] = {}
    for hit in hits:
        ranks.setdefault(hit.key.document, len(ranks) + 1)
    if logits is None:
        order = list(range(len(hits)))
        scores = [hit.score for hit in hits]
    else:
        order = sorted(range(len(hits)), key=lambda i: -logits[i])  # stable: equals stay in the order of retrieval
        scores = [probability(logit) for logit in logits]
    best: dict[str, Ranked] = {}
    for i in order:
        document = hits[i].key.document
        best.setdefault(document, Ranked(hits[i], scores[i], ranks[document]))
    return list(best.values())


def probability(logit: float) -> float:
    """That the answer is "yes" and not "no", of which the logit is the difference: a sigmoid."""
    return 1 / (1 + math.exp(-max(LEAST_LOGIT, logit)))
