"""Qdrant's own engine in this process, as the two services of its gRPC API: what guards and filters really mean.

It has no collections, no aliases and no metadata; these are kept here.
"""

import shutil
import threading
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc as rpc
import qdrant_edge as edge
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc, payload_to_grpc

from penstock.adapters.qdrant.channel import Services
from penstock.adapters.qdrant.embedded import LocalError

KINDS = {
    grpc.FieldType.FieldTypeKeyword: edge.PayloadSchemaType.Keyword,
    grpc.FieldType.FieldTypeInteger: edge.PayloadSchemaType.Integer,
    grpc.FieldType.FieldTypeFloat: edge.PayloadSchemaType.Float,
    grpc.FieldType.FieldTypeBool: edge.PayloadSchemaType.Bool,
    grpc.FieldType.FieldTypeDatetime: edge.PayloadSchemaType.Datetime,
}


class Collection:
    """A shard, and what a server would know of it."""

    def __init__(self, folder: Path, request: grpc.CreateCollection) -> None:
        folder.mkdir(parents=True)
        self.vectors = request.vectors_config
        self.metadata = GrpcToRest.convert_payload(request.metadata)
        sizes = {name: params.size for name, params in request.vectors_config.params_map.map.items()}
        made = {name: edge.EdgeVectorParams(size=size, distance=edge.Distance.Cosine) for name, size in sizes.items()}
        self.sparse = request.sparse_vectors_config
        rare = {name: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf) for name in self.sparse.map}
        self.shard = edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors=made, sparse_vectors=rare))


