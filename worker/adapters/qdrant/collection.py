"""Opening a collection: made on first use, and refused when it belongs to another model or stream."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grpc as rpc
from qdrant_client import QdrantClient, grpc

from worker.adapters.qdrant import points as convert
from worker.adapters.qdrant.embedded import LocalQdrant
from worker.adapters.qdrant.store import QdrantStore, failure
from worker.errors import Misconfigured, Refused, Unavailable
from worker.filters import FieldType
from worker.settings import QdrantSettings
from worker.types import ModelIdentity, Origin

IDENTITY = "penstock_model"
ORIGIN = "penstock_origin"
RECIPE = "penstock_recipe"

KINDS: Mapping[FieldType, Any] = {
    "keyword": grpc.FieldType.FieldTypeKeyword,
    "integer": grpc.FieldType.FieldTypeInteger,
    "float": grpc.FieldType.FieldTypeFloat,
    "bool": grpc.FieldType.FieldTypeBool,
    "datetime": grpc.FieldType.FieldTypeDatetime,
}
INDEXED: Mapping[str, FieldType] = {
    "tenant": "keyword",
    "document": "keyword",
    "version": "integer",
    "sequence": "integer",
    "recipe": "integer",
    "hash": "keyword",
    "deleted": "bool",
    "expires_at": "datetime",
    "language": "keyword",
    "timestamp": "datetime",
}
"""What guards, readers and filters look at."""

RECONNECT = {"grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 2000}
"""The library's own pauses grow to two minutes: so long a server that is back would still be away."""

MEMORY = Path(":memory:")
"""As embedded folder: keep nothing."""


class NoCollection(Misconfigured):
    """There is nothing to read yet, or no more."""


class InTime:
    """A gRPC service whose calls have a deadline: a server that vanished would otherwise be waited for for ever."""

    def __init__(self, service: Any, timeout_s: float) -> None:
        self._service, self._timeout_s = service, timeout_s

    def __getattr__(self, name: str) -> Any:
        """One of the service's calls."""
        return partial(getattr(self._service, name), timeout=self._timeout_s)


class Collection(NamedTuple):
    """A collection's own name, not an alias, and what its vectors look like."""

    name: str
    shape: convert.Shape


class Connection:
    """A Qdrant server, or the embedded one, as the two services of its gRPC API."""

    def __init__(self, settings: QdrantSettings) -> None:
        """Does not reach out yet, but for an embedded folder, which may be taken (Misconfigured)."""
        self._settings = settings
        memory = settings.path == MEMORY
        self._local = LocalQdrant(None if memory else settings.path) if settings.path else None
        self._client = None if self._local else self._connect(settings)

    @property
    def points(self) -> Any:
        """The Points service."""
        return self._local.points if self._local else self._remote.grpc_points

    @property
    def collections(self) -> Any:
        """The Collections service; each of its calls ends in time."""
        service = self._local.collections if self._local else self._remote.grpc_collections
        return InTime(service, self._settings.timeout_s)

    def store(self, collection: "Collection") -> QdrantStore:
        """The store port on a collection."""
        return QdrantStore(
            self.points,
            collection.name,
            collection.shape,
            timeout_s=self._settings.timeout_s,
            points_per_request=self._settings.points_per_request,
            requests_in_flight=self._settings.requests_in_flight,
        )

    def index_field(self, collection: str, field: str, kind: FieldType, params: Any = None) -> None:
        """Make a payload index, unless it is there."""
        self.points.CreateFieldIndex(
            grpc.CreateFieldIndexCollection(
                collection_name=collection,
                wait=True,
                field_name=field,
                field_type=KINDS[kind],
                field_index_params=params,
            ),
            timeout=self._settings.timeout_s,
        )

    def index_fields(self, collection: str) -> None:
        """What every collection has, and what the settings declare as fields to filter by."""
        tenant = grpc.PayloadIndexParams(keyword_index_params=grpc.KeywordIndexParams(is_tenant=True))
        for field, kind in INDEXED.items():
            self.index_field(collection, field, kind, tenant if field == "tenant" else None)
        for field, kind in self._settings.filter_fields.items():
            self.index_field(collection, f"metadata.{field}", kind)

    def close(self) -> None:
        """Release the connection, or the folder."""
        if self._local:
            self._local.close()
        else:
            self._remote.close()

    @property
    def _remote(self) -> QdrantClient:
        if self._client is None:
            raise ValueError("this connection is embedded. This is a bug.")
        return self._client

    @staticmethod
    def _connect(settings: QdrantSettings) -> QdrantClient:
        return QdrantClient(
            url=settings.url,
            grpc_port=settings.grpc_port,
            prefer_grpc=True,
            api_key=settings.api_key.get_secret_value() or None,
            timeout=max(1, round(settings.timeout_s)),
            check_compatibility=False,
            grpc_options=dict(RECONNECT),
        )


