"""Which order to serve: that of the search, of the reranker, or what both say together. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np

from penstock.evaluate.bootstrap import Gain, gain

SEARCH, RERANKER, BOTH = "search", "reranker", "both"

SEED = 0
"""Of the bootstrap: the same figures every time."""


def compared(by_query: Mapping[str, Sequence[float]], weight: float) -> tuple[dict[str, Gain], str]:
    """What each order has over those before it, and which to serve; ``by_query`` has nDCG@10 of each query.

    ``weight`` is that of the order by both. An order whose gain over the search may be chance is no reason to rerank.
    """
    orders = [order for order in (SEARCH, RERANKER, BOTH) if order in by_query]
    gains = {
        f"{later} over {earlier}": gain(by_query[earlier], by_query[later], SEED)
        for place, later in enumerate(orders)
        for earlier in orders[:place]
    }
    best = max(orders, key=lambda order: float(np.mean(by_query[order])))
    if best == SEARCH:
        return gains, "serve the search alone, PENSTOCK_RERANK__ENABLED=false: on these queries reranking does not help"
    over = gains[f"{best} over {SEARCH}"]
    setting = f"PENSTOCK_RERANK__WEIGHT={weight if best == BOTH else 1:g}"
    if over.low > 0:
        return gains, f"serve {setting}: {over.difference:+.4f} over the search alone"
    queries = len(by_query[best])
    return gains, f"{setting} looks best, but {queries} queries cannot tell it from the search alone"
