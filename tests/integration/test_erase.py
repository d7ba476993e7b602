"""``penstock erase``: nothing of a tenant is found any more, by a client of the store's own and in the topic."""

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient

from penstock.adapters.kafka.connection import connect_producer
from penstock.adapters.kafka.topics import create_topic
from penstock.adapters.kafka.whole import WholeTopic
from penstock.adapters.qdrant.collection import open_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.adapters.qdrant.members import members
from penstock.adapters.qdrant.migration import begin, opened
from penstock.assembly.erase import carry_out, erasing
from penstock.core.identity import ModelIdentity
from penstock.core.members import Beginning
from penstock.operate.purge import untold
from penstock.settings import IndexSettings, KafkaSettings, QdrantSettings, Settings
from tests.contracts.test_store import point
from tests.integration.test_cli import one_line
from tests.integration.test_purge import LONG, Place, configure
from tests.kafka_tools import new_topic, produce
from tests.store_server import StoreServer
from tests.workers import environment, worker

Event = tuple[str | bytes | None, bytes | None]


def of(tenant: str, name: str, text: str = "some words", **fields: object) -> Event:
    """Key and value of an upsert whose key names the tenant."""
    return f"{tenant}/{name}", json.dumps({"id": name, "text": text} | fields).encode()


def two_tenants(place: Place) -> None:
    """Two documents of acme, one deleted, one that is a dead letter; one document of another tenant."""
    events = [of("acme", "a"), of("acme", "b", LONG), of("acme", "gone"), ("acme/gone", None), ("acme/bad", b"{no")]
    produce(place.kafka, [*events, of("other", "c", "others' words")])
    place.index()


@pytest.fixture(params=["folder", "server"])
def place(request: pytest.FixtureRequest, broker: str, tmp_path: Path) -> Place:
    server = request.param == "server"
    qdrant = request.getfixturevalue("qdrant_process") if server else QdrantSettings(path=tmp_path / "qdrant")
    return keyed(new_topic(broker, 2), qdrant, tmp_path)


def keyed(kafka: KafkaSettings, qdrant: QdrantSettings, folder: Path, **variables: object) -> Place:
    place = Place(kafka, qdrant, folder)
    place.variables |= {"INDEX__TENANT_FROM": "key", **variables}
    create_topic(kafka.model_copy(update={"topic": f"{kafka.topic}.dlq"}), 1)
    configure(kafka, kafka.topic, cleanup_policy="compact" if "INDEX__ORDER" not in variables else "delete")
    return place


def erase(place: Place, *arguments: str, **more: object) -> dict[str, Any]:
    done = place.run("erase", "--json", *arguments, **more)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def scrolled(place: Place) -> list[tuple[dict[str, Any], Any]]:
    """Payload and vectors of every point, by the client of the store's own."""
    known = place.qdrant
    where: dict[str, Any] = {"path": str(known.path)} if known.path else {
        "url": known.url, "grpc_port": known.grpc_port, "prefer_grpc": True, "check_compatibility": False,
    }  # fmt: skip
    client = QdrantClient(**where)
    try:
        with_alias = {one.alias_name: one.collection_name for one in client.get_aliases().aliases} if known.path else {}
        found, _ = client.scroll(with_alias.get(place.kafka.topic) or collection(place), limit=1000, with_vectors=True)
        return [(point.payload or {}, point.vector) for point in found]
    finally:
        client.close()


def collection(place: Place) -> str:
    with place.held() as held:
        return held.name


def of_tenant(points: list[tuple[dict[str, Any], Any]], tenant: str) -> list[tuple[dict[str, Any], Any]]:
    return [point for point in points if point[0].get("tenant") == tenant]


def last_values(kafka: KafkaSettings) -> dict[bytes, bool]:
    """Whether each key's last record has a value, read as compaction would."""
    found: dict[bytes, bool] = {}
    with closing(WholeTopic(kafka, [kafka.topic])) as topic:
        for records in topic.read():
            found |= {record.key: record.value is not None for record in records if record.key is not None}
    return found


def test_documents_go_and_what_could_bring_them_back_is_named(place: Place) -> None:
    two_tenants(place)
    before = erase(place, "--tenant", "acme", "--dry-run")
    assert (before["before"], before["after"]) == (before["before"], before["before"])
    assert before["before"]["texts"] > 3
    assert before["before"]["tombstones"] == 1
    done = erase(place, "--tenant", "acme", "--yes")
    assert (done["before"], done["after"]) == (before["before"], {"texts": 0, "tombstones": 1})
    assert done["points_erased"] == before["before"]["texts"]
    assert done["tombstones_purged_from"] > done["at"]
    points = scrolled(place)
    assert [(one["document"], one["deleted"], "text" in one) for one, _ in of_tenant(points, "acme")] == [
        ("gone", True, False)
    ]
    assert [one["text"] for one, _ in of_tenant(points, "other")] == ["others' words"]
    documents, letters = done["topics"]
    assert (documents["records"], documents["with_a_value"], letters["records"]) == (5, 4, 1)
    told = [(part["partition"], part["records"]) for part in documents["partitions"]]
    assert sum(records for _, records in told) == 5
    to_do = "\n".join(done["to_do"])
    assert "run it with --tombstones" in to_do
    assert f"{place.kafka.topic}.dlq holds 1 records of it (by partition, offsets 0: 0 to 0) until" in to_do
    assert last_values(place.kafka)[b"acme/a"], "nothing was sent"


