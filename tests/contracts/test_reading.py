"""What readers may see, and what filters mean: one suite for every store, all that must stay hidden being there.

With longer vectors beside the short ones, too: then the store searches in two stages.
"""

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from qdrant_client import grpc

from penstock.adapters.qdrant.collection import find_collection, open_collection
from penstock.adapters.qdrant.connection import Collection, Connection
from penstock.adapters.qdrant.shape import Shape
from penstock.adapters.qdrant.store import QdrantStore
from penstock.assembly.alias import Alias
from penstock.core.documents import Chunk, DocumentKey, Event, Op, Order, Point
from penstock.core.errors import InvalidEvent, Misconfigured, Unavailable
from penstock.core.filters import Filter, check, matches
from penstock.core.identity import ModelIdentity
from penstock.core.ports import Searcher
from penstock.core.queries import EmbeddedBy, Hit, Lookup
from penstock.core.records import Partition, Record
from penstock.core.vectors import Vector
from penstock.fakes import MemoryStore
from penstock.query.ranking import disown
from penstock.query.served import Served
from penstock.settings import QdrantSettings
from tests.store_server import StoreServer
from tests.stores import KINDS, Store, empty_store
from tests.unit.test_search import encoder

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
IDENTITY = ModelIdentity("model", "1", "mean", "", "", 4)
WIDTH = 8
EVERYTHING = 500


def vector(seed: int) -> Vector:
    row = np.random.default_rng(seed).standard_normal(WIDTH)
    return (row / np.linalg.norm(row)).astype(np.float32)


def point(seed: int, tenant: str, document: str, chunk: int = 0, version: int = 5, **fields: Any) -> Point:
    alive = not fields.pop("deleted", False)
    record = Record(Partition("documents", 0), seed, None, None)
    op = Op.UPSERT if alive else Op.DELETE
    event = Event(record, DocumentKey(tenant, document), Order(version, 1), op, title=document, text="text", **fields)
    if not alive:
        return Point(event, 0, 1)
    part = Chunk(f"text {chunk}", 7 * chunk, 7 * chunk + 6, f"hash {seed}")
    return Point(event, chunk, 1, (part.hash,) if chunk == 0 else (), part, vector(seed))


METADATA: list[dict[str, Any]] = [
    {},
    {"section": "games", "year": 2020, "free": True, "weight": 1.5},
    {"section": "sound", "year": 2021, "free": False, "weight": 2.5},
    {"section": ["games", "sound"], "year": [2019, 2022], "deep": {"er": "x", "est": None}},
    {"section": [], "year": None, "deep": {"er": ["x", "y"]}},
    {"since": "2026-01-01T00:00:00Z", "section": "", "zoneless": "2026-01-01T00:00:00"},
    {"since": "2026-06-01T00:00:00+02:00", "year": 2023, "whole": 3.0},
    {
        "fittings": [
            {"kind": "seal", "made of": "rubber"},
            {"kind": ["valve", "tap"], "sizes": [{"mm": 12}, {"mm": 15}]},
        ],
        "maker.name": "Ann", "data sheet": "pump one.pdf", "größe": "L", "grid": [[1, 2], [3]],
        "serial": 1234567890123456789, "odd [name]": {"in.side": 5},
    },
    {
        "fittings": {"kind": "seal", "sizes": []}, "maker": {"name": "Ann"}, "deep": [{"er": "z"}, {"er": None}, 7],
        "serial": 2**53 + 1, "हिन्दी": "x", "$ref/@id": True,
    },
]  # fmt: skip


