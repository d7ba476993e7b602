"""One suite for every store: the fake, local mode, and Qdrant's gRPC (the stand-in's, or a server's at QDRANT_URL)."""

import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.adapters.qdrant.collection import find_collection, open_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.core.documents import Chunk, ChunkKey, DocumentKey, Event, Op, Order, Point, Stored
from penstock.core.errors import Misconfigured, Refused
from penstock.core.filters import Filter
from penstock.core.identity import ModelIdentity
from penstock.core.ports import Searcher, VectorStore
from penstock.core.queries import Hit, Lookup
from penstock.core.records import Partition, Record
from penstock.fakes import MemoryStore
from penstock.settings import QdrantSettings
from tests.stores import KINDS, Store, empty_store

IDENTITY = ModelIdentity("model", "1", "mean", "", "", 4)


NOW = datetime(2026, 11, 23, tzinfo=UTC)


def nearest(store: Searcher, vector: Sequence[float], tenant: str, limit: int, only: Filter | None = None) -> list[Hit]:
    """What one lookup finds."""
    (hits,) = store.search([Lookup(np.array(vector, dtype=np.float32), tenant, limit, NOW, only)])
    return hits


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store, of each kind."""
    with empty_store(request, tmp_path, IDENTITY) as store:
        yield store


def point(
    version: int,
    *,
    name: str = "a/b",
    tenant: str = "acme",
    index: int = 0,
    text: str | None = "text",
    recipe: int = 1,
    sequence: int = 1,
    vector: tuple[float, ...] = (1, 0, 0, 0),
    **more: object,
) -> Point:
    record = Record(Partition("documents", 0), 7, b"", b"")
    op = Op.UPSERT if text is not None else Op.DELETE
    fields: dict[str, object] = {"title": "Title", "metadata": {"n": 1, "deep": {"list": [1.5, None, "ž"]}}} | more
    event = Event(record, DocumentKey(tenant, name), Order(version, sequence), op, text=text or "", **fields)  # type: ignore[arg-type]
    if text is None:
        return Point(event, index, recipe)
    chunk = Chunk(text, 3, 3 + len(text), f"hash of {text}")
    hashes = (chunk.hash, "second") if index == 0 else ()
    return Point(event, index, recipe, hashes, chunk, np.array(vector, dtype=np.float32))


KEY = ChunkKey("acme", "a/b", 0)


def version(store: VectorStore, key: ChunkKey = KEY) -> int | None:
    found = store.read([key])
    return found[key].order.version if key in found else None


def test_what_was_written_is_read(store: Store) -> None:
    store.upsert([point(5)])
    assert store.read([KEY, ChunkKey("acme", "a/b", 1)]) == {
        KEY: Stored(Order(5, 1), 1, "hash of text", ("hash of text", "second"))
    }


def test_an_older_point_never_replaces_a_newer_one(store: Store) -> None:
    for given_version, held in ((1, 1), (3, 3), (2, 3), (5, 5), (4, 5)):
        store.upsert([point(given_version)])
        assert version(store) == held


def test_equal_versions_are_told_apart_by_sequence_and_then_by_recipe(store: Store) -> None:
    store.upsert([point(1, sequence=5, text="first")])
    store.upsert([point(1, sequence=4, text="earlier")])
    store.upsert([point(1, sequence=5, text="again")])
    assert store.read([KEY])[KEY].hash == "hash of first"
    store.upsert([point(1, sequence=5, text="recut", recipe=2)])
    assert store.read([KEY])[KEY].hash == "hash of recut"
    store.upsert([point(1, sequence=6, text="later", recipe=2)])
    assert store.read([KEY])[KEY].hash == "hash of later"


def test_one_request_judges_each_document_by_its_own_order(store: Store) -> None:
    store.upsert([point(5, name="old"), point(5, name="new")])
    store.upsert([point(4, name="old"), point(6, name="new"), point(1, name="unknown")])
    versions = [version(store, ChunkKey("acme", name, 0)) for name in ("old", "new", "unknown")]
    assert versions == [5, 6, 1]


def test_the_largest_orders_are_told_apart(store: Store) -> None:
    most = 2**53 - 1
    store.upsert([point(most - 1, sequence=most - 1)])
    store.upsert([point(most - 1, sequence=most)])
    assert store.read([KEY])[KEY].order == Order(most - 1, most)
    store.upsert([point(most, sequence=most)])
    assert version(store) == most


def test_what_is_retracted_is_gone_and_no_other_version_of_it(store: Store) -> None:
    store.upsert([point(5), point(5, index=1), point(5, name="newer", sequence=2), point(5, name="recut", recipe=2)])
    store.retract([point(5), point(5, index=2), point(5, name="newer"), point(5, name="recut"), point(4, index=1)])
    left = [KEY, *(ChunkKey("acme", name, n) for name, n in (("a/b", 1), ("newer", 0), ("recut", 0)))]
    assert set(store.read(left)) == set(left[1:])


def test_a_tombstone_replaces_a_document_and_is_replaced_by_a_newer_one(store: Store) -> None:
    store.upsert([point(1), point(2, text=None)])
    assert store.read([KEY])[KEY].deleted
    assert nearest(store, [1, 0, 0, 0], "acme", 5) == []
    store.upsert([point(1)])
    assert store.read([KEY])[KEY].deleted
    store.upsert([point(3)])
    assert not store.read([KEY])[KEY].deleted


def test_a_patch_renews_order_and_payload_of_the_same_text_only(store: Store) -> None:
    store.upsert([point(1, vector=(0, 1, 0, 0))])
    store.patch([point(2, text="other")])
    assert version(store) == 1
    store.patch([point(2, title="New title", metadata={"m": 2}, vector=(1, 0, 0, 0))])
    assert version(store) == 2
    (hit,) = nearest(store, [0, 1, 0, 0], "acme", 5)
    assert (hit.title, dict(hit.metadata), hit.text) == ("New title", {"m": 2}, "text")
    assert hit.score == pytest.approx(1.0, abs=1e-5)
    store.patch([point(1, title="Late")])
    assert nearest(store, [0, 1, 0, 0], "acme", 5)[0].title == "New title"


def test_a_patch_of_nothing_writes_nothing(store: Store) -> None:
    store.patch([point(1)])
    assert version(store) is None


def test_a_sweep_takes_what_is_older_than_the_anchor_and_of_that_document(store: Store) -> None:
    left_over = [point(1, index=n) for n in (1, 2)]
    others = [point(1, name="other", index=1), point(1, tenant="else", index=1), point(2, index=3)]
    store.upsert([point(2), *left_over, *others, point(2, index=4, recipe=0)])
    store.sweep({DocumentKey("acme", "a/b"): Stored(Order(2, 1), 1)})
    kept = store.read([p.key for p in (*left_over, *others, point(2), point(2, index=4))])
    assert set(kept) == {p.key for p in (*others, point(2))}


def test_tenants_do_not_see_each_other(store: Store) -> None:
    store.upsert([point(1, tenant="acme"), point(1, tenant="else"), point(1, tenant="")])
    for tenant in ("acme", "else", ""):
        hits = nearest(store, [1, 0, 0, 0], tenant, 10)
        assert [hit.key.tenant for hit in hits] == [tenant]


def test_hits_come_nearest_first(store: Store) -> None:
    vectors = {"far": (0, 0, 1, 0), "near": (1, 0, 0, 0), "middle": (1, 1, 0, 0)}
    store.upsert([point(1, name=name, vector=vector) for name, vector in vectors.items()])
    hits = nearest(store, [1, 0, 0, 0], "acme", 2)
    assert [hit.key.document for hit in hits] == ["near", "middle"]


def test_no_work_is_no_request(store: Store) -> None:
    store.upsert([])
    store.patch([])
    store.sweep({})
    assert store.read([]) == {}


def test_more_points_than_fit_into_a_request(store: Store) -> None:
    points = [point(1, name=f"doc/{n}") for n in range(700)]
    store.upsert(points)
    assert len(store.read([p.key for p in points])) == 700


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 2), st.sampled_from(["x", "y", None])),
        max_size=8,
    ),
    st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_guards_mean_the_same_in_qdrant_and_in_memory(
    writes: list[tuple[int, int, int, str | None]], patches: list[bool]
) -> None:
    memory, qdrant = MemoryStore(), embedded()
    for (v, sequence, recipe, text), patch in zip(writes, patches, strict=False):
        one = point(v, sequence=sequence, recipe=recipe, text=text)
        for each in (memory, qdrant):
            each.patch([one]) if patch and text is not None else each.upsert([one])
        assert memory.read([KEY]) == qdrant.read([KEY])


def embedded() -> VectorStore:
    connection = Connection(QdrantSettings(path=Path(":memory:")))
    return connection.store(open_collection(connection, "documents", IDENTITY))


def test_what_the_server_calls_wrong_is_refused(qdrant: Connection) -> None:
    store = qdrant.store(open_collection(qdrant, f"t-{uuid.uuid4().hex[:8]}", IDENTITY))
    with pytest.raises(Refused, match="Upsert"):
        store.upsert([point(1, vector=(1, 0))])


@pytest.mark.parametrize(
    ("identity", "said"),
    [
        (ModelIdentity("other", "1", "mean", "", "", 4), "source 'model' there, 'other' here"),
        (ModelIdentity("model", "2", "mean", "", "", 4), "revision"),
        (ModelIdentity("model", "1", "last", "", "", 4), "pooling"),
        (ModelIdentity("model", "1", "mean", "<eos>", "", 4), "end_of_text"),
        (ModelIdentity("model", "1", "mean", "", "passage: ", 4), "document_prompt"),
        (ModelIdentity("model", "1", "mean", "", "", 2), "dimension 4 there, 2 here"),
    ],
)
def test_a_collection_of_another_model_is_refused(qdrant: Connection, identity: ModelIdentity, said: str) -> None:
    name = f"t-{uuid.uuid4().hex[:8]}"
    first = open_collection(qdrant, name, IDENTITY)
    assert open_collection(qdrant, name, IDENTITY) == first
    assert find_collection(qdrant, name, IDENTITY) == first
    with pytest.raises(Misconfigured, match=said):
        open_collection(qdrant, name, identity)


def test_readers_of_nothing_are_told_so(qdrant: Connection) -> None:
    with pytest.raises(Misconfigured, match="there is no collection"):
        find_collection(qdrant, f"t-{uuid.uuid4().hex[:8]}", IDENTITY)
