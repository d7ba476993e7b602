"""Opening a collection: made on first use, and refused when it belongs to another model or stream."""

import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from qdrant_client import grpc

from penstock.adapters.qdrant import points as convert
from penstock.adapters.qdrant.channel import about_no_document
from penstock.adapters.qdrant.connection import Collection, Connection
from penstock.adapters.qdrant.members import GROUP, members
from penstock.adapters.qdrant.metadata import (
    BIRTH,
    IDENTITY,
    MEMBER,
    RECIPE,
    WEIGHTING,
    describe,
    remember,
    resolve,
)
from penstock.adapters.qdrant.shape import FULL, TERMS, VECTOR, Shape
from penstock.core.errors import Misconfigured, Refused, Unavailable
from penstock.core.identity import ModelIdentity
from penstock.core.members import written_by

NOTHING: Mapping[str, Any] = {}


class NoCollection(Misconfigured):
    """There is nothing to read yet, or no more."""


def exists(connection: Connection, name: str) -> bool:
    """Whether there is a collection or an alias of that name; raises Unavailable, or Misconfigured when refused."""
    with about_no_document():
        connection.check_version()
        return resolve(connection.collections, name) is not None


def open_collection(
    connection: Connection, name: str, identity: ModelIdentity, full: int = 0, group: str = "", only: str = ""
) -> Collection:
    """The collection behind the alias ``name``, made if there is none; of several, that which ``group`` writes.

    ``full`` is the dimension of the longer vectors, 0 for none. Raises Misconfigured when it was built by another
    model or with other vectors, or is not the ``only`` one that will do; Unavailable on an outage.
    """
    service = connection.collections
    with about_no_document():
        connection.check_version()
        actual = resolve(service, name)
        if actual is None:
            actual = f"{name}-{identity.digest}"
            create(connection, actual, identity, Shape(identity.dimension, full, connection.terms))
            alias = grpc.CreateAlias(collection_name=actual, alias_name=name)
            service.UpdateAliases(grpc.ChangeAliases(actions=[grpc.AliasOperations(create_alias=alias)]))
            actual = resolve(service, name) or actual  # another worker may have set it, too
        metadata, there = describe(service, actual)
        if metadata.get(MEMBER):
            own = written_by(members(connection, name), group, identity)
            actual, (metadata, there) = own.name, describe(service, own.name)
        if only not in ("", actual):
            raise Misconfigured(f"{only} is gone, group {group!r} would write {actual}: start again")
        _check_identity(metadata.get(IDENTITY), identity, name)
        if there.full != full:
            raise Misconfigured(
                f"collection {name!r} has full vectors of dimension {there.full or 'none'}, model.full_dimension asks "
                f"for {full or 'none'}: change that, or set PENSTOCK_QDRANT__COLLECTION to a new name"
            )
        connection.index_fields(actual)
    return Collection(actual, there, identity.digest)


def number_recipe(connection: Connection, collection: str, fingerprint: str) -> int:
    """The number of these rules for cutting documents: that of the newest, or the next one.

    Rules that differ from the newest get a higher number, so that what they made wins over what others made of the
    same event; numbers can be compared where fingerprints cannot.
    """
    service = connection.collections
    with about_no_document():
        newest = describe(service, collection)[0].get(RECIPE) or {"number": 0, "fingerprint": ""}
        if newest["fingerprint"] == fingerprint:
            return int(newest["number"])
        number = int(newest["number"]) + 1
        remember(service, collection, {RECIPE: {"number": number, "fingerprint": fingerprint}})
        if describe(service, collection)[0][RECIPE]["fingerprint"] != fingerprint:
            raise Unavailable(f"another worker numbers its recipe in collection {collection}")
    return number


def find_collection(connection: Connection, name: str, identity: ModelIdentity, *others: ModelIdentity) -> Collection:
    """The collection that readers of ``name`` get, who have a model of this identity, or ``others``, too.

    Raises Misconfigured when there is none or it fits none of them.
    """
    with about_no_document():
        connection.check_version()
        actual = resolve(connection.collections, name)
        if actual is None:
            raise NoCollection(f"there is no collection {name!r} yet: index something first")
        metadata, shape = describe(connection.collections, actual)
        fitting = next((one for one in others if metadata.get(IDENTITY) == asdict(one)), identity)
        _check_identity(metadata.get(IDENTITY), fitting, name)
    return Collection(actual, shape, fitting.digest, (metadata.get(MEMBER) or {}).get(GROUP, ""))


def create(
    connection: Connection, actual: str, identity: ModelIdentity, shape: Shape, more: Mapping[str, Any] = NOTHING
) -> None:
    """Make the collection and its payload indexes, before the first point. Another worker may do the same.

    ``more`` is remembered of it, beside what tells its model.
    """
    service = connection.collections
    named = {VECTOR: grpc.VectorParams(size=shape.dense, distance=grpc.Distance.Cosine)}
    if shape.full:  # read only to score what was found: no graph, and not in memory
        unsearched = grpc.HnswConfigDiff(m=0)
        named[FULL] = grpc.VectorParams(
            size=shape.full, distance=grpc.Distance.Cosine, hnsw_config=unsearched, on_disk=True
        )
    vectors = grpc.VectorsConfig(params_map=grpc.VectorParamsMap(map=named))
    if not service.CollectionExists(grpc.CollectionExistsRequest(collection_name=actual)).result.exists:
        metadata: dict[str, Any] = {IDENTITY: asdict(identity), BIRTH: uuid.uuid4().hex, **more}
        layout = connection.layout
        if shape.terms is not None:
            metadata[WEIGHTING] = {name: value for name, value in shape.terms._asdict().items() if name != "stem"}
            rarity = grpc.SparseVectorParams(modifier=grpc.Modifier.Idf)
            layout |= {"sparse_vectors_config": grpc.SparseVectorConfig(map={TERMS: rarity})}
        request = grpc.CreateCollection(
            collection_name=actual, vectors_config=vectors, metadata=convert.to_payload(metadata), **layout
        )
        try:
            service.Create(request)
        except (Refused, Unavailable):  # another worker may have been faster
            if not service.CollectionExists(grpc.CollectionExistsRequest(collection_name=actual)).result.exists:
                raise
    connection.index_fields(actual)


def _check_identity(remembered: Mapping[str, Any] | None, identity: ModelIdentity, name: str) -> None:
    if remembered is None:
        raise Misconfigured(f"collection {name!r} was not made by penstock: set PENSTOCK_QDRANT__COLLECTION to another")
    differences = _differences(remembered, asdict(identity))
    if differences:
        raise Misconfigured(
            f"collection {name!r} was built by another model ({differences}): use that model's bundle, "
            f"or set PENSTOCK_QDRANT__COLLECTION to a new name and index the stream into it"
        )


def _differences(remembered: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    names = [name for name in ours if remembered.get(name) != ours[name]]
    return ", ".join(f"{name} {remembered.get(name)!r} there, {ours[name]!r} here" for name in names)