def points() -> list[Point]:
    """For two tenants the same documents: visible ones, and everything that must stay hidden."""
    made = []
    for t, tenant in enumerate(("acme", "other")):
        base = 100 * t
        for n, metadata in enumerate(METADATA):
            language = ("de", "en", None)[n % 3]
            moment = None if n == 2 else f"2026-0{n + 1}-01T00:00:00Z"
            made.append(point(base + n, tenant, f"d{n}", metadata=metadata, language=language, timestamp=moment))
        made += [
            point(base + 20, tenant, "two", metadata=METADATA[1]),
            point(base + 21, tenant, "two", 1, metadata=METADATA[1]),
            point(base + 22, tenant, "two", 2, version=4, metadata=METADATA[1]),  # below its anchor
            point(base + 23, tenant, "headless", 1, metadata=METADATA[1]),  # no anchor at all
            point(base + 24, tenant, "gone", deleted=True),
            point(base + 25, tenant, "gone", 1, version=4, metadata=METADATA[1]),  # below a tombstone
            point(base + 26, tenant, "expired", metadata=METADATA[1], expires_at="2026-11-23T12:00:00Z"),
            point(base + 27, tenant, "lasting", metadata=METADATA[1], expires_at="2026-11-23T12:00:01Z"),
        ]
    return made


VISIBLE = {*(f"d{n}/0" for n in range(len(METADATA))), "two/0", "two/1", "lasting/0"}


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Filled, of each kind; those of Qdrant with both vectors."""
    with empty_store(request, tmp_path, IDENTITY, WIDTH) as store:
        yield filled(store)


def filled(store: Store) -> Store:
    store.upsert(points())
    return store


@lru_cache
def embedded(full: int) -> Store:
    """In memory, for many examples."""
    connection = Connection(QdrantSettings(path=Path(":memory:")))
    short = [Point(p.event, p.index, p.recipe, p.hashes, p.chunk, p.vector) for p in points()]
    store = connection.store(open_collection(connection, "documents", IDENTITY, full))
    store.upsert(short)
    return store


@lru_cache
def memory() -> MemoryStore:
    store = MemoryStore()
    store.upsert(points())
    return store


def seen(store: Searcher, only: Filter | None = None, limit: int = EVERYTHING, seed: int = 1) -> list[Hit]:
    """What a query of tenant acme gets."""
    found = store.search([Lookup(vector(seed), "acme", limit, NOW, only)])
    return disown(found, store.read)[0]


def names(hits: list[Hit]) -> set[str]:
    assert {hit.key.tenant for hit in hits} <= {"acme"}
    return {f"{hit.key.document}/{hit.key.chunk}" for hit in hits}


def test_documents_are_counted_by_tenant_without_what_is_gone(store: Store, request: pytest.FixtureRequest) -> None:
    if "edge" in request.node.name:
        pytest.skip("the binding of qdrant-edge-py 0.9.0 takes booleans for numbers, so deleted: true is not found")
    seen = {name.partition("/")[0] for name in VISIBLE}
    assert store.documents("acme", NOW) == len(seen)
    assert store.documents("nobody", NOW) == 0


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("metadata.section", {"games": 4, "sound": 2, "": 1}),
        ("metadata.year", {2020: 3, 2019: 1, 2021: 1, 2022: 1, 2023: 1}),
        ("metadata.nothing", {}),
    ],
)
def test_documents_are_counted_by_the_values_of_a_field(
    store: Store, field: str, expected: dict[str | int, int], request: pytest.FixtureRequest
) -> None:
    if "edge" in request.node.name:
        pytest.skip("qdrant-edge-py needs an index for a facet, and takes booleans for numbers")
    found = store.facet("acme", NOW, field, 10)
    assert found == expected
    assert list(found) == sorted(found, key=lambda value: (-found[value], str(value)))
    assert list(store.facet("acme", NOW, field, 1)) == list(expected)[:1]
    assert store.facet("nobody", NOW, field, 10) == {}


def test_a_hit_says_where_its_text_lies_in_the_document(store: Store) -> None:
    (hits,) = store.search([Lookup(vector(121), "other", EVERYTHING, NOW)])
    assert {hit.place for hit in hits if hit.key.chunk == 0} == {(0, 6)}
    assert {hit.place for hit in hits if hit.key.chunk == 1} == {(7, 13)}


def test_readers_see_their_tenants_living_documents_and_nothing_else(store: Store) -> None:
    hits = seen(store)
    assert names(hits) == VISIBLE
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_hit_brings_what_was_stored(store: Store) -> None:
    (hit,) = [hit for hit in seen(store) if hit.key.document == "d3"]
    assert (hit.title, hit.text, hit.stored.order) == ("d3", "text 0", Order(5, 1))
    assert hit.metadata == METADATA[3]


def test_several_lookups_are_answered_each_for_itself(store: Store) -> None:
    lookups = [
        Lookup(vector(1), "acme", 2, NOW),
        Lookup(vector(101), "other", 3, NOW, Filter(field="metadata.year", equals=2021)),
        Lookup(vector(1), "nobody", 5, NOW),
    ]
    first, second, third = store.search(lookups)
    assert (len(first), first[0].key.document) == (2, "d1")
    assert [(hit.key.tenant, hit.key.document) for hit in second] == [("other", "d2")]
    assert third == []


def test_the_longer_vector_decides_the_order_where_there_is_one() -> None:
    """Two points with the same short vector differ in what follows it."""
    near = np.array([1, 0, 0, 0, 1, 0, 0, 0], dtype=np.float32) / np.sqrt(2)
    far = np.array([1, 0, 0, 0, -1, 0, 0, 0], dtype=np.float32) / np.sqrt(2)
    made = [point(n, "acme", name) for n, name in enumerate(("far", "near"))]
    with closing(Connection(QdrantSettings(path=Path(":memory:")))) as connection:
        store = connection.store(open_collection(connection, "documents", IDENTITY, WIDTH))
        store.upsert([Point(p.event, 0, 1, p.hashes, p.chunk, v) for p, v in zip(made, (far, near), strict=True)])
        (hits,) = store.search([Lookup(near, "acme", 5, NOW)])
    assert [(hit.key.document, round(hit.score, 4)) for hit in hits] == [("near", 1.0), ("far", 0.0)]


class Requests:
    """Qdrant's Points service, as far as to see what it is asked."""

    def __init__(self) -> None:
        self.seen: list[grpc.QueryPoints] = []

    def QueryBatch(self, request: grpc.QueryBatchPoints) -> grpc.QueryBatchResponse:  # noqa: N802
        self.seen += request.query_points
        return grpc.QueryBatchResponse(result=[grpc.BatchResult() for _ in request.query_points])


