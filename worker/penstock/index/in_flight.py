"""The documents that are in the pipe."""

import threading
from collections.abc import Iterable

from penstock.core.documents import DocumentKey, Order
from penstock.index.plan import Write


class InFlight:
    """The documents between planning and the end of their write, with the highest order of each.

    What the store says of them may be out of date, so they are planned without reuse of stored chunks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: dict[DocumentKey, list[Order]] = {}

    def among(self, keys: Iterable[DocumentKey]) -> dict[DocumentKey, Order]:
        """Those of the documents that are in the pipe."""
        with self._lock:
            return {key: max(self._orders[key]) for key in keys if key in self._orders}

    def enter(self, writes: Iterable[Write]) -> None:
        """These are about to be embedded and written."""
        with self._lock:
            for write in writes:
                self._orders.setdefault(write.event.key, []).append(write.event.order)

    def leave(self, writes: Iterable[Write]) -> None:
        """These, as they entered, are written."""
        with self._lock:
            for write in writes:
                self._orders[write.event.key].remove(write.event.order)
                if not self._orders[write.event.key]:
                    del self._orders[write.event.key]
