"""``penstock purge``, and workers that purge by the way: on a real broker, on an embedded store and over gRPC."""

import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka import KafkaAdminClient
from kafka.admin import ACLOperation, ConfigResource, ConfigResourceType, ResourceType

from penstock.adapters.kafka.connection import client_options
from penstock.adapters.kafka.retention import KafkaRetention
from penstock.adapters.kafka.topics import create_topic
from penstock.adapters.qdrant.connection import Connection
from penstock.assembly.purge import Held, held_collection
from penstock.core.documents import EPOCH_SHIFT, Chunk, DocumentKey, Event, Op, Order, Point
from penstock.core.inventory import Sought
from penstock.core.records import Partition, Record
from penstock.core.vectors import Vector
from penstock.demo import corpus
from penstock.settings import KafkaSettings, QdrantSettings
from tests.broker import Broker
from tests.conftest import own_qdrant, running, wait_until
from tests.integration.test_cli import one_line
from tests.integration.test_rights import INDEX, Right, grant, login, with_topics
from tests.kafka_tools import document, new_topic, produce
from tests.scraping import monitored, stored_in, value, variables
from tests.workers import PENSTOCK, environment, penstock, worker

PAST = "2026-01-01T00:00:00Z"
LONG = " ".join(f"word{n}" for n in range(40))


class Place:
    """A topic, a store, and Penstock as a process over both."""

    def __init__(self, kafka: KafkaSettings, qdrant: QdrantSettings, folder: Path) -> None:
        self.kafka, self.qdrant, self.folder = kafka, qdrant, folder
        where = {"QDRANT__PATH": qdrant.path or ""} | ({} if qdrant.path else stored_in(qdrant, kafka.topic))
        self.variables: dict[str, Any] = where | {
            "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "KAFKA__TOPIC": kafka.topic,
            "KAFKA__GROUP": kafka.group, "QDRANT__COLLECTION": kafka.topic, "MODEL__BUNDLE": corpus.EMBEDDING,
            "INDEX__CHUNK_TOKENS": 16, "INDEX__CHUNK_OVERLAP": 0,
        }  # fmt: skip

    def run(self, *arguments: str, **more: object) -> Any:
        return penstock(self.folder, *arguments, variables=self.variables | more)

    def purge(self, *arguments: str, **more: object) -> dict[str, Any]:
        done = self.run("purge", "--json", *arguments, **more)
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def index(self) -> None:
        done = self.run("index", "--once")
        assert done.returncode == 0, done.stderr

    @contextmanager
    def held(self) -> Iterator[Held]:
        with closing(Connection(self.qdrant)) as connection:
            yield held_collection(connection, self.kafka.topic)

    def points(self) -> set[tuple[str, int, bool]]:
        """Document, chunk, and whether it is a tombstone."""
        with self.held() as held:
            return {(one.key.document, one.key.chunk, one.tombstone) for one in held.inventory.scan(Sought())}


@pytest.fixture(params=["folder", "server"])
def place(request: pytest.FixtureRequest, broker: str, tmp_path: Path) -> Place:
    kafka = new_topic(broker)
    if request.param == "server":
        return Place(kafka, request.getfixturevalue("qdrant_process"), tmp_path)
    return Place(kafka, QdrantSettings(path=tmp_path / "qdrant"), tmp_path)


def configure(kafka: KafkaSettings, topic: str, **config: str) -> None:
    with closing(KafkaAdminClient(**client_options(kafka))) as admin:
        named = {name.replace("_", "."): text for name, text in config.items()}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, named)])


def filled(place: Place) -> None:
    """Two documents, one that has expired, one that was deleted; all of several chunks but the first."""
    dead, gone = ("dead", LONG), ("gone", LONG)
    events = [document("short"), document("live", LONG), document(*gone), document(*dead, expires_at=PAST)]
    produce(place.kafka, [*events, ("gone", None)])
    place.index()


def garbage(place: Place) -> None:
    """A chunk of an earlier version, and one whose document was never finished."""
    with place.held() as held:
        width = held.store._shape.widest
        record = Record(Partition(place.kafka.topic, 0), 1, b"", b"")
        vector: Vector = np.eye(1, width, dtype="float32")[0]
        chunk = Chunk("left", 0, 4, "a hash")
        order = Order(1 << EPOCH_SHIFT, 1 << EPOCH_SHIFT)
        for name, index in (("live", 90), ("never", 1)):
            event = Event(record, DocumentKey("", name), order, Op.UPSERT, text="left")
            held.store.upsert([Point(event, index, 1, (), chunk, vector)])


