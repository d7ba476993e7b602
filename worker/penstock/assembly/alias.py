"""Which collection queries are answered from, as the readers' alias has it, and by which of the models at hand."""

from collections.abc import Callable

from penstock.adapters.qdrant.collection import NoCollection
from penstock.adapters.qdrant.connection import Collection
from penstock.core.errors import Misconfigured, Unavailable
from penstock.observe.log import log
from penstock.query.served import Served


class Alias:
    """Follows the alias. Collections that were served once are kept open: readers may be sent back to them."""

    def __init__(
        self, find: Callable[[], Collection], serve: Callable[[Collection], Served], unfit: Callable[[str], None]
    ) -> None:
        """``unfit`` hears of a collection that this worker cannot search, which only another start can mend."""
        self._find, self._serve, self._unfit = find, serve, unfit
        self._now = find()
        self._opened = {self._now: self._open(self._now)}

    def __call__(self) -> Served:
        """What is to be served now; raises Unavailable where the alias leads nowhere, or to what is unfit."""
        try:
            found = self._find()
            if found not in self._opened:
                self._opened[found] = self._open(found)
        except NoCollection as error:
            raise Unavailable(str(error)) from None
        except Misconfigured as error:
            self._unfit(str(error))
            raise Unavailable(str(error)) from None
        except Unavailable:
            return self._opened[self._now]  # the search itself tells whether the store is away
        if found != self._now:
            log.info("collection_switched", collection=found.name, instead_of=self._now.name)
            self._now = found
        return self._opened[found]

    def _open(self, found: Collection) -> Served:
        shape = found.shape
        log.info("collection_opened", collection=found.name, vectors=shape.dense, full=shape.full,
                 terms=shape.terms is not None)  # fmt: skip
        return self._serve(found)