def test_every_stage_of_a_query_carries_the_filter_of_its_tenant() -> None:
    requests = Requests()
    only = Filter(field="metadata.section", equals="games")
    QdrantStore(requests, "c", Shape(4, WIDTH)).search([Lookup(vector(1), "acme", 5, NOW, only)])
    (request,) = requests.seen
    (prefetch,) = request.prefetch
    assert (prefetch.limit, request.limit, prefetch.using, request.using) == (15, 5, "dense", "full")
    for where in (prefetch.filter, request.filter):
        assert [condition.field.key for condition in where.must] == ["tenant", "metadata.section"]
        assert where.must[0].field.match.keyword == "acme"
        assert {condition.field.key for condition in where.must_not} == {"deleted", "expires_at"}
        assert not where.should


def move(qdrant: Connection, alias: str, to: str | None) -> None:
    """In one call, as whoever rebuilds a collection does; None takes the alias away."""
    actions = [grpc.AliasOperations(delete_alias=grpc.DeleteAlias(alias_name=alias))]
    if to is not None:
        create = grpc.CreateAlias(collection_name=to, alias_name=alias)
        actions.append(grpc.AliasOperations(create_alias=create))
    qdrant.collections.UpdateAliases(grpc.ChangeAliases(actions=actions))


def following(qdrant: Connection, name: str, told: list[str], *others: ModelIdentity) -> Alias:
    """Serves each collection with the encoder of a model that is called like its digest."""

    def serve(found: Collection) -> Served:
        return Served(replace(encoder(), by=EmbeddedBy(found.model, 4)), qdrant.store(found))

    return Alias(lambda: find_collection(qdrant, name, IDENTITY, *others), serve, told.append)


