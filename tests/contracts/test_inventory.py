"""The inventory's contract, for every store: the fake, local mode, Qdrant's engine and its gRPC."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from penstock.core.documents import Chunk, ChunkKey, DocumentKey, Event, Op, Order, Point, Stored
from penstock.core.identity import ModelIdentity
from penstock.core.inventory import Sought
from penstock.core.ports import Inventory, VectorStore
from penstock.core.records import Partition, Record
from tests.stores import KINDS, empty_inventory

IDENTITY = ModelIdentity("model", "1", "mean", "", "", 4)
NOW = datetime(2026, 11, 23, tzinfo=UTC)

Both = tuple[VectorStore, Inventory]


@pytest.fixture(params=KINDS)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Both]:
    with empty_inventory(request, tmp_path, IDENTITY) as both:
        yield both


def point(
    name: str, version: int = 1, *, tenant: str = "acme", index: int = 0, dead: bool = False, expires: str | None = None
) -> Point:
    record = Record(Partition("documents", 2), 7, b"", b"")
    op = Op.DELETE if dead else Op.UPSERT
    event = Event(record, DocumentKey(tenant, name), Order(version, 9), op, text="text", expires_at=expires)
    if dead:
        return Point(event, index, 1)
    chunk = Chunk("text", 0, 4, f"hash of {name}")
    hashes = (chunk.hash,) if index == 0 else ()
    return Point(event, index, 1, hashes, chunk, np.array([1, 0, 0, 0], dtype=np.float32))


def named(inventory: Inventory, sought: Sought) -> list[str]:
    found = list(inventory.scan(sought))
    assert inventory.count(sought) == len(found)
    return sorted(held.key.document for held in found)


def test_every_point_is_found_as_it_was_written_and_when(both: Both) -> None:
    store, inventory = both
    store.upsert([point("a", 3, expires="2026-11-22T00:00:00Z"), point("a", 3, index=1)])
    first, second = sorted(inventory.scan(Sought()), key=lambda held: held.key)
    assert (first.key, second.key) == (ChunkKey("acme", "a", 0), ChunkKey("acme", "a", 1))
    assert first.stored == store.read([first.key])[first.key]
    assert (first.source, first.expires_at, first.tombstone) == ("documents/2/7", "2026-11-22T00:00:00Z", False)
    assert abs(datetime.fromisoformat(first.indexed_at) - datetime.now(UTC)) < timedelta(minutes=1)


def test_only_what_is_sought_is_found(both: Both) -> None:
    store, inventory = both
    store.upsert(
        [
            point("live"),
            point("theirs", tenant="other"),
            point("dead", dead=True),
            point("past", expires="2026-11-22T00:00:00Z"),
            point("just", expires="2026-11-23T00:00:00Z"),
            point("to come", expires="2026-11-23T00:00:01Z"),
        ]
    )
    assert len(named(inventory, Sought())) == 6
    assert named(inventory, Sought(tenant="other")) == ["theirs"]
    assert named(inventory, Sought(tombstones=True)) == ["dead"]
    assert named(inventory, Sought(expired=NOW)) == ["just", "past"]
    assert named(inventory, Sought(tenant="other", tombstones=True)) == []


def test_parts_share_all_points_and_no_point_twice(both: Both) -> None:
    store, inventory = both
    names = [f"document {n}" for n in range(1500)]
    store.upsert([point(name) for name in names])
    found = [held.key.document for part in range(3) for held in inventory.scan(Sought(), part, 3)]
    assert sorted(found) == sorted(names)


def test_points_of_some_documents_are_found_without_the_others_and_chunks_without_their_anchors(both: Both) -> None:
    store, inventory = both
    names = ("a", "b", "c")
    store.upsert([point(name, index=n) for name in names for n in range(3)] + [point("a", tenant="other", index=1)])
    of_two = Sought(tenant="acme", documents=("a", "c", "nobody"))
    assert named(inventory, of_two) == ["a"] * 3 + ["c"] * 3
    assert {held.key.tenant for held in inventory.scan(of_two)} == {"acme"}
    assert sorted(held.key.chunk for held in inventory.scan(Sought(anchors=False))) == [1, 1, 1, 1, 2, 2, 2]
    assert named(inventory, Sought(tenant="acme", documents=("b",), anchors=False)) == ["b", "b"]


def test_an_anchor_becomes_a_tombstone_of_its_order_with_nothing_of_its_text_unless_it_has_changed(both: Both) -> None:
    store, inventory = both
    store.upsert([point("same", 3, expires="2026-11-22T00:00:00Z"), point("renewed", 3)])
    found = list(inventory.scan(Sought()))
    store.upsert([point("renewed", 4)])
    inventory.bury(found)
    inventory.bury(found)
    same, renewed = ChunkKey("acme", "same", 0), ChunkKey("acme", "renewed", 0)
    stored = store.read([same, renewed])
    assert stored[same] == Stored(Order(3, 9), 1, deleted=True)
    assert stored[renewed].order == Order(4, 9)
    assert not stored[renewed].deleted
    (held,) = inventory.scan(Sought(tombstones=True))
    assert (held.key, held.tombstone, held.expires_at, held.source) == (same, True, "", "documents/2/7")
    assert abs(datetime.fromisoformat(held.indexed_at) - datetime.now(UTC)) < timedelta(minutes=1)
    store.upsert([point("same", 2)])
    assert store.read([same])[same].deleted
    store.upsert([point("same", 5)])
    assert not store.read([same])[same].deleted


def test_what_has_changed_since_it_was_found_stays(both: Both) -> None:
    store, inventory = both
    store.upsert([point("same"), point("renewed"), point("killed"), point("gone")])
    found = list(inventory.scan(Sought()))
    store.upsert([point("renewed", 2), point("killed", 2, dead=True)])
    inventory.remove(found)
    inventory.remove(found)
    assert named(inventory, Sought()) == ["killed", "renewed"]
