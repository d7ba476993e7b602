"""What goes over the wire to Qdrant, and what its answers mean: by the client's own gRPC, to a server that records."""

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import grpc as rpc
import pytest
from qdrant_client import grpc

from penstock.adapters.qdrant import store as adapter
from penstock.adapters.qdrant.channel import OVERDUE_IN_A_ROW
from penstock.adapters.qdrant.collection import open_collection
from penstock.adapters.qdrant.connection import INDEXED, Connection
from penstock.adapters.qdrant.ledger import QdrantLedger
from penstock.adapters.qdrant.slices import IN_TIME, Pace
from penstock.adapters.qdrant.store import QdrantStore
from penstock.core.documents import ChunkKey, DocumentKey, Order, Stored
from penstock.core.errors import Misconfigured, Missing, Overdue, Refused, Unavailable
from penstock.core.records import Partition
from penstock.settings import QdrantSettings
from penstock.stream.retry import Retry
from tests.contracts.test_store import IDENTITY, nearest, point
from tests.relay import Relay
from tests.store_server import StoreServer

WRITES = ("Upsert", "Delete", "CreateFieldIndex")
READS = ("Get", "Scroll", "QueryBatch")
KEY = ChunkKey("acme", "a/b", 0)


@pytest.fixture
def connection(store_server: StoreServer) -> Iterator[Connection]:
    port = store_server.port
    with closing(Connection(QdrantSettings(url=f"http://127.0.0.1:{port}", grpc_port=port, timeout_s=2))) as made:
        yield made


@pytest.fixture
def store(connection: Connection, store_server: StoreServer) -> QdrantStore:
    """On a new collection; what made it is forgotten."""
    made = connection.store(open_collection(connection, "documents", IDENTITY))
    store_server.seen.clear()
    return made


def use(store: QdrantStore) -> None:
    """Each method once."""
    store.upsert([point(1), point(1, index=1)])
    store.patch([point(2), point(2, index=1)])
    store.upsert([point(3)])
    store.sweep({DocumentKey("acme", "a/b"): Stored(Order(3, 1), 1)})
    store.probe()
    nearest(store, [1, 0, 0, 0], "acme", 3)


def test_every_write_is_waited_for_and_strongly_ordered(
    store: QdrantStore, connection: Connection, store_server: StoreServer
) -> None:
    use(store)
    QdrantLedger(connection, "documents", open_collection(connection, "documents", IDENTITY)).advance(
        {Partition("documents", 0): 1}
    )
    writes = store_server.asked("Upsert", "Delete")
    assert {type(request) for request in writes} == {grpc.UpsertPoints, grpc.DeletePoints}
    for request in writes:
        assert request.wait
        assert request.ordering.type == grpc.WriteOrderingType.Strong
    assert all(request.wait for request in store_server.asked("CreateFieldIndex"))


def test_every_upsert_of_documents_carries_a_guard_for_each_of_its_points(
    store: QdrantStore, store_server: StoreServer
) -> None:
    use(store)
    for request in store_server.asked("Upsert"):
        guarded = {
            named.uuid
            for guard in request.update_filter.should
            for condition in guard.filter.must
            for named in condition.has_id.has_id
        }
        assert {sent.id.uuid for sent in request.points} <= guarded


def test_reads_that_decide_ask_a_majority(store: QdrantStore, store_server: StoreServer) -> None:
    use(store)
    reads = store_server.asked(*READS)
    assert {type(request) for request in reads} == {grpc.GetPoints, grpc.ScrollPoints, grpc.QueryBatchPoints}
    assert {request.read_consistency.type for request in reads} == {grpc.ReadConsistencyType.Majority}


def test_indexes_are_there_before_the_first_point(connection: Connection, store_server: StoreServer) -> None:
    use(connection.store(open_collection(connection, "documents", IDENTITY)))
    methods = [name for name, _ in store_server.seen]
    first_point = methods.index("Upsert")
    made = [request.field_name for name, request in store_server.seen[:first_point] if name == "CreateFieldIndex"]
    assert set(made) == set(INDEXED)
    (tenant,) = [r for r in store_server.asked("CreateFieldIndex") if r.field_name == "tenant"][:1]
    assert tenant.field_index_params.keyword_index_params.is_tenant