class EdgeQdrant(Services):
    """Collections in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.Lock()
        self.held: dict[str, Collection] = {}
        self.aliases: dict[str, str] = {}
        self._points, self._collections = EdgePoints(self), EdgeCollections(self)

    @property
    def points(self) -> Any:
        return self._points

    @property
    def collections(self) -> Any:
        return self._collections

    def version(self) -> str:
        return "1.20.0"

    def shard(self, name: str) -> Any:
        return self.collection(name).shard

    def collection(self, name: str) -> Collection:
        actual = self.aliases.get(name, name)
        if actual not in self.held:
            raise LocalError(rpc.StatusCode.NOT_FOUND, f"Collection {name} not found")
        return self.held[actual]

    def renew(self) -> None:
        pass

    def close(self) -> None:
        for collection in self.held.values():
            collection.shard.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class EdgePoints:
    """The Points service; the methods are named as there.

    Booleans are not told from numbers by this version's binding: a condition on one finds nothing.
    """

    def __init__(self, edge_qdrant: EdgeQdrant) -> None:
        self._edge = edge_qdrant

    def Upsert(self, request: grpc.UpsertPoints, timeout: float) -> grpc.PointsOperationResponse:  # noqa: ARG002, N802
        points = [_point(at) for at in request.points]
        guard = _filter(request.update_filter) if request.HasField("update_filter") else None
        return self._update(request, edge.UpdateOperation.upsert_points(points, guard))

    def Delete(self, request: grpc.DeletePoints, timeout: float) -> grpc.PointsOperationResponse:  # noqa: ARG002, N802
        if request.points.HasField("points"):
            ids: list[Any] = [_id(point_id) for point_id in request.points.points.ids]
            return self._update(request, edge.UpdateOperation.delete_points(ids))
        doomed = _filter(request.points.filter)
        return self._update(request, edge.UpdateOperation.delete_points_by_filter(doomed))

    def CreateFieldIndex(self, request: grpc.CreateFieldIndexCollection, timeout: float) -> Any:  # noqa: ARG002, N802
        made = edge.UpdateOperation.create_field_index(request.field_name, KINDS[request.field_type])
        return self._update(request, made)

    def Get(self, request: grpc.GetPoints, timeout: float) -> grpc.GetResponse:  # noqa: ARG002, N802
        ids = [_id(point_id) for point_id in request.ids]
        vectors = list(request.with_vectors.include.names) or False
        found = self._edge.shard(request.collection_name).retrieve(ids, _fields(request), vectors)
        return grpc.GetResponse(result=[_retrieved(record) for record in found])

    def Scroll(self, request: grpc.ScrollPoints, timeout: float) -> grpc.ScrollResponse:  # noqa: ARG002, N802
        where = _filter(request.filter) if request.HasField("filter") else None
        offset = _id(request.offset) if request.HasField("offset") else None
        vectors = list(request.with_vectors.include.names) or False
        asked = edge.ScrollRequest(
            offset=offset, limit=request.limit, filter=where, with_payload=_fields(request), with_vector=vectors
        )
        found, following = self._edge.shard(request.collection_name).scroll(asked)
        page = None if following is None else grpc.PointId(uuid=str(following))
        return grpc.ScrollResponse(result=[_retrieved(record) for record in found], next_page_offset=page)

    def QueryBatch(self, request: grpc.QueryBatchPoints, timeout: float) -> grpc.QueryBatchResponse:  # noqa: ARG002, N802
        asked = edge.QueryBatchRequest([_query(query) for query in request.query_points])
        hits = self._edge.shard(request.collection_name).query_batch(asked)
        return grpc.QueryBatchResponse(
            result=[grpc.BatchResult(result=[_scored(point) for point in points]) for points in hits]
        )

    def Count(self, request: grpc.CountPoints, timeout: float) -> grpc.CountResponse:  # noqa: ARG002, N802
        found = self._edge.shard(request.collection_name).count(
            edge.CountRequest(exact=request.exact, filter=_filter(request.filter))
        )
        return grpc.CountResponse(result=grpc.CountResult(count=found))

    def Facet(self, request: grpc.FacetCounts, timeout: float) -> grpc.FacetResponse:  # noqa: ARG002, N802
        asked = edge.FacetRequest(request.key, request.limit, True, _filter(request.filter))
        found = self._edge.shard(request.collection_name).facet(asked)
        return grpc.FacetResponse(
            hits=[grpc.FacetHit(value=_facet_value(hit.value), count=hit.count) for hit in found.hits]
        )

    def _update(self, request: Any, operation: Any) -> grpc.PointsOperationResponse:
        shard = self._edge.shard(request.collection_name)
        try:
            shard.update(operation)
        except Exception as error:
            raise LocalError(rpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        done = grpc.UpdateResult(operation_id=0, status=grpc.UpdateStatus.Completed)
        return grpc.PointsOperationResponse(result=done)


class EdgeCollections:
    """The Collections service; the methods are named as there."""

    def __init__(self, edge_qdrant: EdgeQdrant) -> None:
        self._edge = edge_qdrant

    def CollectionExists(self, request: Any, timeout: float) -> Any:  # noqa: ARG002, N802
        exists = request.collection_name in self._edge.held
        return grpc.CollectionExistsResponse(result=grpc.CollectionExists(exists=exists))

    def Create(self, request: grpc.CreateCollection, timeout: float) -> Any:  # noqa: ARG002, N802
        name = request.collection_name
        if name in self._edge.held:
            raise LocalError(rpc.StatusCode.ALREADY_EXISTS, f"Collection {name} already exists")
        self._edge.held[name] = Collection(self._edge.folder / name, request)
        return grpc.CollectionOperationResponse(result=True)

    def Delete(self, request: grpc.DeleteCollection, timeout: float) -> Any:  # noqa: ARG002, N802
        self._edge.held.pop(request.collection_name).shard.close()
        shutil.rmtree(self._edge.folder / request.collection_name, ignore_errors=True)
        return grpc.CollectionOperationResponse(result=True)

    def List(self, request: Any, timeout: float) -> grpc.ListCollectionsResponse:  # noqa: ARG002, N802
        return grpc.ListCollectionsResponse(
            collections=[grpc.CollectionDescription(name=name) for name in self._edge.held]
        )

    def Update(self, request: grpc.UpdateCollection, timeout: float) -> Any:  # noqa: ARG002, N802
        held = self._edge.collection(request.collection_name)
        held.metadata |= GrpcToRest.convert_payload(request.metadata)
        return grpc.CollectionOperationResponse(result=True)

    def Get(self, request: grpc.GetCollectionInfoRequest, timeout: float) -> Any:  # noqa: ARG002, N802
        held = self._edge.collection(request.collection_name)
        params = grpc.CollectionParams(vectors_config=held.vectors, sparse_vectors_config=held.sparse)
        config = grpc.CollectionConfig(metadata=payload_to_grpc(held.metadata), params=params)
        return grpc.GetCollectionInfoResponse(result=grpc.CollectionInfo(config=config))

    def UpdateAliases(self, request: grpc.ChangeAliases, timeout: float) -> Any:  # noqa: ARG002, N802
        for action in request.actions:
            if action.HasField("create_alias"):
                self._edge.aliases[action.create_alias.alias_name] = action.create_alias.collection_name
            elif action.HasField("delete_alias"):
                self._edge.aliases.pop(action.delete_alias.alias_name, None)
        return grpc.CollectionOperationResponse(result=True)

    def ListAliases(self, request: Any, timeout: float) -> grpc.ListAliasesResponse:  # noqa: ARG002, N802
        aliases = self._edge.aliases.items()
        listed = [grpc.AliasDescription(alias_name=name, collection_name=actual) for name, actual in aliases]
        return grpc.ListAliasesResponse(aliases=listed)


def _facet_value(value: Any) -> grpc.FacetValue:
    if isinstance(value, bool):
        return grpc.FacetValue(bool_value=value)
    if isinstance(value, int):
        return grpc.FacetValue(integer_value=value)
    return grpc.FacetValue(string_value=value)


def _id(point_id: grpc.PointId) -> UUID:
    return UUID(point_id.uuid)


def _point(point: grpc.PointStruct) -> Any:
    named = point.vectors.vectors.vectors
    vectors: dict[str, Any] = {name: _vector(vector) for name, vector in named.items()}
    return edge.Point(_id(point.id), vectors, GrpcToRest.convert_payload(point.payload))


def _vector(vector: grpc.Vector) -> Any:
    if vector.HasField("sparse"):
        return edge.SparseVector(list(vector.sparse.indices), list(vector.sparse.values))
    return list(vector.dense.data) or list(vector.data)


def _fields(request: Any) -> Any:
    return list(request.with_payload.include.fields)


def _filter(given: grpc.Filter) -> Any:
    must, should, must_not = (
        [_condition(one) for one in part] or None for part in (given.must, given.should, given.must_not)
    )
    return edge.Filter(must=must, should=should, must_not=must_not)


def _condition(given: grpc.Condition) -> Any:
    match given.WhichOneof("condition_one_of"):
        case "filter":
            return _filter(given.filter)
        case "has_id":
            return edge.HasIdCondition({_id(point_id) for point_id in given.has_id.has_id})
        case "is_empty":
            return edge.IsEmptyCondition(given.is_empty.key)
        case "slice":
            part: Any = vars(edge)["SliceCondition"]  # the package's stubs lack it
            return part(total=given.slice.total, index=given.slice.index)
        case "nested":
            return edge.NestedCondition(given.nested.key, _filter(given.nested.filter))
        case "field":
            return _field(given.field)
        case other:
            raise LocalError(rpc.StatusCode.UNIMPLEMENTED, f"condition {other}")


def _bounds(given: Any) -> dict[str, Any]:
    return {name: getattr(given, name) for name in ("gt", "gte", "lt", "lte") if given.HasField(name)}


def _field(given: grpc.FieldCondition) -> Any:
    if given.HasField("match"):
        return edge.FieldCondition(key=given.key, match=_match(given.match))
    if given.HasField("range"):
        return edge.FieldCondition(key=given.key, range=edge.RangeFloat(**_bounds(given.range)))
    moments = {name: bound.ToJsonString() for name, bound in _bounds(given.datetime_range).items()}
    return edge.FieldCondition(key=given.key, range=edge.RangeDateTime(**moments))


def _match(given: grpc.Match) -> Any:
    match given.WhichOneof("match_value"):
        case "keywords":
            return edge.MatchAny(list(given.keywords.strings))
        case "integers":
            return edge.MatchAny(list(given.integers.integers))
        case kind:
            return edge.MatchValue(getattr(given, str(kind)))


def _query(given: grpc.QueryPoints) -> Any:
    return edge.QueryRequest(
        limit=given.limit,
        query=_nearest(given),
        prefetches=[_prefetch(part) for part in given.prefetch] or None,
        filter=_filter(given.filter),
        params=_params(given),
        with_payload=_fields(given),
        with_vector=list(given.with_vectors.include.names) or False,
    )


def _prefetch(part: grpc.PrefetchQuery) -> Any:
    deeper = [_prefetch(one) for one in part.prefetch] or None
    return edge.Prefetch(
        limit=part.limit, query=_nearest(part), filter=_filter(part.filter), prefetches=deeper, params=_params(part)
    )


def _params(given: Any) -> Any:
    if not given.params.HasField("idf"):
        return None
    return edge.SearchParams(idf=edge.IdfParams(corpus=_filter(given.params.idf.corpus)))


def _nearest(given: Any) -> Any:
    nearest = given.query.nearest
    asked = _vector(nearest) if nearest.HasField("sparse") else list(nearest.dense.data)
    return edge.Query.Nearest(asked, using=given.using)


def _retrieved(record: Any) -> grpc.RetrievedPoint:
    rest = models.Record(id=str(record.id), payload=record.payload or {}, vector=record.vector or None)
    return RestToGrpc.convert_retrieved_point(rest)


def _scored(point: Any) -> grpc.ScoredPoint:
    vectors = {"payload": point.payload or {}, "vector": point.vector or None}
    rest = models.ScoredPoint(id=str(point.id), version=0, score=point.score, **vectors)
    return RestToGrpc.convert_scored_point(rest)
