"""Qdrant without a server: the services of its gRPC API over the client's local mode, in this process.

Local mode is not thread-safe, so one lock is around every call. Its conditions look at every point; those that
name ids or documents are answered here by looking at those only, which is what a server's index does.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import grpc as rpc
from qdrant_client import QdrantClient, grpc, models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc, payload_to_grpc
from qdrant_client.local.payload_filters import check_filter

from penstock.adapters.qdrant.local_search import LocalIndex
from penstock.core.errors import Misconfigured

T = TypeVar("T")


class LocalError(rpc.RpcError):  # type: ignore[misc]  # the library is untyped
    """An error of local mode, as a server would answer it."""

    def __init__(self, code: rpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self._code = code

    def code(self) -> rpc.StatusCode:
        """The gRPC status."""
        return self._code

    def details(self) -> str:
        """What was wrong."""
        return str(self)


class LocalQdrant:
    """The client's local mode behind a lock, as the two services ``points`` and ``collections``."""

    def __init__(self, folder: Path | None = None) -> None:
        """Keep the points in a folder, or only in memory. Raises Misconfigured when another process has it."""
        self._lock = threading.Lock()
        try:
            self._client = QdrantClient(":memory:") if folder is None else QdrantClient(path=str(folder))
        except RuntimeError as error:
            if "already accessed" not in str(error):
                raise
            raise Misconfigured(
                f"the folder {folder} is in use by another process: end that, or take another"
            ) from None
        except OSError as error:
            raise Misconfigured(f"cannot use the folder {folder}: {error.strerror or error}") from error
        self.points = LocalPoints(self)
        self.collections = LocalCollections(self)

    def run(self, action: Callable[[QdrantClient], T]) -> T:
        """Call local mode, alone; its complaints become gRPC errors."""
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of its size, which is why a server exists
            try:
                return action(self._client)
            except ValueError as error:
                missing = "not found" in str(error)
                code = rpc.StatusCode.NOT_FOUND if missing else rpc.StatusCode.INVALID_ARGUMENT
                raise LocalError(code, str(error)) from error

    def version(self) -> str:
        """Local mode is of the client's."""
        return metadata.version("qdrant-client")

    def renew(self) -> None:
        """Nothing is between this and its caller."""

    def close(self) -> None:
        """Release the folder."""
        with self._lock:
            self._client.close()