def open_collection(
    connection: Connection, name: str, identity: ModelIdentity, origin: Origin | None, full: int = 0
) -> Collection:
    """The collection behind the alias ``name``, made if there is none; remembers the origin.

    ``full`` is the dimension of the longer vectors, 0 for none. Raises Misconfigured when it was built by another
    model, from another stream or with other vectors, Unavailable on an outage.
    """
    service = connection.collections
    shape = convert.Shape(identity.dimension, full)
    try:
        actual = _behind(service, name)
        if actual is None:
            actual = f"{name}-{identity.digest}"
            _create(connection, actual, identity, shape)
            alias = grpc.CreateAlias(collection_name=actual, alias_name=name)
            service.UpdateAliases(grpc.ChangeAliases(actions=[grpc.AliasOperations(create_alias=alias)]))
            actual = _behind(service, name) or actual  # another worker may have set it, too
        metadata, found = _describe(service, actual)
        _check_identity(metadata.get(IDENTITY), identity, name)
        if found != full:
            raise Misconfigured(
                f"collection {name!r} has full vectors of dimension {found or 'none'}, model.full_dimension asks for "
                f"{full or 'none'}: change that, or set PENSTOCK_QDRANT__COLLECTION to a new name"
            )
        connection.index_fields(actual)
        if origin is not None and metadata.get(ORIGIN) != asdict(origin):
            _check_origin(metadata.get(ORIGIN), origin, name)
            kept = convert.to_payload({ORIGIN: asdict(origin)})
            service.Update(grpc.UpdateCollection(collection_name=actual, metadata=kept))
    except rpc.RpcError as error:
        raise _at_start(error, name) from error
    return Collection(actual, shape)


def number_recipe(connection: Connection, collection: str, fingerprint: str) -> int:
    """The number of these rules for cutting documents: that of the newest, or the next one.

    Rules that differ from the newest get a higher number, so that what they made wins over what others made of the
    same event; numbers can be compared where fingerprints cannot.
    """
    service = connection.collections
    try:
        newest = _describe(service, collection)[0].get(RECIPE) or {"number": 0, "fingerprint": ""}
        if newest["fingerprint"] == fingerprint:
            return int(newest["number"])
        number = int(newest["number"]) + 1
        kept = convert.to_payload({RECIPE: {"number": number, "fingerprint": fingerprint}})
        service.Update(grpc.UpdateCollection(collection_name=collection, metadata=kept))
        if _describe(service, collection)[0][RECIPE]["fingerprint"] != fingerprint:
            raise Unavailable(f"another worker numbers its recipe in collection {collection}")
    except rpc.RpcError as error:
        raise _at_start(error, collection) from error
    return number


def find_collection(connection: Connection, name: str, identity: ModelIdentity) -> Collection:
    """The collection that readers of ``name`` get; raises Misconfigured when there is none or it does not fit."""
    try:
        actual = _behind(connection.collections, name)
        if actual is None:
            raise NoCollection(f"there is no collection {name!r} yet: index something first")
        metadata, full = _describe(connection.collections, actual)
        _check_identity(metadata.get(IDENTITY), identity, name)
    except rpc.RpcError as error:
        raise _at_start(error, name) from error
    return Collection(actual, convert.Shape(identity.dimension, full))


