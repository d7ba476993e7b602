"""Which mode and which order to serve: vectors, words or both; the search, the reranker or what both say. Pure."""

from collections.abc import Mapping, Sequence

from penstock.core.queries import Mode
from penstock.evaluate.bootstrap import Gain, gain

SEARCH, RERANKER, BOTH = "search", "reranker", "both"

SEED = 0
"""Of the bootstrap: the same figures every time."""


EVEN = 0.5
"""Neither says more."""


def weight_of_both(served: float) -> float:
    """What the order by both is measured at: as it is served; evenly, where one of them alone is served."""
    return served if 0 < served < 1 else EVEN


def compared(by_query: Mapping[str, Sequence[float]], weight: float) -> tuple[dict[str, Gain], str]:
    """What each order has over those before it, and which to serve; ``by_query`` has nDCG@10 of each query.

    ``weight`` is that of the order by both. Served is the order that gains most over the search, among those whose
    gain is hardly chance.
    """
    orders = [order for order in (SEARCH, RERANKER, BOTH) if order in by_query]
    gains = {
        f"{later} over {earlier}": gain(by_query[earlier], by_query[later], SEED)
        for place, later in enumerate(orders)
        for earlier in orders[:place]
    }
    over = {order: gains[f"{order} over {SEARCH}"] for order in orders if order != SEARCH}
    sure = {order: one for order, one in over.items() if one.low > 0}
    best = max(sure or over, key=lambda order: over[order].difference)
    setting = f"PENSTOCK_RERANK__WEIGHT={weight if best == BOTH else 1:g}"
    if sure:
        return gains, f"serve {setting}: {over[best].difference:+.4f} over the search alone"
    if over[best].difference <= 0:
        return gains, "serve the search alone, PENSTOCK_RERANK__ENABLED=false: on these queries reranking does not help"
    queries = len(by_query[best])
    return gains, f"{setting} looks best, but {queries} queries cannot tell it from the search alone"


def compared_modes(by_query: Mapping[str, Sequence[float]]) -> tuple[dict[str, Gain], str]:
    """What words, and both together, have over vectors alone, and which to serve; as ``compared``."""
    over = {mode: gain(by_query[Mode.DENSE], by_query[mode], SEED) for mode in by_query if mode != Mode.DENSE}
    gains = {f"{mode} over {Mode.DENSE}": one for mode, one in over.items()}
    sure = {mode: one for mode, one in over.items() if one.low > 0}
    if sure:
        best = max(sure, key=lambda mode: sure[mode].difference)
        return gains, f"serve PENSTOCK_QUERY__MODE={best}: {sure[best].difference:+.4f} over {Mode.DENSE}"
    if any(one.high < 0 for one in over.values()) and all(one.difference <= 0 for one in over.values()):
        return gains, f"serve PENSTOCK_QUERY__MODE={Mode.DENSE}: on these queries words do not help"
    return gains, f"{len(by_query[Mode.DENSE])} queries cannot tell the modes apart: hybrid finds exact words, too"
