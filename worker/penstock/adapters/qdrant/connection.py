"""Reaching Qdrant: a server, or the embedded one, as the services of its gRPC API."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qdrant_client import QdrantClient, grpc

from penstock.adapters.certificates import certificates
from penstock.adapters.qdrant import version
from penstock.adapters.qdrant.channel import OPTIONS, Channel, Remote, Services
from penstock.adapters.qdrant.embedded import LocalQdrant
from penstock.adapters.qdrant.filters import keys
from penstock.adapters.qdrant.inventory import QdrantInventory
from penstock.adapters.qdrant.shape import Shape
from penstock.adapters.qdrant.store import QdrantStore
from penstock.adapters.stems import stemmed
from penstock.core.errors import Misconfigured
from penstock.core.filters import FieldType
from penstock.core.terms import Weighting
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

MEMORY = Path(":memory:")
"""As embedded folder: keep nothing."""


QUANTIZED = {
    "int8": grpc.QuantizationConfig(
        scalar=grpc.ScalarQuantization(type=grpc.QuantizationType.Int8, quantile=0.99, always_ram=True)
    ),
    "binary": grpc.QuantizationConfig(binary=grpc.BinaryQuantization(always_ram=True)),
}


class Collection(NamedTuple):
    """A collection's own name, not an alias, what its vectors look like, and the digest of the model that made them.

    ``group`` writes it, where a migration says so.
    """

    name: str
    shape: Shape
    model: str = ""
    group: str = ""


class Connection:
    """A Qdrant server, or the embedded one, as services of its gRPC API: ``points`` and ``collections``."""

    def __init__(self, settings: QdrantSettings, services: Services | None = None) -> None:
        """Does not reach out yet, but for an embedded folder, which may be taken (Misconfigured).

        ``services`` take the place of those that the settings name.
        """
        self._settings = settings
        memory = settings.path == MEMORY
        self._services: Services = services or (
            LocalQdrant(None if memory else settings.path) if settings.path else Remote(lambda: _connect(settings))
        )
        channel = Channel(self._services, settings.timeout_s)
        self.points, self.collections = channel.service("points"), channel.service("collections")
        self._version = channel.version

    @property
    def terms(self) -> Weighting | None:
        """How points of a new collection get terms, None if they shall have none."""
        if not self._settings.terms:
            return None
        return stemmed(Weighting(), self._settings.terms_language)

    @property
    def layout(self) -> dict[str, Any]:
        """How a new collection is laid out, by the settings; what they leave open is the server's choice."""
        chosen = {
            "quantization_config": QUANTIZED.get(self._settings.quantization),
            "shard_number": self._settings.shards,
            "replication_factor": self._settings.replication_factor,
        }
        return {name: value for name, value in chosen.items() if value is not None}

    def check_version(self) -> None:
        """Raises Misconfigured for a server older than the protocol of writes needs, Unavailable on an outage."""
        if fault := version.fault(self._version()):
            raise Misconfigured(f"Qdrant at {self._settings.url} {fault}")

    def store(self, collection: "Collection") -> QdrantStore:
        """The store port on a collection."""
        return QdrantStore(
            self.points,
            collection.name,
            collection.shape,
            points_per_request=self._settings.points_per_request,
            requests_in_flight=self._settings.requests_in_flight,
        )

    def inventory(self, collection: str) -> QdrantInventory:
        """The inventory port on a collection."""
        return QdrantInventory(self.points, collection, points_per_request=self._settings.points_per_request)

    def index_field(self, collection: str, field: str, kind: FieldType, params: Any = None) -> None:
        """Make a payload index, unless it is there."""
        self.points.CreateFieldIndex(
            grpc.CreateFieldIndexCollection(
                collection_name=collection,
                wait=True,
                field_name=field,
                field_type=KINDS[kind],
                field_index_params=params,
            )
        )

    def index_fields(self, collection: str) -> None:
        """What every collection has, and what the settings declare as fields to filter by."""
        tenant = grpc.PayloadIndexParams(keyword_index_params=grpc.KeywordIndexParams(is_tenant=True))
        for field, kind in INDEXED.items():
            self.index_field(collection, field, kind, tenant if field == "tenant" else None)
        for field, kind in self._settings.filter_fields.items():
            for key in keys(f"metadata.{field}"):
                self.index_field(collection, key, kind)

    def close(self) -> None:
        """Release the connection, or the folder."""
        self._services.close()


def _connect(settings: QdrantSettings) -> QdrantClient:
    """A client; its calls are all gRPC, so that nothing else has to know whom to trust."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a key over http is readable is the settings' business
        return QdrantClient(
            url=settings.url,
            grpc_port=settings.grpc_port,
            prefer_grpc=True,
            api_key=settings.api_key.get_secret_value() or None,
            timeout=max(1, round(settings.timeout_s)),
            check_compatibility=False,
            grpc_options=dict(OPTIONS) | _trusted(settings),
            pool_size=1,  # of several, a dead one would be met by some calls only, never often enough in a row
        )


def _trusted(settings: QdrantSettings) -> dict[str, bytes]:
    """Read anew for each connection, so that whoever renews the file is followed."""
    if settings.ca_file is None:
        return {}
    if not settings.url.startswith("https://"):
        raise Misconfigured("PENSTOCK_QDRANT__CA_FILE is for https: PENSTOCK_QDRANT__URL begins with http://")
    return {"root_certificates": certificates("PENSTOCK_QDRANT__CA_FILE", settings.ca_file)}
