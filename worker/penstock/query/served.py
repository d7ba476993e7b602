"""A collection, and the model that made it: what a query is embedded by is what it is looked up in."""

from collections.abc import Sequence
from typing import Any

from penstock.core.ports import Progress, Searcher
from penstock.core.queries import Lookup
from penstock.core.records import Place
from penstock.core.terms import MOST_TERMS, verbatim
from penstock.core.vectors import Vector
from penstock.query.candidates import Found
from penstock.query.microbatch import MicroBatcher
from penstock.query.ranking import disown, fused
from penstock.query.sides import BY_BOTH, QueryEncoder

QUERIES_AHEAD = 8
"""Queries are embedded together up to so many times what the model works on at once, to go on together."""

LOOKUPS = 256
"""Most queries in one request to the store; one by words counts as many as it has, see ``terms.reach``."""

LOOKUPS_AT_ONCE = 4
"""Requests to the store that may be under way: one that takes long keeps nobody else."""

PLACES = 1000
"""Most records in one question about progress."""


class Served:
    """Where queries go: each keeps to one of these from its first step to its last. For one event loop."""

    def __init__(
        self,
        encoder: QueryEncoder,
        store: Searcher,
        progress: Progress | None = None,
        terms_weight: float = BY_BOTH.terms_weight,
    ) -> None:
        """``progress`` is that of the workers that write the collection, if queries may wait for them."""
        self.encoder, self.store, self._terms_weight = encoder, store, terms_weight
        self.embed: MicroBatcher[Sequence[int], Vector] = MicroBatcher(
            lambda texts: list(encoder.embedder.embed(texts)), encoder.budget * QUERIES_AHEAD, len, encoder.budget
        )
        self.lookup: MicroBatcher[Lookup, Found] = MicroBatcher(
            self._look_up, LOOKUPS, _requests, in_flight=LOOKUPS_AT_ONCE
        )
        self.follow: MicroBatcher[Place, bool] | None = None
        if progress is not None:
            self.follow = MicroBatcher(progress.searchable, PLACES)

    @property
    def steps(self) -> dict[str, MicroBatcher[Any, Any]]:
        """The calls that queries share, by name."""
        return {"embed": self.embed, "retrieve": self.lookup}

    def close(self) -> None:
        """End the threads, once what is under way is done."""
        for step in (self.embed, self.lookup, self.follow):
            if step is not None:
                step.close()

    def _look_up(self, lookups: Sequence[Lookup]) -> list[Found]:
        """One request for the candidates of all, one for the anchors that did not come with them."""
        stored = self.store.search(lookups)
        return [
            Found(
                fused(hits, self._terms_weight, verbatim(lookup.text))[: lookup.limit] if lookup.text else hits,
                len(there) < lookup.limit,
            )
            for lookup, there, hits in zip(lookups, stored, disown(stored, self.store.read), strict=True)
        ]


def _requests(lookup: Lookup) -> int:
    """About how many queries a lookup becomes."""
    return 1 + min(MOST_TERMS, len(lookup.text.split()))
