"""What a page shows before the first search: how many documents there are, by what to narrow, and what to ask."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from penstock.core.errors import Refused
from penstock.core.filters import FieldType
from penstock.core.ports import Searcher
from penstock.query.http.errors import Rejected
from penstock.query.search import Search, TooLate

KEPT_S, KEPT = 10.0, 256
"""How long an overview is good enough, and of how many tenants one is remembered."""

LONGEST_S, MOST_AT_ONCE = 10.0, 16

MOST_VALUES = 8
COUNTED: tuple[FieldType, ...] = ("keyword", "integer", "bool")
"""Types of fields whose values repeat."""


@dataclass(slots=True)
class Overview:
    """Of each tenant's documents. ``fields`` are the declared ones, ``examples`` queries to begin with."""

    search: Search
    fields: Mapping[str, FieldType]
    examples: Sequence[str]
    clock: Callable[[], float] = time.monotonic
    _under_way: dict[str, "asyncio.Future[dict[str, Any]]"] = field(default_factory=dict, init=False)
    _known: "OrderedDict[str, tuple[float, dict[str, Any]]]" = field(default_factory=OrderedDict, init=False)

    async def of(self, tenant: str) -> dict[str, Any]:
        """{"documents", "facets", "examples"}; raises Unavailable, TooLate, and Rejected where too many are asked."""
        told = self._known.get(tenant)
        if told is None or self.clock() - told[0] > KEPT_S:
            told = self._known[tenant] = (self.clock(), await self._asked(tenant))
            self._known.move_to_end(tenant)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        return {**told[1], "examples": list(self.examples)}

    async def _asked(self, tenant: str) -> dict[str, Any]:
        """One question of the store for all who ask for this tenant at a time; it goes on when one of them goes."""
        if tenant not in self._under_way:
            if len(self._under_way) >= MOST_AT_ONCE:
                raise Rejected("busy", "too many tenants are counted just now")
            task = asyncio.ensure_future(self.search.look(self._counted, tenant))
            self._under_way[tenant] = task
            task.add_done_callback(partial(self._done, tenant))
        try:
            async with asyncio.timeout(LONGEST_S):
                return await asyncio.shield(self._under_way[tenant])
        except TimeoutError:
            raise TooLate(f"no answer within {LONGEST_S:g} s") from None

    def _done(self, tenant: str, task: "asyncio.Future[dict[str, Any]]") -> None:
        self._under_way.pop(tenant, None)
        if not task.cancelled():
            task.exception()  # nobody may be waiting for it any more

    def _counted(self, store: Searcher, tenant: str, now: datetime) -> dict[str, Any]:
        names = [name for name, kind in self.fields.items() if kind in COUNTED]
        facets = {name: _facet(store, tenant, now, name) for name in names}
        return {
            "documents": store.documents(tenant, now),
            "facets": {name: values for name, values in facets.items() if values},
        }


def _facet(store: Searcher, tenant: str, now: datetime, name: str) -> list[dict[str, Any]]:
    try:
        found = store.facet(tenant, now, f"metadata.{name}", MOST_VALUES)
    except Refused:  # declared after the collection was made, and without an index yet
        return []
    return [{"value": value, "documents": count} for value, count in found.items()]
