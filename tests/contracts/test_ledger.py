"""One suite for every ledger: the fake, local mode, and Qdrant's gRPC (the stand-in's, or a server's at QDRANT_URL)."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from penstock.adapters.qdrant.collection import number_recipe, open_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.adapters.qdrant.ledger import QdrantLedger
from penstock.core.documents import LARGEST_INTEGER
from penstock.core.errors import Missing
from penstock.core.identity import CollectionState, ModelIdentity, Origin, Recipe
from penstock.core.ports import Ledger
from penstock.core.records import Partition
from penstock.fakes import MemoryLedger
from tests.conftest import connect

IDENTITY = ModelIdentity("model", "1", "mean", "", "", 4)
ORIGIN = Origin("documents", "topic-id", 4, 3)
FIRST, SECOND = Partition("documents", 0), Partition("documents", 1)


@pytest.fixture(params=["memory", "embedded", "folder", "edge", "server"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Of a new collection, of each kind."""
    if request.param == "memory":
        yield MemoryLedger(CollectionState("a", "b", IDENTITY.digest))
        return
    with closing(connect(request.param, request, tmp_path)) as connection:
        yield ledger_of(connection, f"test-{uuid.uuid4().hex[:8]}")


def ledger_of(connection: Connection, name: str) -> QdrantLedger:
    return QdrantLedger(connection, name, open_collection(connection, name, IDENTITY))


def test_a_new_collection_follows_nothing_and_holds_nothing(ledger: Ledger) -> None:
    state = ledger.state()
    assert state is not None
    assert (state.model, state.origin) == (IDENTITY.digest, None)
    assert ledger.read([FIRST, SECOND]) == {}
    assert ledger.read([]) == {}


def test_the_stream_that_is_followed_is_remembered(ledger: Ledger) -> None:
    before = ledger.state()
    ledger.follow(ORIGIN)
    after = ledger.state()
    assert after is not None
    assert before is not None
    assert after.origin == ORIGIN
    assert (after.name, after.birth, after.model) == (before.name, before.birth, before.model)


def test_progress_goes_forward_only_per_partition(ledger: Ledger) -> None:
    ledger.advance({FIRST: 10, SECOND: LARGEST_INTEGER - 1})
    ledger.advance({FIRST: 9, SECOND: LARGEST_INTEGER})
    ledger.advance({})
    assert ledger.read([FIRST, SECOND, Partition("documents", 2)]) == {FIRST: 10, SECOND: LARGEST_INTEGER}


def test_topics_of_the_same_partitions_are_told_apart(ledger: Ledger) -> None:
    other = Partition("documents/1", 0)
    ledger.advance({SECOND: 1, other: 2})
    assert ledger.read([SECOND, other]) == {SECOND: 1, other: 2}


def test_no_reader_meets_a_progress_point(qdrant: Connection) -> None:
    name = f"test-{uuid.uuid4().hex[:8]}"
    collection = open_collection(qdrant, name, IDENTITY)
    QdrantLedger(qdrant, name, collection).advance({FIRST: 1})
    assert qdrant.store(collection).living() == []
    assert qdrant.store(collection).vectors("")[0] == []


def test_a_collection_that_was_made_anew_was_born_anew(qdrant: Connection) -> None:
    first, second = (ledger_of(qdrant, f"test-{uuid.uuid4().hex[:8]}").state() for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.birth != second.birth


def test_the_recipe_is_part_of_the_state(qdrant: Connection) -> None:
    name = f"test-{uuid.uuid4().hex[:8]}"
    ledger = ledger_of(qdrant, name)
    state = ledger.state()
    assert state is not None
    number_recipe(qdrant, state.name, "as it is cut")
    recut = ledger.state()
    assert recut is not None
    assert recut.recipe == Recipe(1, "as it is cut")


def test_a_name_that_leads_nowhere_has_no_state_and_a_collection_that_is_gone_is_missing(qdrant: Connection) -> None:
    name = f"test-{uuid.uuid4().hex[:8]}"
    collection = open_collection(qdrant, name, IDENTITY)
    gone = QdrantLedger(qdrant, f"{name}-x", collection._replace(name=f"{name}-x"))
    assert gone.state() is None
    with pytest.raises(Missing):
        gone.read([FIRST])