def test_what_nobody_needs_goes_and_nothing_else(place: Place) -> None:
    filled(place)
    garbage(place)
    before = place.points()
    live = {point for point in before if point[0] in ("short", "live") and point[1] != 90}
    counts = {"expired": len([1 for name, *_ in before if name == "dead"]), "tombstones": 0, "left_over": 1}
    young = place.purge("--dry-run")
    assert young.items() >= (counts | {"orphans": 0, "dry_run": True, "tombstones_kept": ""}).items()
    assert place.points() == before
    done = place.purge(PURGE__ORPHANS_S=0.001)
    assert done.items() >= (counts | {"orphans": 1}).items()
    assert counts["expired"] > 2
    assert place.points() == live | {("gone", 0, True), ("dead", 0, True)}
    assert place.run("audit").returncode == 0
    assert place.purge("--older-than-s", "0", "--trust-retention")["tombstones"] == 2
    assert place.points() == live
    assert sum(number for number in place.purge().values() if type(number) is int) == 0
    assert place.run("audit").returncode == 0


def test_a_chunk_whose_record_is_still_to_be_written_out_is_no_orphan(place: Place) -> None:
    filled(place)
    with place.held() as held:
        record = Record(Partition(place.kafka.topic, 0), 99, b"", b"")
        vector: Vector = np.eye(1, held.store._shape.widest, dtype="float32")[0]
        order = Order((1 << EPOCH_SHIFT) + 99, (1 << EPOCH_SHIFT) + 99)
        event = Event(record, DocumentKey("", "next"), order, Op.UPSERT, text="left")
        held.store.upsert([Point(event, 1, 1, (), Chunk("left", 0, 4, "a hash"), vector)])
    assert place.purge(PURGE__ORPHANS_S=0.001)["orphans"] == 0


def test_tombstones_do_not_go_before_the_topics_forget_what_they_hold_off(place: Place) -> None:
    filled(place)
    topic = place.kafka.topic
    done = place.run("purge", "--older-than-s", "86400")
    told = one_line(done, 2)
    assert f"topic '{topic}' keeps events for 7 days (retention.ms), and --older-than-s is 1 day" in told
    assert "Set --older-than-s to 604800 or more, or the topic's retention.ms to 86400000 or less" in told
    configure(place.kafka, topic, cleanup_policy="compact", delete_retention_ms="172800000")
    assert "keeps events for 2 days (delete.retention.ms)" in one_line(place.run("purge", "--older-than-s", "86400"), 2)
    configure(place.kafka, topic, cleanup_policy="compact", delete_retention_ms="3600000")
    told = one_line(place.run("purge", "--older-than-s", "86400"), 2)
    assert f"topic '{topic}.dlq' keeps dead letters, which may be sent back, for 30 days (retention.ms)" in told
    configure(place.kafka, f"{topic}.dlq", retention_ms="-1")
    kept = place.purge("--older-than-s", "86400")
    assert (kept["tombstones"], "for ever" in kept["tombstones_kept"]) == (0, True)
    assert kept["expired"] > 1
    configure(place.kafka, f"{topic}.dlq", retention_ms="3600000")
    assert place.purge("--older-than-s", "86400")["tombstones"] == 0, "they are younger"
    assert ("gone", 0, True) in place.points()


def test_a_backfills_topic_and_its_dead_letters_are_asked_for_too_where_they_are(broker: str) -> None:
    kafka, behind = new_topic(broker), new_topic(broker)
    with closing(KafkaRetention(kafka, "nowhere")) as retention:
        assert [kept.topic for kept in retention.topics()] == [kafka.topic]
    create_topic(behind.model_copy(update={"topic": behind.dead_letters}), 1)
    with closing(KafkaRetention(kafka, behind.topic)) as retention:
        told = {kept.topic: (kept.backfill, kept.letters) for kept in retention.topics()}
    assert told == {
        kafka.topic: (False, False), behind.topic: (True, False), behind.dead_letters: (False, True),
    }  # fmt: skip