def test_a_reader_follows_the_alias_to_another_collection_and_back(qdrant: Connection) -> None:
    name, other = uuid4().hex, replace(IDENTITY, source="another")
    first = open_collection(qdrant, name, IDENTITY)
    second = open_collection(qdrant, f"{name}-rebuilt", other)
    qdrant.store(second).upsert([point(1, "acme", "rebuilt")])
    alias = following(qdrant, name, [], other)
    lookups = [Lookup(vector(1), "acme", 5, NOW)]
    before = alias()
    assert (before.encoder.by.model, before.store.search(lookups)) == (IDENTITY.digest, [[]])
    move(qdrant, name, second.name)
    assert alias().encoder.by.model == other.digest
    assert [hit.key.document for hit in alias().store.search(lookups)[0]] == ["rebuilt"]
    move(qdrant, name, first.name)
    assert alias() is before


def test_a_reader_whose_alias_points_to_a_model_that_it_has_not_ends(qdrant: Connection) -> None:
    name, told = uuid4().hex, list[str]()
    open_collection(qdrant, name, IDENTITY)
    other = open_collection(qdrant, f"{name}-other", replace(IDENTITY, source="another"))
    alias = following(qdrant, name, told)
    move(qdrant, name, None)
    with pytest.raises(Unavailable, match="index something first"):
        alias()
    assert not told  # it may come back
    create = grpc.CreateAlias(collection_name=other.name, alias_name=name)
    qdrant.collections.UpdateAliases(grpc.ChangeAliases(actions=[grpc.AliasOperations(create_alias=create)]))
    with pytest.raises(Unavailable, match="was built by another model"):
        alias()
    assert len(told) == 1


def test_a_server_that_says_nothing_is_away_and_nothing_waits_for_it_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        settings = QdrantSettings(url=f"http://127.0.0.1:{port}", grpc_port=port, timeout_s=0.5)
        with closing(Connection(settings)) as connection:
            started = time.monotonic()
            with pytest.raises(Unavailable):
                open_collection(connection, "documents", IDENTITY)
            with pytest.raises(Unavailable):
                find_collection(connection, "documents", IDENTITY)
            assert time.monotonic() - started < 20


def test_a_collection_says_whether_it_has_longer_vectors(qdrant: Connection) -> None:
    name = uuid4().hex
    made = open_collection(qdrant, name, IDENTITY, WIDTH)
    assert find_collection(qdrant, name, IDENTITY) == made
    assert made.shape.widths == (4, WIDTH)
    for full, said in ((0, "dimension 8.*asks for none"), (16, "asks for 16")):
        with pytest.raises(Misconfigured, match=said):
            open_collection(qdrant, name, IDENTITY, full)


FIELDS = [
    "document", "language", "metadata.section", "metadata.year", "metadata.free", "metadata.weight", "metadata.deep.er",
    "metadata.deep", "metadata.deep.est", "metadata.nothing", "metadata.tenant", "metadata.deleted",
    "metadata.fittings.kind", "metadata.fittings[].kind", "metadata.fittings.sizes.mm", "metadata.fittings[].sizes",
    'metadata.fittings."made of"', "metadata.deep[].er", "metadata.maker.name", 'metadata."maker.name"',
    "metadata.größe", "metadata.grid", "metadata.grid[]", "metadata.grid[][]", "metadata.section[]",
    "metadata.serial", "metadata.nothing.there",
]  # fmt: skip
WORDS = [
    "seal",
    "tap",
    "rubber",
    "Ann",
    "z",
    "L",
    "games",
    "sound",
    "x",
    "de",
    "d1",
    "two",
    "gone",
    "expired",
    "other",
    "",
]
MOMENTS = ["2025-12-31T23:00:00Z", "2026-01-01T00:00:00Z", "2026-05-31T22:00:00Z", "2026-12-31T00:00:00+05:00"]