def test_with_tombstones_nothing_of_it_is_left_in_store_or_topic(
    broker: str, qdrant_process: QdrantSettings, tmp_path: Path
) -> None:
    place = keyed(new_topic(broker, 2), qdrant_process, tmp_path)
    two_tenants(place)
    arguments = ("--tenant", "acme", "--tombstones", "--wait", "--wait-s", "60", "--yes", "--report", "erased.json")
    with worker("index", env=environment(None, **place.variables)) as started:
        started.until("started")
        done = erase(place, *arguments)
        assert started.stop() == 0
    assert json.loads((tmp_path / "erased.json").read_text()) == done
    assert done["nulls"]["sent"] == 3
    assert (done["after"]["texts"], done["collection"]) == (0, collection(place))
    points = scrolled(place)
    left = of_tenant(points, "acme")
    assert {one["document"] for one, _ in left} == {"a", "b", "gone", "bad"}
    assert all(one["deleted"] and not vectors for one, vectors in left)
    assert not any(word in json.dumps([one for one, _ in left]) for word in ("some words", "word1"))
    assert [one["text"] for one, _ in of_tenant(points, "other")] == ["others' words"]
    assert done["after"]["tombstones"] == len(left)
    values = last_values(place.kafka)
    assert values == {b"acme/a": False, b"acme/b": False, b"acme/gone": False, b"acme/bad": False, b"other/c": True}
    again = erase(place, "--tenant", "acme", "--tombstones", "--yes")
    assert (again["nulls"]["sent"], again["points_erased"]) == (0, 0)
    assert place.run("index", "--once", "--from-beginning").returncode == 0
    assert not [one for one, _ in of_tenant(scrolled(place), "acme") if not one["deleted"]]


def test_a_null_has_no_version_and_yet_nothing_older_comes_back(
    broker: str, qdrant_process: QdrantSettings, tmp_path: Path
) -> None:
    """The anchor becomes a tombstone of its own version; the null takes that."""
    place = keyed(new_topic(broker), qdrant_process, tmp_path, INDEX__ORDER="event")
    produce(place.kafka, [of("acme", "a", version=7)])
    place.index()
    done = erase(place, "--tenant", "acme", "--tombstones", "--yes")
    assert done["after"] == {"texts": 0, "tombstones": 1}
    produce(place.kafka, [of("acme", "a", version=6)])
    place.index()
    ((one, _),) = scrolled_documents(place)
    assert (one["deleted"], one["version"]) == (True, 7)


def scrolled_documents(place: Place) -> list[tuple[dict[str, Any], Any]]:
    return [point for point in scrolled(place) if "document" in point[0]]


def test_a_tenant_in_a_header_is_in_the_header_of_its_nulls(
    broker: str, qdrant_process: QdrantSettings, tmp_path: Path
) -> None:
    place = keyed(new_topic(broker), qdrant_process, tmp_path, INDEX__TENANT_FROM="header")
    with closing(connect_producer(place.kafka)) as producer:
        for tenant, name in (("acme", "a"), ("other", "b")):
            value = json.dumps({"id": name, "text": "some words"}).encode()
            producer.send(place.kafka.topic, key=name.encode(), value=value, headers=[("tenant", tenant.encode())])
        producer.flush()
    place.index()
    assert erase(place, "--tenant", "acme", "--tombstones", "--yes")["nulls"]["sent"] == 1
    place.index()
    found = {(one["tenant"], one["document"], one["deleted"]) for one, _ in scrolled_documents(place)}
    assert found == {("acme", "a", True), ("other", "b", False)}
    with closing(WholeTopic(place.kafka, [f"{place.kafka.topic}.dlq"])) as letters:
        assert letters.offsets == 0


def test_who_is_nobody_and_what_nobody_confirms_is_not_erased(place: Place) -> None:
    two_tenants(place)
    done = place.run("erase", "--tenant", "nobody", "--yes")
    assert done.returncode == 0
    assert b"has no point of tenant nobody" in done.stdout
    assert "without tenants there is nobody to erase" in one_line(place.run("erase", "--tenant", "", "--yes"), 2)
    assert "there is nobody to ask: say --yes" in one_line(place.run("erase", "--tenant", "acme"), 2)
    assert "--wait is for the nulls" in one_line(place.run("erase", "--tenant", "acme", "--wait", "--yes"), 2)
    assert len(place.points()) > 4


def test_where_no_worker_runs_waiting_ends_and_says_what_is_sent(
    broker: str, qdrant_process: QdrantSettings, tmp_path: Path
) -> None:
    place = keyed(new_topic(broker), qdrant_process, tmp_path)
    two_tenants(place)
    done = place.run("erase", "--tenant", "acme", "--tombstones", "--wait", "--wait-s", "1", "--yes")
    assert done.returncode == 75
    assert b"does a worker run? What was sent stays sent; run it again" in done.stderr
    assert not last_values(place.kafka)[b"acme/a"]


def test_during_a_migration_a_tenant_goes_from_both_collections(store_server: StoreServer) -> None:
    known = QdrantSettings(url=f"http://127.0.0.1:{store_server.port}", grpc_port=store_server.port)
    old, new = (ModelIdentity("model", revision, "mean", "", "", 4) for revision in ("1", "2"))
    with closing(Connection(known)) as connection:
        open_collection(connection, known.collection, old, group="penstock-index")
        begin(connection, known.collection, new, 0, Beginning("penstock-index", datetime(2026, 11, 30, tzinfo=UTC)))
        stores = [connection.store(opened(connection, one)) for one in members(connection, known.collection)]
        for store in stores:
            store.upsert([point(1, tenant="acme"), point(1, tenant="other")])
        settings = Settings(qdrant=known, index=IndexSettings(tenant_from="key"))
        with erasing(settings, "acme", untold, lambda _: False) as erasure:
            assert erasure.look().points.texts == 2
            told = carry_out(erasure, tombstones=False, wait_s=None)
        assert (told.before.texts, told.after.texts) == (2, 0)
        assert [[hit.key.tenant for hit in store.living()] for store in stores] == [["other"], ["other"]]
