"""Points as Qdrant's gRPC messages, and the guard that every write carries. Pure."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from qdrant_client import grpc
from qdrant_client.conversions.conversion import GrpcToRest, payload_to_grpc
from qdrant_client.uploader.grpc_uploader import convert_vector_struct

from penstock.adapters.qdrant.shape import TERMS, Shape, vector_of
from penstock.core.documents import Chunk, ChunkKey, DocumentKey, Order, Point, Stored, epoch_base, titled
from penstock.core.queries import Hit
from penstock.core.terms import Weighting

NAMESPACE = uuid.UUID("5f0c3a52-6d0e-4d43-9a5b-3a1f6e1c7b90")
PROGRESS = uuid.UUID("0c9b7b0e-5a4d-4a58-9d0f-8a4f2f0f7e63")
"""Namespace of the points that say how far the collection holds the stream."""

STORED_FIELDS = ("version", "sequence", "recipe", "hash", "hashes", "deleted")
HIT_FIELDS = (
    *STORED_FIELDS,
    "tenant",
    "document",
    "chunk",
    "start",
    "end",
    "text",
    "title",
    "headings",
    "metadata",
    "timestamp",
)
SWEEP_FIELDS = ("tenant", "document", "version", "sequence", "recipe")


def point_id(key: ChunkKey) -> grpc.PointId:
    """uuid5 over the key's parts, each with its length before it, so that no two keys run together."""
    parts = (part.encode() for part in (key.tenant, key.document, str(key.chunk)))
    name = b"".join(b"%d:%b" % (len(part), part) for part in parts)
    return grpc.PointId(uuid=str(uuid.uuid5(NAMESPACE, name.decode())))


def upsert_message(point: Point, shape: Shape, indexed_at: str) -> grpc.PointStruct:
    """The whole point; a tombstone has none of the named vectors."""
    named = {} if point.vector is None else shape.named(point.vector)
    return _message(point, named, shape.terms, indexed_at)


def _message(point: Point, dense: Mapping[str, Any], weighting: Weighting | None, indexed_at: str) -> grpc.PointStruct:
    vectors = convert_vector_struct(dict(dense)) if dense else grpc.Vectors(vectors=grpc.NamedVectors())
    if point.chunk is not None and weighting is not None:
        terms = weighting.of_document(titled(point.event.title, "\n".join((*point.chunk.path, point.chunk.text))))
        if terms.indices:
            vectors.vectors.vectors[TERMS].sparse.CopyFrom(
                grpc.SparseVector(indices=terms.indices, values=terms.weights)
            )
    payload = payload_to_grpc(point_payload(point, indexed_at))
    return grpc.PointStruct(id=point_id(point.key), vectors=vectors, payload=payload)


def point_payload(point: Point, indexed_at: str) -> dict[str, Any]:
    """Everything that is stored beside the vector. Absent fields are left out, but a patch must clear them."""
    event = point.event
    record = event.record
    payload: dict[str, Any] = {
        "tenant": event.key.tenant,
        "document": event.key.document,
        "chunk": point.index,
        "version": event.order.version,
        "sequence": event.order.sequence,
        "recipe": point.recipe,
        "indexed_at": indexed_at,
        "source": f"{record.partition.topic}/{record.partition.number}/{record.offset}",
    }
    if point.index == 0:
        payload["deleted"] = point.chunk is None
        payload["hashes"] = list(point.hashes)
    if point.chunk is not None:
        payload |= {
            "hash": point.chunk.hash,
            "text": point.chunk.text,
            "start": point.chunk.start,
            "end": point.chunk.end,
            "title": event.title,
            "headings": list(point.chunk.path),
            "metadata": dict(event.metadata),
            "language": event.language,
            "timestamp": event.timestamp,
            "expires_at": event.expires_at,
        }
    return payload