def conditions() -> st.SearchStrategy[dict[str, Any]]:
    """Integers and booleans are kept apart: local mode takes True for 1."""
    field, word, year = st.sampled_from(FIELDS), st.sampled_from(WORDS), st.integers(2018, 2024)
    operators = ["gt", "gte", "lt", "lte"]
    numbers = st.dictionaries(st.sampled_from(operators), st.one_of(year, st.floats(0, 3000)), min_size=1)
    moments = st.dictionaries(st.sampled_from(operators), st.sampled_from(MOMENTS), min_size=1)
    return st.one_of(
        st.fixed_dictionaries({"field": field, "equals": st.one_of(word, year, st.booleans(), st.just(1.5))}),
        st.fixed_dictionaries(
            {"field": field, "any_of": st.one_of(st.lists(word, min_size=1), st.lists(year, min_size=1))}
        ),
        st.fixed_dictionaries({"field": field, "range": numbers}),
        st.fixed_dictionaries({"field": st.sampled_from(["timestamp", "metadata.since"]), "range": moments}),
        st.fixed_dictionaries({"field": field, "exists": st.booleans()}),
    )


def filters() -> st.SearchStrategy[dict[str, Any]]:
    return st.recursive(
        conditions(),
        lambda inner: st.one_of(
            st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"not": inner}),
        ),
        max_leaves=6,
    )


@given(filters(), st.integers(0, 130), st.sampled_from([1, 3, EVERYTHING]), st.sampled_from([0, WIDTH]))
@settings(max_examples=1500, deadline=None)
def test_no_filter_whatever_shows_what_is_hidden(only: dict[str, Any], seed: int, limit: int, full: int) -> None:
    """Neither another tenant's point, nor a tombstone, an expired document or an orphan, in one stage or two."""
    given_filter = Filter.model_validate(only)
    assert names(seen(embedded(full), given_filter, limit, seed)) <= VISIBLE
    assert names(seen(memory(), given_filter, limit, seed)) <= VISIBLE


@given(filters())
@settings(max_examples=600, deadline=None)
def test_a_filter_means_the_same_in_every_store(only: dict[str, Any]) -> None:
    given_filter = Filter.model_validate(only)
    expected = names(seen(memory(), given_filter))
    for full in (0, WIDTH):
        assert names(seen(embedded(full), given_filter)) == expected


