"""The vector store ports over Qdrant's points API."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from qdrant_client import grpc
from typing_extensions import override

from penstock.adapters.qdrant import counts
from penstock.adapters.qdrant import points as convert
from penstock.adapters.qdrant.channel import about_no_document
from penstock.adapters.qdrant.filters import living
from penstock.adapters.qdrant.lookups import hits, queries
from penstock.adapters.qdrant.scroll import MAJORITY, scrolled
from penstock.adapters.qdrant.shape import FULL, VECTOR, Shape, vector_of, vectors
from penstock.adapters.qdrant.slices import REQUEST_BYTES, Pace, in_requests, slices
from penstock.core.documents import ChunkKey, DocumentKey, Point, Stored
from penstock.core.errors import Overdue, Refused, Unavailable
from penstock.core.ports import Searcher, VectorStore
from penstock.core.queries import FacetCounts, Hit, Lookup, owned
from penstock.core.vectors import Vector

T = TypeVar("T")

STRONG = grpc.WriteOrdering(type=grpc.WriteOrderingType.Strong)


class QdrantStore(VectorStore, Searcher):
    """``ports.VectorStore`` and ``ports.Searcher`` on one collection.

    Writes are durable on return (``wait``, and the status checked), strongly ordered between replicas; reads ask
    a majority of them. Both mean nothing on a single node.
    """

    def __init__(
        self,
        points: Any,
        collection: str,
        shape: Shape,
        *,
        points_per_request: int = 256,
        requests_in_flight: int = 4,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``points`` is a stub of Qdrant's Points service, or the embedded one.

        Points that are written have vectors as wide as the widest of the ``shape``.
        """
        self._points = points
        self._collection = collection
        self._shape = shape
        self._size = points_per_request
        self._pace = Pace(points_per_request)
        self._pool = ThreadPoolExecutor(requests_in_flight, thread_name_prefix="qdrant")
        self._now = now

    @override
    def read(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
        stored: dict[ChunkKey, Stored] = {}
        with about_no_document():
            for part in self._each(self._get, slices(keys, self._size * 4)):
                stored |= part
        return stored

    @override
    def upsert(self, points: Sequence[Point]) -> None:
        at = self._stamp()
        self._write([convert.upsert_message(point, self._shape, at) for point in points], convert.upsert_guards(points))

    @override
    def patch(self, points: Sequence[Point]) -> None:
        """Whole points, with the vectors that are there: a change of payload alone costs a server nine times that."""
        ids = [convert.point_id(point.key) for point in points]
        found: dict[str, grpc.RetrievedPoint] = {}
        with about_no_document():
            for part in self._each(self._get_vectors, slices(ids, self._size)):
                found |= part
        at = self._stamp()
        pairs = [(point, found.get(stored_id.uuid)) for point, stored_id in zip(points, ids, strict=True)]
        kept = [(point, there) for point, there in pairs if there is not None and convert.holds(there, point)]
        messages = [convert.kept_message(point, there, self._shape, at) for point, there in kept]
        self._write(messages, convert.patch_guards([point for point, _ in kept]))

    @override
    def probe(self) -> None:
        """By a point that no reader meets."""
        message, guard = convert.probe(self._shape)
        self._update("Upsert", grpc.UpsertPoints, points=[message], update_filter=convert.any_of([guard]))
        doomed = grpc.PointsIdsList(ids=[message.id])
        self._update("Delete", grpc.DeletePoints, points=grpc.PointsSelector(points=doomed))

    @override
    def retract(self, points: Sequence[Point]) -> None:
        with about_no_document():
            for part in slices(points, self._size):
                these = convert.any_of(convert.exactly(point.key, point.event.order, point.recipe) for point in part)
                self._update("Delete", grpc.DeletePoints, points=grpc.PointsSelector(filter=these))

    @override
    def sweep(self, anchors: Mapping[DocumentKey, Stored]) -> None:
        """Finds first, and deletes only what is still older by then."""
        with about_no_document():
            doomed = self._left_behind(anchors)
            for group in slices(list(doomed.items()), self._size):
                still = convert.any_of(
                    convert.guarded(ids, anchors[key].order, anchors[key].recipe) for key, ids in group
                )
                self._update("Delete", grpc.DeletePoints, points=grpc.PointsSelector(filter=still))

    @property
    @override
    def has_terms(self) -> bool:
        return self._shape.terms is not None

    @override
    def search(self, lookups: Sequence[Lookup]) -> list[list[Hit]]:
        """In one call; where points have full vectors, scores are by them."""
        asked = [queries(self._collection, self._shape, lookup) for lookup in lookups]
        batch = grpc.QueryBatchPoints(
            collection_name=self._collection,
            query_points=[query for each in asked for query in each],
            read_consistency=MAJORITY,
        )
        found = iter(self._points.QueryBatch(batch).result if batch.query_points else ())
        return [
            hits(lookup, [part.result for part in islice(found, len(each))])
            for lookup, each in zip(lookups, asked, strict=True)
        ]

    @override
    def documents(self, tenant: str, now: datetime) -> int:
        return counts.documents(self._points, self._collection, tenant, now)

    @override
    def facet(self, tenant: str, now: datetime, field: str, most: int) -> FacetCounts:
        return counts.facet(self._points, self._collection, tenant, now, field, most)

    def vectors(self, tenant: str) -> tuple[list[Hit], Vector]:
        """Every chunk of a tenant that readers may see, scored 0, and its widest vector: ``[chunks, widest]``.

        Reads them all at once.
        """
        name = FULL if self._shape.full else VECTOR
        scrolled = [
            (convert.hit(point), point) for point in self._scroll(living(tenant, self._now()), convert.HIT_FIELDS, name)
        ]
        rows = {hit.key: vector_of(point, name) for hit, point in scrolled}
        kept = owned((hit for hit, _ in scrolled), {hit.key: hit.stored for hit, _ in scrolled if hit.key.chunk == 0})
        joined = np.array([rows[hit.key] for hit in kept], dtype=np.float32)
        return kept, joined.reshape(len(kept), self._shape.widest)

    def living(self) -> list[Hit]:
        """Every chunk that readers may see, expired ones among them, scored 0. Reads the whole collection at once."""
        hits = [convert.hit(point) for point in self._scroll(convert.documents_only(), convert.HIT_FIELDS)]
        return owned(hits, {hit.key: hit.stored for hit in hits if hit.key.chunk == 0})

    def _left_behind(self, anchors: Mapping[DocumentKey, Stored]) -> dict[DocumentKey, list[grpc.PointId]]:
        """The points of these documents that are older than their anchor."""
        tenants: dict[str, list[DocumentKey]] = {}
        for key in anchors:
            tenants.setdefault(key.tenant, []).append(key)
        doomed: dict[DocumentKey, list[grpc.PointId]] = {}
        for tenant, keys in tenants.items():
            for part in slices(keys, self._size * 4):
                where = convert.of_documents(tenant, [key.document for key in part])
                for point in self._scroll(where, convert.SWEEP_FIELDS):
                    key = DocumentKey(tenant, point.payload["document"].string_value)
                    there = convert.stored(convert.payload_of(point.payload))
                    if there.older(anchors[key].order, anchors[key].recipe):
                        doomed.setdefault(key, []).append(point.id)
        return doomed

    def _get(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
        ids = {key: convert.point_id(key) for key in keys}
        request = grpc.GetPoints(
            collection_name=self._collection,
            ids=ids.values(),
            with_payload=convert.fields(convert.STORED_FIELDS),
            read_consistency=MAJORITY,
        )
        points = {point.id.uuid: point for point in self._points.Get(request).result}
        return {
            key: convert.stored(convert.payload_of(points[point_id.uuid].payload))
            for key, point_id in ids.items()
            if point_id.uuid in points
        }

    def _get_vectors(self, ids: Sequence[grpc.PointId]) -> dict[str, grpc.RetrievedPoint]:
        request = grpc.GetPoints(
            collection_name=self._collection,
            ids=ids,
            with_payload=convert.fields(("hash",)),
            with_vectors=vectors(self._shape.names),
            read_consistency=MAJORITY,
        )
        return {point.id.uuid: point for point in self._points.Get(request).result}

    def _write(self, messages: Sequence[grpc.PointStruct], guards: Sequence[grpc.Condition]) -> None:
        """Each under its guard, in requests of so many points and so many bytes."""
        pairs = list(zip(messages, guards, strict=True))
        for _ in self._each(
            self._upsert, in_requests(pairs, self._pace.size, REQUEST_BYTES, lambda pair: pair[0].ByteSize())
        ):
            pass

    def _upsert(self, pairs: Sequence[tuple[grpc.PointStruct, grpc.Condition]]) -> None:
        """What was overdue is sent again in smaller requests, what was refused is halved."""
        messages, guards = zip(*pairs, strict=True)
        try:
            self._update("Upsert", grpc.UpsertPoints, points=messages, update_filter=convert.any_of(guards))
            self._pace.in_time(len(pairs))
        except Overdue:
            self._pace.overdue(len(pairs))
            raise
        except Refused:
            if len(pairs) == 1:
                raise
            middle = len(pairs) // 2
            self._upsert(pairs[:middle])
            self._upsert(pairs[middle:])

    def _scroll(self, where: grpc.Filter, names: Sequence[str], vector: str = "") -> Iterator[grpc.RetrievedPoint]:
        """All points that a filter accepts, page by page, with the vector of that name."""
        return scrolled(self._points, self._collection, where, names, vector)

    def _update(self, method: str, message: Callable[..., Any], **content: Any) -> None:
        """A durable write."""
        request = message(collection_name=self._collection, wait=True, ordering=STRONG, **content)
        require_completed(method, getattr(self._points, method)(request).result)

    def _each(self, action: Callable[[Sequence[Any]], T], parts: Sequence[Sequence[Any]]) -> Iterator[T]:
        """The parts' results in order, a few requests in flight."""
        if len(parts) == 1:
            return iter((action(parts[0]),))
        return self._pool.map(action, parts)

    def _stamp(self) -> str:
        return self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")


def require_completed(method: str, result: grpc.UpdateResult) -> None:
    """An answer other than completed counts as none."""
    if result.status != grpc.UpdateStatus.Completed:
        raise Unavailable(f"Qdrant: {method} is {grpc.UpdateStatus.Name(result.status)}, not completed")