class LocalPoints:
    """Qdrant's Points service; the methods, named as there, keep its contract."""

    def __init__(self, local: LocalQdrant) -> None:
        self._local = local
        self._indexes: dict[str, LocalIndex] = {}

    def Upsert(self, request: grpc.UpsertPoints, timeout: float | None = None) -> grpc.PointsOperationResponse:
        points = [GrpcToRest.convert_point_struct(point) for point in request.points]
        guard = GrpcToRest.convert_filter(request.update_filter) if request.HasField("update_filter") else None

        def upsert(client: QdrantClient) -> None:
            client.upsert(request.collection_name, points, update_filter=guard)
            if (index := self._indexes.get(request.collection_name)) is not None:
                index.note(points)

        self._local.run(upsert)
        return grpc.PointsOperationResponse(result=_completed())

    def Delete(self, request: grpc.DeletePoints, timeout: float | None = None) -> grpc.PointsOperationResponse:
        def delete(client: QdrantClient) -> None:
            ids = _matching(client, request.collection_name, request.points)
            if ids:
                client.delete(request.collection_name, ids)
                if (index := self._indexes.get(request.collection_name)) is not None:
                    index.forget(ids)

        self._local.run(delete)
        return grpc.PointsOperationResponse(result=_completed())

    def Get(self, request: grpc.GetPoints, timeout: float | None = None) -> grpc.GetResponse:
        ids = [GrpcToRest.convert_point_id(point_id) for point_id in request.ids]
        include = GrpcToRest.convert_with_payload_selector(request.with_payload)
        vectors = list(request.with_vectors.include.names) or False
        points = self._local.run(
            lambda client: client.retrieve(request.collection_name, ids, with_payload=include, with_vectors=vectors)
        )
        return grpc.GetResponse(result=[RestToGrpc.convert_retrieved_point(point) for point in points])

    def Scroll(self, request: grpc.ScrollPoints, timeout: float | None = None) -> grpc.ScrollResponse:
        where = GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None
        offset = GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None
        include = GrpcToRest.convert_with_payload_selector(request.with_payload)
        vectors = list(request.with_vectors.include.names) or False

        def scroll(client: QdrantClient) -> tuple[list[models.Record], models.ExtendedPointId | None]:
            name = request.collection_name
            if where is not None and offset is None and (documents := _documents(where)):
                ids = self._index(client, name).of(documents)
                if len(ids) <= request.limit:
                    found = client.retrieve(name, ids, with_payload=True) if ids else []
                    passed = [point.id for point in found if check_filter(where, point.payload or {}, point.id, {})]
                    return client.retrieve(name, passed, include, vectors) if passed else [], None
            return client.scroll(name, where, request.limit, None, offset, include, vectors)

        points, following = self._local.run(scroll)
        next_page = None if following is None else RestToGrpc.convert_extended_point_id(following)
        result = [RestToGrpc.convert_retrieved_point(point) for point in points]
        return grpc.ScrollResponse(result=result, next_page_offset=next_page)

    def Count(self, request: grpc.CountPoints, timeout: float | None = None) -> grpc.CountResponse:
        where = GrpcToRest.convert_filter(request.filter)
        found = self._local.run(lambda client: client.count(request.collection_name, where))
        return grpc.CountResponse(result=grpc.CountResult(count=found.count))

    def Facet(self, request: grpc.FacetCounts, timeout: float | None = None) -> grpc.FacetResponse:
        name, where = request.collection_name, GrpcToRest.convert_filter(request.filter)
        found = self._local.run(lambda client: client.facet(name, request.key, where, request.limit, exact=True))
        return grpc.FacetResponse(hits=[RestToGrpc.convert_facet_value_hit(hit) for hit in found.hits])

    def _index(self, client: QdrantClient, collection: str) -> LocalIndex:
        if collection not in self._indexes:
            self._indexes[collection] = LocalIndex(client, collection)
        return self._indexes[collection]

    def QueryBatch(self, request: grpc.QueryBatchPoints, timeout: float | None = None) -> grpc.QueryBatchResponse:
        hits = self._local.run(lambda client: [self._query(client, query) for query in request.query_points])
        each = [[RestToGrpc.convert_scored_point(point) for point in points] for points in hits]
        return grpc.QueryBatchResponse(result=[grpc.BatchResult(result=points) for points in each])

    def _query(self, client: QdrantClient, request: grpc.QueryPoints) -> list[models.ScoredPoint]:
        """What a query finds, with the payload that it asks for."""
        index, name = self._index(client, request.collection_name), request.collection_name
        wanted = request.HasField("with_payload")
        include = GrpcToRest.convert_with_payload_selector(request.with_payload) if wanted else False
        vectors = list(request.with_vectors.include.names) or False
        if not request.prefetch and request.query.nearest.HasField("dense"):
            where = GrpcToRest.convert_filter(request.filter)
            return index.nearest(request, where, with_payload=include, with_vectors=vectors)
        best = index.best(request)
        read = client.retrieve(name, [at for at, _ in best], include, vectors) if wanted and best else []
        found = {point.id: (point.payload, point.vector) for point in read}
        return [
            models.ScoredPoint(id=at, version=0, score=score, payload=payload, vector=vector)
            for at, score in best
            for payload, vector in [found.get(at, (None, None))]
        ]

    def CreateFieldIndex(
        self, request: grpc.CreateFieldIndexCollection, timeout: float | None = None
    ) -> grpc.PointsOperationResponse:
        """Local mode has no indexes and needs none."""
        return grpc.PointsOperationResponse(result=_completed())