def test_without_the_right_to_ask_it_says_which_and_may_be_told_to_trust(own_broker: Broker, tmp_path: Path) -> None:
    kafka = with_topics(own_broker)
    grant(kafka, INDEX)
    given = login(own_broker, kafka)
    assert penstock(tmp_path, "index", "--once", variables=given).returncode == 0
    done = penstock(tmp_path, "purge", variables=given)
    told = one_line(done, 2)
    assert f"topic '{kafka.topic}' and topic '{kafka.topic}.dlq' keeps records: the right DescribeConfigs" in told
    assert penstock(tmp_path, "purge", "--trust-retention", variables=given).returncode == 0
    rights = [Right(ResourceType.TOPIC, name, ACLOperation.DESCRIBE_CONFIGS) for name in ("{}", "{}.dlq")]
    grant(kafka, rights)
    done = penstock(tmp_path, "purge", variables=given)
    assert done.returncode == 0, done.stderr


def test_killed_half_way_it_is_run_again(broker: str, qdrant_process: QdrantSettings, tmp_path: Path) -> None:
    place = Place(new_topic(broker), qdrant_process, tmp_path)
    produce(place.kafka, [document(f"d{n}", LONG, expires_at=PAST) for n in range(12)] + [document("live", LONG)])
    place.index()
    live = {point for point in place.points() if point[0] == "live"}
    slow = environment(None, **place.variables, PURGE__POINTS_PER_S=10)
    with running([*PENSTOCK, "purge"], env=slow, cwd=tmp_path) as process, place.held() as held:
        wait_until(lambda: held.inventory.count(Sought(tombstones=True)) > 0)
        process.send_signal(signal.SIGKILL)
    assert len(place.points()) > len(live) + 12, "it was not yet done"
    place.purge()
    assert place.points() == live | {(f"d{n}", 0, True) for n in range(12)}


def metrics_of(place: Place, **more: object) -> Mapping[str, str]:
    own = {name: text for name, text in place.variables.items() if not name.startswith(("KAFKA", "MODEL"))}
    return variables(place.kafka, corpus.EMBEDDING, **own, **more)


def test_a_worker_purges_by_the_way_and_goes_on(broker: str, qdrant_process: QdrantSettings, tmp_path: Path) -> None:
    place = Place(new_topic(broker), qdrant_process, tmp_path)
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    produce(place.kafka, [document("dead", LONG, expires_at=soon), document("live")])
    with monitored(metrics_of(place, PURGE__EVERY_S=0.5)) as (process, client):
        wait_until(lambda: value(client, 'penstock_purged_points_total{kind="expired"}') > 1)
        produce(place.kafka, [document("new")])
        with place.held() as held:
            wait_until(lambda: held.inventory.count(Sought()) == 3)
        assert place.points() == {("dead", 0, True), ("live", 0, False), ("new", 0, False)}
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_worker_that_may_not_ask_leaves_tombstones_alone_and_says_so_once(
    broker: str, qdrant_process: QdrantSettings, tmp_path: Path
) -> None:
    place = Place(new_topic(broker), qdrant_process, tmp_path)
    produce(place.kafka, [document("gone"), ("gone", None), document("dead", LONG, expires_at=PAST)])
    env = environment(None, **place.variables, PURGE__EVERY_S=0.3, PURGE__TOMBSTONES_S=0.2, SETUP__LETTERS_S=0.1)
    with worker("index", env=env) as started:
        assert "keeps events for 7 days" in started.until("not_purged")["reason"]
        assert started.until("purged")["expired"] > 1
        assert started.stop() == 0
    assert [line["event"] for line in started.lines].count("not_purged") == 1
    assert ("gone", 0, True) in place.points()


def test_while_the_store_is_away_the_worker_waits_and_ends_when_it_is_told(broker: str, tmp_path: Path) -> None:
    with own_qdrant() as (process, known):
        place = Place(new_topic(broker), known, tmp_path)
        produce(place.kafka, [document("live")])
        with worker("index", env=environment(None, **place.variables, PURGE__EVERY_S=0.3)) as started:
            with closing(Connection(known)) as connection:
                started.until("started")
                wait_until(lambda: held_collection(connection, place.kafka.topic).inventory.count(Sought()) == 1)
            process.kill()
            started.until("unavailable")
            assert started.stop(30) == 0
    assert "bug" not in [line["event"] for line in started.lines]
