"""``ports.Inventory`` over Qdrant's points API: every point by scrolling, and removed only as it was found."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from qdrant_client import grpc
from typing_extensions import override

from penstock.adapters.qdrant import points as convert
from penstock.adapters.qdrant.channel import about_no_document
from penstock.adapters.qdrant.filters import expired, of_tenant
from penstock.adapters.qdrant.scroll import MAJORITY, keep_part, scrolled
from penstock.adapters.qdrant.slices import slices
from penstock.adapters.qdrant.store import STRONG, require_completed
from penstock.core.inventory import Held, Sought
from penstock.core.ports import Inventory

HELD_FIELDS = (*convert.STORED_FIELDS, "tenant", "document", "chunk", "indexed_at", "expires_at", "source")


class QdrantInventory(Inventory):
    """Of one collection. A refusal is about no document: it is Misconfigured."""

    def __init__(
        self,
        points: Any,
        collection: str,
        *,
        points_per_request: int = 256,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``points`` is a stub of Qdrant's Points service, or the embedded one."""
        self._points, self._collection, self._size = points, collection, points_per_request
        self._now = now

    @override
    def scan(self, sought: Sought, part: int = 0, parts: int = 1) -> Iterator[Held]:
        where = _where(sought)
        keep_part(where, part, parts)
        with about_no_document():
            yield from map(held, scrolled(self._points, self._collection, where, HELD_FIELDS))

    @override
    def count(self, sought: Sought) -> int:
        request = grpc.CountPoints(
            collection_name=self._collection, filter=_where(sought), exact=True, read_consistency=MAJORITY
        )
        with about_no_document():
            return int(self._points.Count(request).result.count)

    @override
    def remove(self, found: Sequence[Held]) -> None:
        for some in slices(found, self._size):
            still = convert.any_of(convert.exactly(one.key, one.stored.order, one.stored.recipe) for one in some)
            request = grpc.DeletePoints(
                collection_name=self._collection,
                wait=True,
                ordering=STRONG,
                points=grpc.PointsSelector(filter=still),
            )
            with about_no_document():
                require_completed("Delete", self._points.Delete(request).result)

    @override
    def bury(self, anchors: Sequence[Held]) -> None:
        at = self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for some in slices(anchors, self._size):
            still = convert.any_of(convert.exactly(one.key, one.stored.order, one.stored.recipe) for one in some)
            request = grpc.UpsertPoints(
                collection_name=self._collection,
                wait=True,
                ordering=STRONG,
                points=[_tombstone(one, at) for one in some],
                update_filter=still,
            )
            with about_no_document():
                require_completed("Upsert", self._points.Upsert(request).result)


def held(point: grpc.RetrievedPoint) -> Held:
    """A point of a document, with what is read of it."""
    payload = point.payload
    told = (payload[name].string_value for name in ("indexed_at", "expires_at", "source"))
    return Held(convert.key_of(payload), convert.stored_of(payload), *told)


def _tombstone(held: Held, indexed_at: str) -> grpc.PointStruct:
    payload = {
        "tenant": held.key.tenant,
        "document": held.key.document,
        "chunk": 0,
        "version": held.stored.order.version,
        "sequence": held.stored.order.sequence,
        "recipe": held.stored.recipe,
        "indexed_at": indexed_at,
        "source": held.source,
        "deleted": True,
        "hashes": [],
    }
    none = grpc.Vectors(vectors=grpc.NamedVectors())
    return grpc.PointStruct(id=convert.point_id(held.key), vectors=none, payload=convert.to_payload(payload))


def _where(sought: Sought) -> grpc.Filter:
    """By conditions that every store answers: a tombstone is known by the text that it has not."""
    where = convert.documents_only()
    if sought.tenant is not None:
        where.must.extend(of_tenant(sought.tenant).must)
    if sought.documents:
        named = grpc.Match(keywords=grpc.RepeatedStrings(strings=sought.documents))
        where.must.append(grpc.Condition(field=grpc.FieldCondition(key="document", match=named)))
    if not sought.anchors:
        where.must.append(grpc.Condition(field=grpc.FieldCondition(key="chunk", range=grpc.Range(gte=1))))
    if sought.tombstones:
        where.must.append(grpc.Condition(is_empty=grpc.IsEmptyCondition(key="hash")))
    if sought.expired is not None:
        where.must.append(expired(sought.expired))
    return where
