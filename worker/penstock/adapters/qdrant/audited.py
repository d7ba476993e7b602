"""A collection as an audit finds it: of whichever model, and some of its points with their texts and vectors."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import NamedTuple

from qdrant_client import grpc

from penstock.adapters.qdrant import points as convert
from penstock.adapters.qdrant.channel import about_no_document
from penstock.adapters.qdrant.collection import NoCollection
from penstock.adapters.qdrant.connection import Collection, Connection
from penstock.adapters.qdrant.members import members
from penstock.adapters.qdrant.metadata import IDENTITY, MEMBER, describe, resolve
from penstock.adapters.qdrant.scroll import MAJORITY
from penstock.adapters.qdrant.shape import FULL, VECTOR, vector_of, vectors
from penstock.adapters.qdrant.slices import slices
from penstock.core.documents import Chunk, ChunkKey
from penstock.core.errors import Misconfigured
from penstock.core.identity import ModelIdentity
from penstock.core.members import written_by

AT_ONCE = 100


class Sample(NamedTuple):
    """A stored chunk, the title of its document, and its widest vector."""

    key: ChunkKey
    title: str
    chunk: Chunk
    vector: list[float]


def look_at(connection: Connection, name: str, group: str, identity: ModelIdentity) -> tuple[Collection, str]:
    """The collection that a group writes, and in what its model differs from this one; empty where it does not.

    Raises Misconfigured where there is none, or where it is none of ours.
    """
    service = connection.collections
    with about_no_document():
        connection.check_version()
        if (actual := resolve(service, name)) is None:
            raise NoCollection(f"there is no collection {name!r} yet: index something first")
        metadata, shape = describe(service, actual)
        if metadata.get(MEMBER):
            actual = written_by(members(connection, name), group, identity).name
            metadata, shape = describe(service, actual)
    if (remembered := metadata.get(IDENTITY)) is None:
        raise Misconfigured(f"collection {name!r} was not made by penstock: set PENSTOCK_QDRANT__COLLECTION to another")
    told = [f"{field} {remembered.get(field)!r}, not {ours!r}" for field, ours in asdict(identity).items()
            if remembered.get(field) != ours]  # fmt: skip
    return Collection(actual, shape, ModelIdentity(**remembered).digest), ", ".join(told)


def samples(connection: Connection, collection: Collection, keys: Sequence[ChunkKey]) -> list[Sample]:
    """Those of the chunks that are still there."""
    found: list[Sample] = []
    name = FULL if collection.shape.full else VECTOR
    for some in slices(keys, AT_ONCE):
        request = grpc.GetPoints(
            collection_name=collection.name,
            ids=[convert.point_id(key) for key in some],
            with_payload=convert.fields(convert.HIT_FIELDS),
            with_vectors=vectors([name]),
            read_consistency=MAJORITY,
        )
        with about_no_document():
            found += [_sample(point, name) for point in connection.points.Get(request).result]
    return [sample for sample in found if sample.vector]


def foreign(connection: Connection, collection: Collection) -> int:
    """How many points are neither of a document nor of how far the collection holds a stream."""
    nothing = [grpc.Condition(is_empty=grpc.IsEmptyCondition(key=field)) for field in ("document", "sequence")]
    request = grpc.CountPoints(
        collection_name=collection.name, filter=grpc.Filter(must=nothing), exact=True, read_consistency=MAJORITY
    )
    with about_no_document():
        return int(connection.points.Count(request).result.count)


def _sample(point: grpc.RetrievedPoint, name: str) -> Sample:
    hit = convert.hit(point)
    start, end = hit.place
    chunk = Chunk(hit.text, start, end, hit.stored.hash, path=tuple(hit.headings))
    return Sample(hit.key, hit.title, chunk, vector_of(point, name))