def _at_start(error: Any, name: str) -> Exception:
    """Before the first point there is no document that a refusal could be about."""
    meant = failure(error, f"opening collection {name}")
    return Misconfigured(str(meant)) if isinstance(meant, Refused) else meant


def _behind(service: Any, name: str) -> str | None:
    for alias in service.ListAliases(grpc.ListAliasesRequest()).aliases:
        if alias.alias_name == name:
            return str(alias.collection_name)
    exists = service.CollectionExists(grpc.CollectionExistsRequest(collection_name=name)).result.exists
    return name if exists else None


def _create(connection: Connection, actual: str, identity: ModelIdentity, shape: convert.Shape) -> None:
    """Make the collection and its payload indexes, before the first point. Another worker may do the same."""
    service = connection.collections
    named = {convert.VECTOR: grpc.VectorParams(size=shape.dense, distance=grpc.Distance.Cosine)}
    if shape.full:  # read only to score what was found: no graph, and not in memory
        unsearched = grpc.HnswConfigDiff(m=0)
        named[convert.FULL] = grpc.VectorParams(
            size=shape.full, distance=grpc.Distance.Cosine, hnsw_config=unsearched, on_disk=True
        )
    vectors = grpc.VectorsConfig(params_map=grpc.VectorParamsMap(map=named))
    if not service.CollectionExists(grpc.CollectionExistsRequest(collection_name=actual)).result.exists:
        metadata = convert.to_payload({IDENTITY: asdict(identity)})
        request = grpc.CreateCollection(collection_name=actual, vectors_config=vectors, metadata=metadata)
        try:
            service.Create(request)
        except rpc.RpcError:
            if not service.CollectionExists(grpc.CollectionExistsRequest(collection_name=actual)).result.exists:
                raise
    connection.index_fields(actual)


def _describe(service: Any, actual: str) -> tuple[dict[str, Any], int]:
    """The collection's metadata, and the dimension of its full vectors, 0 where there are none."""
    config = service.Get(grpc.GetCollectionInfoRequest(collection_name=actual)).result.config
    vectors = config.params.vectors_config.params_map.map
    full = int(vectors[convert.FULL].size) if convert.FULL in vectors else 0
    return convert.payload_of(config.metadata), full


def _check_identity(found: Mapping[str, Any] | None, identity: ModelIdentity, name: str) -> None:
    if found is None:
        raise Misconfigured(f"collection {name!r} was not made by penstock: set PENSTOCK_QDRANT__COLLECTION to another")
    differences = _differences(found, asdict(identity))
    if differences:
        raise Misconfigured(
            f"collection {name!r} was built by another model ({differences}): use that model's bundle, "
            f"or set PENSTOCK_QDRANT__COLLECTION to a new name and index the stream into it"
        )


def _check_origin(found: Mapping[str, Any] | None, origin: Origin, name: str) -> None:
    """A first origin is welcome, and so is a higher epoch of the same topic; anything else is another stream."""
    if not found or (found["topic"] == origin.topic and found["epoch"] < origin.epoch):
        return
    advice = "set PENSTOCK_QDRANT__COLLECTION to a new name"
    if (found["topic"], found["epoch"]) == (origin.topic, origin.epoch):
        advice = f"the topic was made anew or repartitioned: raise PENSTOCK_INDEX__EPOCH to go on here, or {advice}"
    differences = _differences(found, asdict(origin))
    raise Misconfigured(f"collection {name!r} follows another stream ({differences}): {advice}")


def _differences(found: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    names = [name for name in ours if found.get(name) != ours[name]]
    return ", ".join(f"{name} {found.get(name)!r} there, {ours[name]!r} here" for name in names)
