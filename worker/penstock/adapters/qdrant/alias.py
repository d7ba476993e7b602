"""A reader's way through an alias: where it points to another collection of the same model, that is searched."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NoReturn

from typing_extensions import override

from penstock.adapters.qdrant.collection import NoCollection
from penstock.adapters.qdrant.connection import Collection
from penstock.core.documents import ChunkKey, Stored
from penstock.core.errors import Misconfigured, Unavailable
from penstock.core.ports import Searcher
from penstock.core.queries import FacetCounts, Hit, Lookup
from penstock.observe.log import log

LOOK_AGAIN_S = 30.0
"""Between two looks at where the alias points to."""


class AliasSearcher(Searcher):
    """Searches the collection that the alias points to, and looks from time to time whether it still does."""

    def __init__(
        self,
        store: Searcher,
        now: Collection,
        look: Callable[[], tuple[Searcher, Collection]],
        unfit: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``unfit`` hears of a collection that this worker cannot search, which only another start can mend."""
        self._store = store
        self._now = now
        self._look = look
        self._unfit = unfit
        self._looked = time.monotonic()

    @property
    @override
    def has_terms(self) -> bool:
        return self._store.has_terms

    @override
    def search(self, lookups: Sequence[Lookup]) -> list[list[Hit]]:
        if time.monotonic() - self._looked > LOOK_AGAIN_S:
            self._follow()
        try:
            return self._store.search(lookups)
        except Unavailable:
            self._looked = 0.0  # the collection may be gone: look before the next search
            raise

    @override
    def read(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
        return self._store.read(keys)

    @override
    def documents(self, tenant: str, now: datetime) -> int:
        return self._store.documents(tenant, now)

    @override
    def facet(self, tenant: str, now: datetime, field: str, most: int) -> FacetCounts:
        return self._store.facet(tenant, now, field, most)

    def _follow(self) -> None:
        try:
            store, collection = self._look()
        except NoCollection as error:
            raise Unavailable(str(error)) from None
        except Misconfigured as error:
            self._end(str(error))
        except Unavailable:
            return  # the search itself tells whether the store is away
        self._looked = time.monotonic()
        if collection.shape.widths != self._now.shape.widths:
            self._end(
                f"{collection.name} has vectors {collection.shape}, not {self._now.shape}: start the worker again"
            )
        if collection != self._now:
            log.info("collection_opened", collection=collection.name, instead_of=self._now.name)
            self._store, self._now = store, collection

    def _end(self, reason: str) -> NoReturn:
        self._unfit(reason)
        raise Unavailable(reason)
