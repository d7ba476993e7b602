"""One store of each kind, for the suites that all of them must pass."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest

from penstock.adapters.qdrant.collection import open_collection
from penstock.core.identity import ModelIdentity
from penstock.core.ports import Inventory, Searcher, VectorStore
from penstock.core.terms import Weighting
from penstock.fakes import MemoryStore
from tests.conftest import connect

KINDS = ("memory", "embedded", "folder", "edge", "server")


class Store(VectorStore, Searcher, Protocol):
    """Both sides."""


@contextmanager
def empty_store(
    request: pytest.FixtureRequest, folder: Path, identity: ModelIdentity, full: int = 0
) -> Iterator[Store]:
    """Of the kind that the fixture is asked for, with terms; of Qdrant's kinds with ``full`` vectors, too."""
    if request.param == "memory":
        yield MemoryStore(Weighting())
        return
    with closing(connect(request.param, request, folder)) as connection:
        yield connection.store(open_collection(connection, f"test-{uuid4().hex[:8]}", identity, full))


@contextmanager
def empty_inventory(
    request: pytest.FixtureRequest, folder: Path, identity: ModelIdentity
) -> Iterator[tuple[VectorStore, Inventory]]:
    """An empty store of that kind, and its inventory."""
    if request.param == "memory":
        store = MemoryStore(Weighting())
        yield store, store
        return
    with closing(connect(request.param, request, folder)) as connection:
        collection = open_collection(connection, f"test-{uuid4().hex[:8]}", identity)
        yield connection.store(collection), connection.inventory(collection.name)