@pytest.mark.parametrize(
    ("only", "documents"),
    [
        ({"field": "metadata.section", "equals": "games"}, {"d1", "d3", "two", "lasting"}),
        ({"field": "metadata.section", "any_of": ["sound", "nothing"]}, {"d2", "d3"}),
        ({"field": "metadata.year", "range": {"gte": 2021, "lt": 2023}}, {"d2", "d3"}),
        ({"field": "metadata.free", "equals": False}, {"d2"}),
        ({"field": "metadata.weight", "range": {"gt": 1.5}}, {"d2"}),
        ({"field": "metadata.year", "equals": 2021.0}, {"d2"}),
        ({"field": "metadata.whole", "equals": 3}, {"d6"}),
        ({"field": "metadata.zoneless", "range": {"lte": "2026-01-01T00:00:00Z"}}, {"d5"}),
        ({"field": "metadata.deep.er", "equals": "x"}, {"d3", "d4"}),
        ({"field": "metadata.section", "exists": False}, {"d0", "d4", "d6", "d7", "d8"}),
        ({"field": "metadata.since", "range": {"gte": "2026-05-31T22:00:00Z"}}, {"d6"}),
        ({"field": "timestamp", "range": {"lte": "2026-02-01T00:00:00Z"}}, {"d0", "d1"}),
        ({"field": "document", "any_of": ["d1", "gone", "expired", "headless"]}, {"d1"}),
        ({"field": "language", "equals": "de"}, {"d0", "d3", "d6"}),
        ({"not": {"field": "metadata.year", "exists": True}}, {"d0", "d4", "d5", "d7", "d8"}),
        (
            {"all": [{"field": "language", "equals": "en"}, {"not": {"field": "document", "equals": "d1"}}]},
            {"d4", "d7"},
        ),
        ({"field": "metadata.fittings[].kind", "equals": "seal"}, {"d7"}),
        ({"field": "metadata.fittings.kind", "equals": "seal"}, {"d7", "d8"}),
        ({"field": "metadata.fittings.kind", "equals": "tap"}, {"d7"}),
        ({"field": 'metadata.fittings."made of"', "equals": "rubber"}, {"d7"}),
        ({"field": "metadata.fittings.sizes.mm", "range": {"gt": 12}}, {"d7"}),
        ({"field": "metadata.fittings[].sizes[].mm", "range": {"gt": 12, "lt": 15}}, set()),
        ({"field": "metadata.fittings.sizes", "exists": True}, {"d7"}),
        ({"not": {"field": "metadata.fittings.kind", "exists": False}}, {"d7", "d8"}),
        ({"field": "metadata.deep.er", "exists": True}, {"d3", "d4", "d8"}),
        ({"field": "metadata.deep.er", "equals": "z"}, {"d8"}),
        ({"field": 'metadata."maker.name"', "equals": "Ann"}, {"d7"}),
        ({"field": "metadata.maker.name", "equals": "Ann"}, {"d8"}),
        ({"field": 'metadata."data sheet"', "exists": True}, {"d7"}),
        ({"field": "metadata.größe", "equals": "L"}, {"d7"}),
        ({"field": "metadata.हिन्दी", "equals": "x"}, {"d8"}),
        ({"field": "metadata.$ref/@id", "equals": True}, {"d8"}),
        ({"field": 'metadata."odd [name]"."in.side"', "equals": 5}, {"d7"}),
        ({"field": "metadata.grid[]", "equals": 3}, {"d7"}),
        ({"field": "metadata.serial", "equals": 1234567890123456789}, {"d7"}),
        ({"field": "metadata.serial", "equals": 2**53}, set()),
        ({"field": "metadata.serial", "any_of": [2**53 + 1, 5]}, {"d8"}),
        ({"field": "metadata.serial", "range": {"gte": 2**53 - 1}}, {"d7", "d8"}),
        ({"any": [{"field": "document", "equals": "d0"}, {"field": "metadata.year", "equals": 2022}]}, {"d0", "d3"}),
    ],
    ids=lambda given: json.dumps(
        given, default=sorted, ensure_ascii=False
    ),  # the order of a set is another in every process
)
def test_what_filters_find(
    store: Store, only: dict[str, Any], documents: set[str], request: pytest.FixtureRequest
) -> None:
    if isinstance(only.get("equals"), bool) and "edge" in request.node.name:
        pytest.skip("the binding of qdrant-edge-py 0.9.0 takes booleans for numbers")
    assert {hit.key.document for hit in seen(store, Filter.model_validate(only))} == documents


def test_matches_is_what_the_documents_say() -> None:
    """On plain values, without any store."""
    wanted = Filter.model_validate({"field": "metadata.a", "equals": 1})
    assert matches(wanted, {"metadata": {"a": [0, 1]}})
    assert not matches(wanted, {"metadata": {"a": True}})
    assert not matches(wanted, {"metadata": {"a": "1"}})


