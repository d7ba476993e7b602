"""What a query may ask of the order beside relevance: fresh, diverse, more than one chunk of a document. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from penstock.core.moments import as_stored
from penstock.core.paths import reached
from penstock.core.queries import Boost, Hit, Ranked, Shaping

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Shaper:
    """A query's wishes, at that moment; ``limit`` is how many hits are wanted, None for all."""

    shaping: Shaping
    now: datetime
    limit: int | None = None

    def boosted(self, hits: Sequence[Hit], scores: Sequence[float]) -> list[float]:
        """The scores, and ``weight`` of their deviations more for what is new; half of that after the half-life.

        The deviation is that of the candidates' scores, so that a weight means the same for every model.
        """
        boost = self.shaping.boost
        if boost is None or not hits:
            return list(scores)
        most = boost.weight * float(np.std(scores))
        return [score + most * freshness(hit, boost, self.now) for hit, score in zip(hits, scores, strict=True)]

    def chosen(self, ranked: Sequence[Ranked]) -> list[Ranked]:
        """So many chunks of each document, and of these, one after the other, what is good and unlike those before."""
        seen: Counter[str] = Counter()
        kept, threshold = [], self.shaping.threshold
        for one in ranked:
            if threshold and not threshold.passes(one):
                continue
            seen[one.hit.key.document] += 1
            if seen[one.hit.key.document] <= self.shaping.chunks_per_document:
                kept.append(one)
        return diverse(kept, self.shaping.diversity, self.limit)[: self.limit]


def freshness(hit: Hit, boost: Boost, now: datetime) -> float:
    """1 for what is new (or from the future), 1/2 after the half-life, 0 where the field holds no moment."""
    fields = {"timestamp": hit.timestamp, "metadata": hit.metadata}
    moments = [moment for value in reached(fields, boost.field) if (moment := as_stored(value)) is not None]
    if not moments:
        return 0.0
    age_s = max(0.0, (now - max(moments)).total_seconds())
    return float(0.5 ** (age_s / DAY_S / boost.half_life_days))


def diverse(ranked: Sequence[Ranked], share: float, limit: int | None) -> list[Ranked]:
    """Each next one is the best of what is left: maximal marginal relevance (Carbonell and Goldstein 1998).

    That is (1 - share) of its score, brought to 0 … 1 over these candidates, less share of its largest cosine with
    those before it. Candidates without a vector are like nothing.
    """
    if share == 0 or len(ranked) < 2:  # noqa: PLR2004  # nothing to be unlike
        return list(ranked)
    scores = np.array([one.score for one in ranked])
    relevance = (scores - scores.min()) / (np.ptp(scores) or 1.0)
    width = max((len(one.hit.vector) for one in ranked if one.hit.vector is not None), default=1)
    blank = np.zeros(width, np.float32)
    vectors = np.array([blank if one.hit.vector is None else one.hit.vector for one in ranked])
    left, order = np.ones(len(ranked), dtype=bool), []
    nearest = np.zeros(len(ranked))
    for _ in range(min(len(ranked), limit or len(ranked))):
        value = np.where(left, (1 - share) * relevance - share * nearest, -np.inf)
        best = int(np.argmax(value))
        left[best] = False
        order.append(ranked[best])
        likeness = vectors @ vectors[best]
        nearest = likeness if len(order) == 1 else np.maximum(nearest, likeness)
    return order