class LocalCollections:
    """Qdrant's Collections service; the methods, named as there, keep its contract."""

    def __init__(self, local: LocalQdrant) -> None:
        self._local = local

    def CollectionExists(
        self, request: grpc.CollectionExistsRequest, timeout: float | None = None
    ) -> grpc.CollectionExistsResponse:
        exists = self._local.run(lambda client: client.collection_exists(request.collection_name))
        return grpc.CollectionExistsResponse(result=grpc.CollectionExists(exists=exists))

    def Create(self, request: grpc.CreateCollection, timeout: float | None = None) -> grpc.CollectionOperationResponse:
        vectors = GrpcToRest.convert_vectors_config(request.vectors_config)
        sparse = GrpcToRest.convert_sparse_vector_config(request.sparse_vectors_config)
        remembered = GrpcToRest.convert_payload(request.metadata)
        self._local.run(
            lambda client: client.create_collection(request.collection_name, vectors, sparse, metadata=remembered)
        )
        return grpc.CollectionOperationResponse(result=True)

    def Delete(self, request: grpc.DeleteCollection, timeout: float | None = None) -> grpc.CollectionOperationResponse:
        gone = self._local.run(lambda client: client.delete_collection(request.collection_name))
        return grpc.CollectionOperationResponse(result=gone)

    def List(self, request: grpc.ListCollectionsRequest, timeout: float | None = None) -> grpc.ListCollectionsResponse:
        listed = self._local.run(lambda client: client.get_collections()).collections
        return grpc.ListCollectionsResponse(collections=[grpc.CollectionDescription(name=one.name) for one in listed])

    def Update(self, request: grpc.UpdateCollection, timeout: float | None = None) -> grpc.CollectionOperationResponse:
        remembered = GrpcToRest.convert_payload(request.metadata)
        self._local.run(lambda client: client.update_collection(request.collection_name, metadata=remembered))
        return grpc.CollectionOperationResponse(result=True)

    def Get(
        self, request: grpc.GetCollectionInfoRequest, timeout: float | None = None
    ) -> grpc.GetCollectionInfoResponse:
        info = self._local.run(lambda client: client.get_collection(request.collection_name))
        remembered = payload_to_grpc(dict(info.config.metadata or {}))
        vectors = RestToGrpc.convert_vectors_config(info.config.params.vectors or {})
        sparse = RestToGrpc.convert_sparse_vector_config(info.config.params.sparse_vectors or {})
        params = grpc.CollectionParams(vectors_config=vectors, sparse_vectors_config=sparse)
        config = grpc.CollectionConfig(metadata=remembered, params=params)
        return grpc.GetCollectionInfoResponse(result=grpc.CollectionInfo(config=config))

    def UpdateAliases(
        self, request: grpc.ChangeAliases, timeout: float | None = None
    ) -> grpc.CollectionOperationResponse:
        actions = [GrpcToRest.convert_alias_operations(action) for action in request.actions]
        self._local.run(lambda client: client.update_collection_aliases(actions))
        return grpc.CollectionOperationResponse(result=True)

    def ListAliases(self, request: grpc.ListAliasesRequest, timeout: float | None = None) -> grpc.ListAliasesResponse:
        listed = self._local.run(lambda client: client.get_aliases()).aliases
        aliases = [grpc.AliasDescription(alias_name=a.alias_name, collection_name=a.collection_name) for a in listed]
        return grpc.ListAliasesResponse(aliases=aliases)


def _completed() -> grpc.UpdateResult:
    return grpc.UpdateResult(operation_id=0, status=grpc.UpdateStatus.Completed)


def _matching(client: QdrantClient, collection: str, selector: grpc.PointsSelector) -> list[models.ExtendedPointId]:
    """The ids that are listed, or those that a filter names and whose points it accepts."""
    if selector.HasField("points"):
        return [GrpcToRest.convert_point_id(point_id) for point_id in selector.points.ids]
    where = GrpcToRest.convert_filter(selector.filter)
    named: list[models.ExtendedPointId] = list(_named(where))
    points = client.retrieve(collection, named, with_payload=True) if named else []
    return [point.id for point in points if check_filter(where, point.payload or {}, point.id, {})]


def _documents(where: models.Filter) -> list[str]:
    """Those that a filter requires one of; none where it does not."""
    for condition in where.must if isinstance(where.must, list) else ():
        match = (
            condition.match if isinstance(condition, models.FieldCondition) and condition.key == "document" else None
        )
        if isinstance(match, models.MatchAny):
            return [str(document) for document in match.any]
    return []


def _named(where: models.Filter) -> Iterator[models.ExtendedPointId]:
    """The ids in a filter that requires some, or alternatives of which each requires some."""
    for condition in [*(where.must or ()), *(where.should or ())]:
        if isinstance(condition, models.HasIdCondition):
            yield from condition.has_id
        elif isinstance(condition, models.Filter):
            yield from _named(condition)