def test_a_change_of_metadata_is_one_read_and_one_write_for_all(store: QdrantStore, store_server: StoreServer) -> None:
    """Each change of a payload alone would be a fence of the whole shard."""
    names = [f"d{n}" for n in range(200)]
    store.upsert([point(1, name=name) for name in names])
    store_server.seen.clear()
    store.patch([point(2, name=name, metadata={"n": 2}) for name in names])
    assert [name for name, _ in store_server.seen] == ["Get", "Upsert"]
    (hit,) = [hit for hit in nearest(store, [1, 0, 0, 0], "acme", 200) if hit.key.document == "d7"]
    assert (hit.metadata, hit.stored.order.version, round(hit.score, 5)) == ({"n": 2}, 2, 1.0)


STATUSES = [
    status
    for status in grpc.UpdateStatus.values()
    if status not in (grpc.UpdateStatus.Completed, grpc.UpdateStatus.UnknownUpdateStatus)
]


@pytest.mark.parametrize("status", STATUSES, ids=grpc.UpdateStatus.Name)
@pytest.mark.parametrize("method", ["upsert", "patch", "sweep", "advance"])
def test_a_write_that_was_only_acknowledged_counts_as_none(
    store: QdrantStore, connection: Connection, store_server: StoreServer, status: int, method: str
) -> None:
    ledger = QdrantLedger(connection, "documents", open_collection(connection, "documents", IDENTITY))
    store.upsert([point(1)])

    def change(name: str, answer: Any) -> Any:
        if name in ("Upsert", "Delete"):
            answer.result.status = status
        return answer

    store_server.change = change
    calls = {
        "upsert": lambda: store.upsert([point(2)]),
        "patch": lambda: store.patch([point(2)]),
        "sweep": lambda: store.sweep({DocumentKey("acme", "a/b"): Stored(Order(5, 1), 1)}),
        "advance": lambda: ledger.advance({Partition("documents", 0): 1}),
    }
    with pytest.raises(Unavailable, match="not completed"):
        calls[method]()


@pytest.mark.parametrize(
    ("code", "meant"),
    [
        (rpc.StatusCode.UNAVAILABLE, Unavailable),
        (rpc.StatusCode.INTERNAL, Unavailable),
        (rpc.StatusCode.FAILED_PRECONDITION, Unavailable),
        (rpc.StatusCode.RESOURCE_EXHAUSTED, Unavailable),
        (rpc.StatusCode.NOT_FOUND, Missing),
        (rpc.StatusCode.DEADLINE_EXCEEDED, Overdue),
        (rpc.StatusCode.INVALID_ARGUMENT, Refused),
        (rpc.StatusCode.OUT_OF_RANGE, Refused),
        (rpc.StatusCode.UNAUTHENTICATED, Misconfigured),
        (rpc.StatusCode.PERMISSION_DENIED, Misconfigured),
    ],
)
def test_what_a_code_means_for_a_write(
    store: QdrantStore, store_server: StoreServer, code: rpc.StatusCode, meant: type[Exception]
) -> None:
    store_server.before = lambda name, _: code if name == "Upsert" else None
    with pytest.raises(meant) as raised:
        store.upsert([point(1)])
    assert type(raised.value) is meant
    assert "Upsert on documents" in str(raised.value)


@pytest.mark.parametrize("method", ["Get", "Scroll"])
def test_a_refusal_to_be_read_is_about_no_document(store: QdrantStore, store_server: StoreServer, method: str) -> None:
    store_server.before = lambda name, _: rpc.StatusCode.INVALID_ARGUMENT if name == method else None
    with pytest.raises(Misconfigured):
        store.read([KEY]) if method == "Get" else store.sweep({DocumentKey("acme", "a/b"): Stored(Order(5, 1), 1)})


