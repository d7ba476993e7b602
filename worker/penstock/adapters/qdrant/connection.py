"""Reaching Qdrant: a server, or the embedded one, as the services of its gRPC API."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from qdrant_client import QdrantClient, grpc

from penstock.adapters.qdrant import points as convert
from penstock.adapters.qdrant.embedded import LocalQdrant
from penstock.adapters.qdrant.store import QdrantStore
from penstock.core.filters import FieldType
from penstock.settings import QdrantSettings

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


class WithDeadline:
    """A gRPC service whose calls have a deadline: a server that vanished would otherwise be waited for for ever."""

    def __init__(self, service: Any, timeout_s: float) -> None:
        self._service, self._timeout_s = service, timeout_s

    def __getattr__(self, name: str) -> Any:
        """One of the service's calls."""
        return partial(getattr(self._service, name), timeout=self._timeout_s)


QUANTIZED = {
    "int8": grpc.QuantizationConfig(
        scalar=grpc.ScalarQuantization(type=grpc.QuantizationType.Int8, quantile=0.99, always_ram=True)
    ),
    "binary": grpc.QuantizationConfig(binary=grpc.BinaryQuantization(always_ram=True)),
}


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
        return WithDeadline(service, self._settings.timeout_s)

    @property
    def timeout_s(self) -> float:
        """Longest wait for one answer."""
        return self._settings.timeout_s

    @property
    def layout(self) -> dict[str, Any]:
        """How a new collection is laid out, by the settings; what they leave open is the server's choice."""
        chosen = {
            "quantization_config": QUANTIZED.get(self._settings.quantization),
            "shard_number": self._settings.shards,
            "replication_factor": self._settings.replication_factor,
        }
        return {name: value for name, value in chosen.items() if value is not None}

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