DECLARED = {
    "fittings.kind": "keyword",
    "parts[].weight": "float",
    '"data sheet"': "keyword",
    "section": "keyword",
    "year": "integer",
    "weight": "float",
    "free": "bool",
    "since": "datetime",
}


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ({"field": "metadata.colour", "equals": "red"}, "metadata.colour is not declared.*metadata.section"),
        ({"field": "metadata.section", "equals": 5}, "of type keyword"),
        ({"field": "metadata.year", "equals": "2020"}, "of type integer"),
        ({"field": "metadata.year", "equals": True}, "of type integer"),
        ({"field": "metadata.free", "equals": 1}, "of type bool"),
        ({"field": "metadata.year", "range": {"gt": "2026-01-01T00:00:00Z"}}, "of type integer"),
        ({"field": "metadata.since", "range": {"gt": 5}}, "of type datetime"),
        ({"field": "metadata.weight", "any_of": [1, 2]}, "of type float"),
        ({"field": "language", "equals": 5}, "language is of type keyword"),
        ({"field": "timestamp", "equals": "2026-01-01T00:00:00Z"}, "timestamp is of type datetime"),
        ({"all": [{"field": "metadata.year", "equals": n} for n in range(2000, 2011)]}, "more than 10 conditions"),
        ({"field": "metadata.section", "any_of": [str(n) for n in range(21)]}, "21 values, at most 20"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_filter_beyond_what_is_declared_or_allowed_is_refused(only: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidEvent, match=said):
        check(Filter.model_validate(only), DECLARED, 10, 20)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "field", ["fittings.kind", "fittings[].kind", '"fittings"."kind"', "parts[].weight", '"data sheet"', "section"]
)
def test_a_declared_field_may_be_written_in_every_way_that_its_indexes_serve(field: str) -> None:
    value = 5 if "weight" in field else "a"
    check(Filter(field=f"metadata.{field}", equals=value), DECLARED, 10, 20)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["parts.weight", "fittings[][].kind", "data", "section[]"])
def test_a_way_that_no_index_serves_is_refused(field: str) -> None:
    with pytest.raises(InvalidEvent, match=rf"{re.escape(field)} is not declared.*metadata\.parts\[\]\.weight"):
        check(Filter(field=f"metadata.{field}", equals=5), DECLARED, 10, 20)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ({"field": "metadata.data sheet", "equals": "a"}, "there is no field 'metadata.data sheet'.*in|\"a name\""),
        ({"field": "metadata.a[0]", "equals": "a"}, "there is no field.*in a list of objects"),
        ({"field": 'metadata."a', "equals": "a"}, "there is no field"),
        ({"field": 'metadata."12\\" pipe"', "equals": "a"}, "there is no field"),
        ({"field": "metadata." + "n" * 65, "equals": "a"}, "at most 8 names of 64 characters"),
        ({"field": "metadata.serial", "range": {"gte": 2**53}}, "as doubles, which skip some: use equals or any_of"),
        ({"field": "metadata.serial", "range": {"lt": -(2**60)}}, "as doubles"),
        ({"field": "metadata.serial", "range": {"lt": 1e18}}, "as doubles"),
        ({"field": "metadata.serial", "equals": 1e18}, "as integers only: write one, without e or dot"),
    ],
)
def test_what_could_find_nothing_without_a_word_is_refused_and_says_how_to_write_it(
    only: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        Filter.model_validate(only)


def test_the_ways_of_a_path_count_as_conditions() -> None:
    check(Filter(field="metadata.a.b.c", equals=1), {}, 4, 1)
    check(Filter(field="metadata.a[].b[].c", equals=1), {}, 1, 1)
    with pytest.raises(InvalidEvent, match="more than 3 conditions; a dot inside a path counts twice"):
        check(Filter(field="metadata.a.b.c", equals=1), {}, 3, 1)


def test_a_declared_field_has_an_index_for_each_of_its_ways(store_server: StoreServer) -> None:
    declared = {"parts.weight": "float", "seals[].size": "integer", '"data sheet"': "keyword"}
    given = {"url": f"http://127.0.0.1:{store_server.port}", "grpc_port": store_server.port, "filter_fields": declared}
    with closing(Connection(QdrantSettings.model_validate(given))) as connection:
        open_collection(connection, "documents", IDENTITY)
    made = {request.field_name for request in store_server.asked("CreateFieldIndex")}
    assert {name for name in made if name.startswith("metadata")} == {
        "metadata.parts.weight", "metadata.parts[].weight", "metadata.seals[].size", 'metadata."data sheet"',
    }  # fmt: skip


def test_a_filter_may_nest_so_deep_and_no_deeper() -> None:
    deep: dict[str, Any] = {"field": "language", "equals": "de"}
    for _ in range(7):
        deep = {"not": deep}
    check(Filter.model_validate(deep), {}, 10, 10)
    with pytest.raises(InvalidEvent, match="deeper than 8"):
        check(Filter.model_validate({"not": deep}), {}, 10, 10)
