"""What a collection remembers of the stream: its origin in the metadata, and how far, in a point per partition."""

import uuid
from collections.abc import Collection as Some
from collections.abc import Mapping
from dataclasses import asdict

from qdrant_client import grpc
from typing_extensions import override

from penstock.adapters.qdrant import points as convert
from penstock.adapters.qdrant.channel import about_no_document
from penstock.adapters.qdrant.connection import Collection, Connection
from penstock.adapters.qdrant.members import ALIAS
from penstock.adapters.qdrant.metadata import MEMBER, ORIGIN, describe, remember, resolve, state_of
from penstock.adapters.qdrant.scroll import MAJORITY
from penstock.adapters.qdrant.store import STRONG, require_completed
from penstock.core.errors import Missing
from penstock.core.identity import CollectionState, Origin
from penstock.core.ports import Ledger
from penstock.core.records import Partition

FIELDS = ("topic", "partition", "sequence")


class QdrantLedger(Ledger):
    """``ports.Ledger`` of the collection behind a name.

    A progress point has no vector, no tenant and no document, so no reader meets it. A refusal here is about no
    document: it is Misconfigured.
    """

    def __init__(self, connection: Connection, name: str, collection: Collection) -> None:
        """``name`` is what readers use, ``collection`` what is written."""
        self._collections, self._points = connection.collections, connection.points
        self._check_version = connection.check_version
        self._name, self._collection = name, collection.name

    @override
    def state(self) -> CollectionState | None:
        try:
            with about_no_document():
                self._check_version()  # the server may be another than the one that was joined
                actual = resolve(self._collections, self._name)
                if actual is None:
                    return None
                if actual != self._collection and (own := self._as_member()) is not None:
                    return own
                return state_of(actual, describe(self._collections, actual)[0])
        except Missing:  # it went between the two questions
            return None

    def _as_member(self) -> CollectionState | None:
        """Of the collection that is written, where a migration keeps it current though readers get another."""
        metadata, _ = describe(self._collections, self._collection)
        marked = (metadata.get(MEMBER) or {}).get(ALIAS) == self._name
        return state_of(self._collection, metadata) if marked else None

    @override
    def follow(self, origin: Origin) -> None:
        with about_no_document():
            remember(self._collections, self._collection, {ORIGIN: asdict(origin)})

    @override
    def read(self, partitions: Some[Partition]) -> dict[Partition, int]:
        if not partitions:
            return {}
        request = grpc.GetPoints(
            collection_name=self._collection,
            ids=[_point_id(partition) for partition in partitions],
            with_payload=convert.fields(FIELDS),
            read_consistency=MAJORITY,
        )
        with about_no_document():
            payloads = [convert.payload_of(point.payload) for point in self._points.Get(request).result]
        return {Partition(held["topic"], held["partition"]): held["sequence"] for held in payloads}

    @override
    def advance(self, sequences: Mapping[Partition, int]) -> None:
        guards = [convert.below(_point_id(partition), sequence) for partition, sequence in sequences.items()]
        request = grpc.UpsertPoints(
            collection_name=self._collection,
            wait=True,
            ordering=STRONG,
            points=[_point(partition, sequence) for partition, sequence in sequences.items()],
            update_filter=convert.any_of(guards),
        )
        if sequences:
            with about_no_document():
                require_completed("Upsert", self._points.Upsert(request).result)


def _point_id(partition: Partition) -> grpc.PointId:
    """Of a namespace of its own, so that no document's point can have it."""
    return grpc.PointId(uuid=str(uuid.uuid5(convert.PROGRESS, f"{partition.topic}/{partition.number}")))


def _point(partition: Partition, sequence: int) -> grpc.PointStruct:
    payload = convert.to_payload(dict(zip(FIELDS, (*partition, sequence), strict=True)))
    none = grpc.Vectors(vectors=grpc.NamedVectors())
    return grpc.PointStruct(id=_point_id(partition), vectors=none, payload=payload)