def older(order: Order, recipe: int) -> grpc.Filter:
    """The rule ``Stored.older`` as a filter over stored points."""
    version, sequence = order
    below = grpc.Filter(must=[_equals("version", version), _less("sequence", sequence)])
    recut = grpc.Filter(
        must=[_equals("version", version), _equals("sequence", sequence), _less("recipe", recipe)],
    )
    return grpc.Filter(
        should=[_less("version", version), grpc.Condition(filter=below), grpc.Condition(filter=recut)],
    )


def guarded(ids: Sequence[grpc.PointId], order: Order, recipe: int, *more: grpc.Condition) -> grpc.Condition:
    """These points, where they are older."""
    return _only(ids, grpc.Condition(filter=older(order, recipe)), *more)


def below(point_id: grpc.PointId, sequence: int) -> grpc.Condition:
    """The point, where its sequence is lower."""
    return _only([point_id], _less("sequence", sequence))


def any_of(guards: Iterable[grpc.Condition]) -> grpc.Filter:
    """The one filter of a request whose points have each their guard; equal ones are sent once."""
    return grpc.Filter(should=list({guard.SerializeToString(): guard for guard in guards}.values()))


def documents_only() -> grpc.Filter:
    """No progress points."""
    nameless = grpc.Condition(is_empty=grpc.IsEmptyCondition(key="document"))
    return grpc.Filter(must_not=[nameless])


def anchors_only() -> grpc.Filter:
    """The first chunk of each document, or its tombstone."""
    return grpc.Filter(must=[_equals("chunk", 0)], must_not=documents_only().must_not)


def of_files() -> grpc.Filter:
    """What is of no topic's epoch: it came from a file, or behind a stream."""
    return grpc.Filter(must=[_less("sequence", epoch_base(1))], must_not=documents_only().must_not)


def upsert_guards(points: Sequence[Point]) -> list[grpc.Condition]:
    """For each point: only where it is older than its document. Points of a document share theirs."""
    documents: dict[tuple[DocumentKey, Order, int], list[grpc.PointId]] = {}
    for point in points:
        documents.setdefault((point.event.key, point.event.order, point.recipe), []).append(point_id(point.key))
    guards = {of: guarded(ids, of[1], of[2]) for of, ids in documents.items()}
    return [guards[point.event.key, point.event.order, point.recipe] for point in points]


def patch_guards(points: Sequence[Point]) -> list[grpc.Condition]:
    """For each point: only where it is older and still holds the same text."""
    return [
        guarded([point_id(point.key)], point.event.order, point.recipe, _keyword("hash", _text(point).hash))
        for point in points
    ]


def exactly(key: ChunkKey, order: Order, recipe: int) -> grpc.Condition:
    """The point, where it was written for this event by these rules."""
    same = [_equals("version", order.version), _equals("sequence", order.sequence), _equals("recipe", recipe)]
    return _only([point_id(key)], *same)


def holds(there: grpc.RetrievedPoint, point: Point) -> bool:
    """Whether the stored point has a vector of the same text."""
    return bool(there.payload["hash"].string_value == _text(point).hash)


def kept_message(point: Point, there: grpc.RetrievedPoint, shape: Shape, indexed_at: str) -> grpc.PointStruct:
    """The whole point, with the dense vectors that are stored; its title, hence its terms, may be another."""
    named = {name: vector_of(there, name) for name in there.vectors.vectors.vectors}
    return _message(point, named, shape.terms, indexed_at)


def probe(shape: Shape) -> tuple[grpc.PointStruct, grpc.Condition]:
    """A point of no tenant and no document, like any other to the store, and its guard."""
    at = grpc.PointId(uuid=str(uuid.uuid5(PROGRESS, "probe")))
    unit = np.zeros(shape.widest, np.float32)
    unit[0] = 1.0
    payload = payload_to_grpc({"version": 0, "sequence": 0, "recipe": 0})
    message = grpc.PointStruct(id=at, vectors=convert_vector_struct(shape.named(unit)), payload=payload)
    return message, guarded([at], Order(1, 1), 1)


