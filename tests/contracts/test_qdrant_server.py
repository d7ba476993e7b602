"""Which servers are taken for Qdrant, and trusted: old ones, other ones, and those of one's own authority."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import grpc as rpc
import pytest
import trustme
from qdrant_client import grpc

from penstock.adapters.qdrant import version
from penstock.adapters.qdrant.collection import exists, find_collection, open_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.adapters.qdrant.embedded import LocalQdrant
from penstock.adapters.qdrant.ledger import QdrantLedger
from penstock.adapters.qdrant.server import QdrantServer
from penstock.core.errors import Misconfigured, Unavailable
from penstock.settings import QdrantSettings
from tests.contracts.test_store import IDENTITY
from tests.store_server import StoreServer


def settings(port: int, **fields: object) -> QdrantSettings:
    given = {"url": f"http://127.0.0.1:{port}", "grpc_port": port, "timeout_s": 5} | fields
    return QdrantSettings.model_validate(given)


@pytest.fixture
def connection(store_server: StoreServer) -> Iterator[Connection]:
    with closing(Connection(settings(store_server.port))) as made:
        yield made


def says(told: str) -> Callable[[str, object], object]:
    """A server of another version."""
    return lambda method, answer: grpc.HealthCheckReply(version=told) if method == "HealthCheck" else answer


@pytest.mark.parametrize("told", ["1.19.0", "v1.19.0", "1.19.1-dev", "1.20.0", "2.0.0", "1.100.3", "1.19.0+build"])
def test_a_server_that_is_new_enough_will_do(told: str) -> None:
    assert not version.fault(told)


@pytest.mark.parametrize("told", ["1.18.9", "1.9.7", "0.11.1", "1.19.0-dev", "v1.19.0-rc.1"])
def test_an_older_server_is_named_with_what_it_would_do(told: str) -> None:
    assert f"is of version {told}: Penstock needs 1.19.0 or later" in version.fault(told)


@pytest.mark.parametrize("told", ["", "master", "1.19", "nineteen"])
def test_a_server_of_no_version_is_not_trusted_with_anything(told: str) -> None:
    assert f"tells {told!r} as its version" in version.fault(told)


@pytest.mark.parametrize(
    "use",
    [
        lambda connection: exists(connection, "documents"),
        lambda connection: open_collection(connection, "documents", IDENTITY),
        lambda connection: find_collection(connection, "documents", IDENTITY),
    ],
    ids=["setup", "index", "query"],
)
def test_nobody_begins_with_an_old_server(
    use: Callable[[Connection], object], connection: Connection, store_server: StoreServer
) -> None:
    store_server.change = says("1.18.2")
    with pytest.raises(Misconfigured, match=r"127\.0\.0\.1:\d+ is of version 1\.18\.2: .*lose acknowledged.*upgrade"):
        use(connection)
    assert {method for method, _ in store_server.seen} == {"HealthCheck"}


def test_a_server_that_is_replaced_by_an_old_one_is_noticed_by_who_has_joined(
    connection: Connection, store_server: StoreServer
) -> None:
    ledger = QdrantLedger(connection, "documents", open_collection(connection, "documents", IDENTITY))
    assert ledger.state() is not None
    store_server.change = says("1.18.2")
    with pytest.raises(Misconfigured, match=r"1\.18\.2"):
        ledger.state()


def test_what_is_no_qdrant_is_told_so(connection: Connection, store_server: StoreServer) -> None:
    store_server.before = lambda _method, _request: rpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(Misconfigured, match="no Qdrant: correct PENSTOCK_QDRANT__URL"):
        exists(connection, "documents")


def test_a_server_that_is_away_is_waited_for(connection: Connection, store_server: StoreServer) -> None:
    store_server.before = lambda _method, _request: rpc.StatusCode.UNAVAILABLE
    with pytest.raises(Unavailable, match="HealthCheck"):
        exists(connection, "documents")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secured(authority: trustme.CA) -> Iterator[int]:
    """The port of a server with TLS, for localhost."""
    leaf = authority.issue_cert("localhost")
    chain = b"".join(part.bytes() for part in leaf.cert_chain_pems)
    credentials = rpc.ssl_server_credentials([(leaf.private_key_pem.bytes(), chain)])
    server = QdrantServer(LocalQdrant(), credentials=credentials)
    yield server.port
    server.stop()


def secure(port: int, ca_file: Path | None, host: str = "localhost") -> QdrantSettings:
    return settings(port, url=f"https://{host}:{port}", ca_file=ca_file)


def written(folder: Path, authority: trustme.CA) -> Path:
    file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return file


def test_a_private_authority_is_trusted_where_it_is_named(tmp_path: Path, secured: int, authority: trustme.CA) -> None:
    with closing(Connection(secure(secured, written(tmp_path, authority)))) as connection:
        assert open_collection(connection, "documents", IDENTITY)


def test_an_authority_that_is_renewed_is_read_with_the_next_connection(
    tmp_path: Path, secured: int, authority: trustme.CA
) -> None:
    file = written(tmp_path, trustme.CA())
    with closing(Connection(secure(secured, file))) as connection:
        with pytest.raises(Misconfigured):
            exists(connection, "documents")
        written(tmp_path, authority)
        connection._services.renew()
        assert not exists(connection, "nothing")


@pytest.mark.parametrize("trusted", [None, trustme.CA()], ids=["the system's", "another"])
def test_a_server_of_an_unknown_authority_is_refused(tmp_path: Path, secured: int, trusted: trustme.CA | None) -> None:
    file = None if trusted is None else written(tmp_path, trusted)
    with (
        closing(Connection(secure(secured, file))) as connection,
        pytest.raises(Misconfigured, match=r"no authority that is trusted.*PENSTOCK_QDRANT__CA_FILE"),
    ):
        exists(connection, "documents")


def test_a_server_with_a_certificate_for_another_name_is_refused(
    tmp_path: Path, secured: int, authority: trustme.CA
) -> None:
    with (
        closing(Connection(secure(secured, written(tmp_path, authority), "127.0.0.1"))) as connection,
        pytest.raises(Misconfigured, match="for another name than that in PENSTOCK_QDRANT__URL"),
    ):
        exists(connection, "documents")


def test_a_file_without_certificates_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("not one\n")
    for file, said in ((tmp_path / "none.pem", "No such file"), (empty, "holds no certificate in PEM")):
        with pytest.raises(Misconfigured, match=rf"PENSTOCK_QDRANT__CA_FILE: {file}:? .*?{said.split()[-1]}"):
            Connection(secure(1, file))
    assert ssl.PEM_FOOTER not in empty.read_text()


def test_an_authority_for_http_is_told_to_vouch_for_nothing(tmp_path: Path, authority: trustme.CA) -> None:
    with pytest.raises(Misconfigured, match="is for https"):
        Connection(settings(1, ca_file=written(tmp_path, authority)))