def test_a_rate_limit_is_waited_out_for_as_long_as_it_says(store: QdrantStore, store_server: StoreServer) -> None:
    store_server.retry_after = 7
    limited = [True]
    store_server.before = lambda name, _: rpc.StatusCode.RESOURCE_EXHAUSTED if limited and name == "Upsert" else None
    pauses: list[float] = []

    def report(_error: Unavailable, _failures: int, pause_s: float) -> None:
        pauses.append(pause_s)
        limited.clear()

    class Impatient(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002  # as the base has it
            return False

    Retry(lambda _: 0.1, report, Impatient()).call(lambda: store.upsert([point(1)]))
    assert pauses == [7]
    assert store.read([KEY])[KEY].order.version == 1


def test_what_takes_the_server_too_long_is_sent_again_in_halves(store: QdrantStore, store_server: StoreServer) -> None:
    """Sent again whole it would never end."""
    store_server.before = lambda name, request: (
        rpc.StatusCode.DEADLINE_EXCEEDED if name == "Upsert" and len(request.points) > 3 else None
    )
    points = [point(1, name=f"d{n}") for n in range(20)]
    patient = Retry(lambda _: 0.0, lambda *_: None)
    patient.call(lambda: store.upsert(points))
    assert len(store.read([at.key for at in points])) == 20
    assert max(len(request.points) for request in store_server.asked("Upsert")) == 20
    patient.call(lambda: store.upsert([point(2, name=f"d{n}") for n in range(20)]))
    later = [
        request for request in store_server.asked("Upsert") if request.points[0].payload["version"].integer_value == 2
    ]
    assert later
    assert max(len(request.points) for request in later) <= 3, "it is remembered"


def test_what_is_too_much_for_one_request_is_sent_in_several(store: QdrantStore, store_server: StoreServer) -> None:
    """A cap of the server's on requests is no document's fault."""
    store_server.before = lambda name, request: (
        rpc.StatusCode.INVALID_ARGUMENT if name == "Upsert" and len(request.points) > 3 else None
    )
    chunks = [point(1, index=n) for n in range(20)]
    store.upsert(chunks)
    assert len(store.read([at.key for at in chunks])) == 20


def test_requests_grow_again_when_they_are_answered_in_time() -> None:
    pace = Pace(256)
    pace.overdue(256)
    pace.overdue(128)
    assert pace.size == 64
    for _ in range(IN_TIME):
        pace.in_time(10)
    assert pace.size == 64, "small ones say nothing"
    for _ in range(3 * IN_TIME):
        pace.in_time(pace.size)
    assert pace.size == 256


def test_a_request_is_cut_by_its_bytes(
    store: QdrantStore, store_server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "REQUEST_BYTES", 40_000)
    points = [point(1, name=f"d{n}", metadata={"long": "x" * 9000}) for n in range(20)]
    store.upsert([*points, replace(points[0], index=1)])
    sizes = [request.ByteSize() for request in store_server.asked("Upsert")]
    assert len(sizes) > 4
    assert max(sizes) < 50_000


def test_connections_to_one_server_share_no_socket(store_server: StoreServer) -> None:
    """What is made anew beside one that is a black hole must not find that one's."""
    with closing(Relay(store_server.port)) as relay:
        settings = QdrantSettings(url=f"http://127.0.0.1:{relay.port}", grpc_port=relay.port)
        with closing(Connection(settings)) as first, closing(Connection(settings)) as second:
            store = first.store(open_collection(first, "documents", IDENTITY))
            before = relay.connections
            open_collection(second, "documents", IDENTITY)
            assert relay.connections == before + 1
            store.upsert([point(1)])
            assert relay.connections == before + 1


def test_a_connection_that_has_become_a_black_hole_is_made_anew(store_server: StoreServer) -> None:
    """Established, and nothing comes back: only a new connection finds the way."""
    with closing(Relay(store_server.port)) as relay:
        settings = QdrantSettings(url=f"http://127.0.0.1:{relay.port}", grpc_port=relay.port, timeout_s=1)
        with closing(Connection(settings)) as connection:
            store = connection.store(open_collection(connection, "documents", IDENTITY))
            store.upsert([point(1)])
            before = relay.connections
            relay.swallow()
            for _ in range(OVERDUE_IN_A_ROW):
                with pytest.raises(Overdue):
                    store.upsert([point(2)])
            store.upsert([point(3)])
            assert store.read([KEY])[KEY].order.version == 3
            assert relay.connections > before