def _only(ids: Sequence[grpc.PointId], *more: grpc.Condition) -> grpc.Condition:
    """These points, where all of this holds."""
    these = grpc.Condition(has_id=grpc.HasIdCondition(has_id=ids))
    return grpc.Condition(filter=grpc.Filter(must=[these, *more]))


def _text(point: Point) -> Chunk:
    if point.chunk is None:
        raise ValueError("a tombstone cannot be patched: it keeps no vector. This is a bug.")
    return point.chunk


def of_documents(tenant: str, documents: Iterable[str]) -> grpc.Filter:
    """All points of these documents."""
    named = grpc.Match(keywords=grpc.RepeatedStrings(strings=documents))
    return grpc.Filter(
        must=[_keyword("tenant", tenant), grpc.Condition(field=grpc.FieldCondition(key="document", match=named))]
    )


def payload_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """A payload as Python values."""
    payload: dict[str, Any] = GrpcToRest.convert_payload(message)
    return payload


def to_payload(values: Mapping[str, Any]) -> dict[str, Any]:
    """Python values as a payload."""
    return payload_to_grpc(dict(values))


def stored(payload: Mapping[str, Any]) -> Stored:
    """What writing needs to know of a point."""
    return Stored(
        Order(payload["version"], payload["sequence"]),
        payload["recipe"],
        payload.get("hash") or "",
        tuple(payload.get("hashes") or ()),
        bool(payload.get("deleted")),
    )


def hit(point: grpc.ScoredPoint | grpc.RetrievedPoint) -> Hit:
    """A point that was found, by search or by scrolling; a tombstone has neither text nor title.

    Field by field: converting whole payloads would take longer than the search.
    """
    payload = point.payload
    key, there = key_of(payload), stored_of(payload)
    metadata = value_of(payload["metadata"]) or {}
    text, title = payload["text"].string_value, payload["title"].string_value
    moment = payload["timestamp"].string_value or None
    place = (payload["start"].integer_value, payload["end"].integer_value)
    path = tuple(value.string_value for value in payload["headings"].list_value.values)
    score = getattr(point, "score", 0.0)
    return Hit(key, score, there, text, title, metadata, timestamp=moment, place=place, headings=path)


def key_of(payload: Mapping[str, grpc.Value]) -> ChunkKey:
    """Whose point it is; of one that is not of ours, something empty."""
    return ChunkKey(payload["tenant"].string_value, payload["document"].string_value, payload["chunk"].integer_value)


def stored_of(payload: Mapping[str, grpc.Value]) -> Stored:
    """As ``stored``, of a payload as it came."""
    return Stored(
        Order(payload["version"].integer_value, payload["sequence"].integer_value),
        payload["recipe"].integer_value,
        payload["hash"].string_value,
        tuple(value.string_value for value in payload["hashes"].list_value.values),
        payload["deleted"].bool_value,
    )


def value_of(value: grpc.Value) -> Any:
    """A value of a payload as Python has it."""
    match value.WhichOneof("kind"):
        case None | "null_value":
            return None
        case "struct_value":
            return {name: value_of(inner) for name, inner in value.struct_value.fields.items()}
        case "list_value":
            return [value_of(inner) for inner in value.list_value.values]
        case kind:
            return getattr(value, kind)


def fields(names: Iterable[str]) -> grpc.WithPayloadSelector:
    """Only these fields of the payload."""
    return grpc.WithPayloadSelector(include=grpc.PayloadIncludeSelector(fields=names))


def _keyword(key: str, value: str) -> grpc.Condition:
    return grpc.Condition(field=grpc.FieldCondition(key=key, match=grpc.Match(keyword=value)))


def _equals(key: str, value: int) -> grpc.Condition:
    return grpc.Condition(field=grpc.FieldCondition(key=key, match=grpc.Match(integer=value)))


def _less(key: str, value: int) -> grpc.Condition:
    return grpc.Condition(field=grpc.FieldCondition(key=key, range=grpc.Range(lt=value)))
