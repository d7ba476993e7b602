"""A worker whose topic or collection becomes another one: it ends with what to do, and the remedy works."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from kafka import KafkaAdminClient, TopicPartition
from qdrant_client import QdrantClient, models

from penstock.adapters.kafka.connection import client_options
from penstock.adapters.kafka.topics import create_topic
from penstock.adapters.kafka.upstream import KafkaUpstream
from penstock.adapters.qdrant.collection import find_collection, open_collection
from penstock.adapters.qdrant.connection import Collection, Connection
from penstock.adapters.qdrant.ledger import QdrantLedger
from penstock.core.documents import epoch_base
from penstock.core.identity import ModelIdentity, Origin
from penstock.core.records import Partition
from penstock.demo.corpus import EMBEDDING
from penstock.models.bundle import load
from penstock.settings import KafkaSettings, QdrantSettings
from tests.conftest import real_qdrant, stored, wait_until
from tests.kafka_tools import committed, document, new_topic, produce
from tests.store_server import StoreServer
from tests.workers import Worker, environment, penstock, worker

T = TypeVar("T")

DOCUMENTS = 40
AGAIN = "penstock index --from-beginning"


class Site:
    """A topic, a store, and workers between them."""

    def __init__(self, kafka: KafkaSettings, qdrant: QdrantSettings, client: Callable[..., Any], folder: Path) -> None:
        self.kafka, self.qdrant, self.change, self.folder = kafka, qdrant, client, folder
        self.name = qdrant.collection

    def variables(self, **more: object) -> dict[str, object]:
        return {
            "KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers, "KAFKA__TOPIC": self.kafka.topic,
            "KAFKA__GROUP": self.kafka.group, "KAFKA__SESSION_TIMEOUT_S": 6, "QDRANT__URL": self.qdrant.url,
            "QDRANT__GRPC_PORT": self.qdrant.grpc_port, "QDRANT__COLLECTION": self.name,
            "QDRANT__API_KEY": self.qdrant.api_key.get_secret_value(), "QDRANT__ALLOW_INSECURE": "true",
            "MODEL__BUNDLE": EMBEDDING,
        } | more  # fmt: skip

    @contextmanager
    def working(self, **more: object) -> Iterator[Worker]:
        """A worker that has indexed all that the topic holds."""
        with worker("index", env=environment(**self.variables(**more)), cwd=self.folder) as running:
            running.until("started")
            wait_until(lambda: sum(committed(self.kafka).values()) == sum(self.sent().values()))
            yield running

    def once(self, *arguments: str, **more: object) -> tuple[int, list[dict[str, Any]], str]:
        """Exit code, log and last line of a worker that ends where the topic ends."""
        done = penstock(
            self.folder, "index", "--once", *arguments, variables={**self.variables(**more), "QDRANT__PATH": ""}
        )
        lines = done.stderr.decode().splitlines()
        return done.returncode, [json.loads(line) for line in lines if line.startswith("{")], lines[-1]

    def send(self, text: str, first: int = 0) -> None:
        produce(self.kafka, [document(f"d{n}", f"{text} {n}") for n in range(first, first + DOCUMENTS)])

    def sent(self) -> Mapping[int, int]:
        with self.admin() as admin:
            known = KafkaUpstream(self.kafka).identity()
            assert known is not None
            ends = admin.list_partition_offsets(
                {TopicPartition(self.kafka.topic, n): -1 for n in range(known.partitions)}
            )
        return {owned.partition: answer.offset for owned, answer in ends.items()}

    @contextmanager
    def admin(self) -> Iterator[KafkaAdminClient]:
        with closing(KafkaAdminClient(**client_options(self.kafka))) as client:
            yield client

    def make_topic_anew(self) -> None:
        self.delete_topic()
        create_topic(self.kafka, 1)
        wait_until(lambda: KafkaUpstream(self.kafka).identity() is not None)

    def delete_topic(self) -> None:
        with self.admin() as admin:
            admin.delete_topics([self.kafka.topic])
        wait_until(lambda: KafkaUpstream(self.kafka).identity() is None)

    def stored(self) -> dict[str, str]:
        return stored(self.qdrant, EMBEDDING)

    @contextmanager
    def collection(self) -> Iterator[tuple[Connection, Collection]]:
        with closing(Connection(self.qdrant)) as connection:
            yield connection, find_collection(connection, self.name, identity())


def identity() -> ModelIdentity:
    bundle = load(EMBEDDING)
    return bundle.identity(bundle.dimension(None))


@pytest.fixture
def site(broker: str, request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    kafka = new_topic(broker)
    if url := os.environ.get("QDRANT_URL"):
        qdrant = real_qdrant(url)
        client = QdrantClient(url=url, api_key=qdrant.api_key.get_secret_value() or None)
        return Site(
            kafka, qdrant.model_copy(update={"collection": kafka.topic}), lambda action: action(client), tmp_path
        )
    server: StoreServer = request.getfixturevalue("store_server")
    qdrant = QdrantSettings(url=f"http://127.0.0.1:{server.port}", grpc_port=server.port, collection=kafka.topic)
    return Site(kafka, qdrant, server.local.run, tmp_path)


def ended(running: Worker, code: int = 2) -> str:
    """What a worker that ended by itself has said at last."""
    lines = running.process.stderr or []  # type: ignore[var-annotated]
    last = [line.decode() for line in lines][-1]
    assert running.process.wait(60) == code, last
    return last


def moved(kafka: KafkaSettings) -> dict[int, int]:
    """Offsets beyond the beginning: a partition that was polled before the worker ended has a mark at its beginning."""
    return {partition: offset for partition, offset in committed(kafka).items() if offset}


def test_partitions_that_are_added_end_a_worker_before_it_writes_what_came_after(site: Site) -> None:
    site.send("old")
    with site.working() as running:
        with site.admin() as admin:
            admin.create_partitions({site.kafka.topic: 4})
        site.send("new")
        said = ended(running)
    assert "has 4 partitions, it had 1" in said
    assert {text.split()[0] for text in site.stored().values()} == {"old"}
    assert moved(site.kafka) == {0: DOCUMENTS}
    code, _, said = site.once()
    assert (code, "has 4 partitions" in said) == (2, True)


def test_a_topic_that_is_made_anew_ends_a_worker_and_the_remedy_indexes_it(site: Site) -> None:
    site.send("old")
    with site.working() as running:
        site.make_topic_anew()
        site.send("new")
        assert "was deleted and made anew" in ended(running)
    assert {text.split()[0] for text in site.stored().values()} == {"old"}
    code, _, said = site.once()
    assert code == 2
    assert AGAIN in said
    assert "set PENSTOCK_INDEX__EPOCH to 2" in said
    code, _, said = site.once("--from-beginning", INDEX__EPOCH=2)
    assert code == 0, said
    assert {text.split()[0] for text in site.stored().values()} == {"new"}


def test_an_epoch_that_was_raised_alone_is_told_that_the_offsets_are_not_its_own(site: Site) -> None:
    """The group's offsets are of the old epoch: nothing would be read."""
    site.send("old")
    assert site.once()[0] == 0
    code, _, said = site.once(INDEX__EPOCH=2)
    assert code == 2
    assert AGAIN in said


def test_a_topic_that_is_gone_ends_an_idle_worker(site: Site) -> None:
    site.send("old")
    with site.working() as running:
        site.delete_topic()
        assert "is gone" in ended(running)


def drop(site: Site, client: QdrantClient) -> None:
    client.delete_collection(f"{site.name}-{identity().digest}")


def empty(site: Site, client: QdrantClient) -> None:
    client.delete(f"{site.name}-{identity().digest}", models.FilterSelector(filter=models.Filter()))


def move_alias(site: Site, client: QdrantClient) -> None:
    client.create_collection(
        f"{site.name}-other", {"dense": models.VectorParams(size=4, distance=models.Distance.COSINE)}
    )
    changes: list[models.AliasOperations] = [
        models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=site.name)),
        models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=f"{site.name}-other", alias_name=site.name)
        ),
    ]
    client.update_collection_aliases(change_aliases_operations=changes)


CHANGES = {
    "dropped": (drop, "is gone"),
    "emptied": (empty, "emptied"),
    "alias moved": (move_alias, "the alias now points to"),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
def test_a_collection_that_is_another_ends_a_worker(site: Site, name: str, *, busy: bool) -> None:
    change, expected = CHANGES[name]
    site.send("old")
    with site.working() as running:
        site.change(partial(change, site))
        if busy:
            site.send("new")
        assert expected in ended(running)
    assert committed(site.kafka) == {0: DOCUMENTS}


def test_a_collection_that_was_dropped_while_nobody_ran_is_not_filled_from_the_middle(site: Site) -> None:
    site.send("old")
    assert site.once()[0] == 0
    site.change(partial(drop, site))
    site.send("new", DOCUMENTS)
    code, _, said = site.once()
    assert code == 2
    assert AGAIN in said
    assert site.stored() == {}
    code, _, said = site.once("--from-beginning")
    assert code == 0, said
    assert len(site.stored()) == 2 * DOCUMENTS


@pytest.mark.parametrize("under_a_worker", [True, False])
def test_a_collection_that_was_restored_from_an_older_snapshot_is_seen(site: Site, *, under_a_worker: bool) -> None:
    site.send("old")
    if under_a_worker:
        with site.working() as running:
            restore(site)
            site.send("new")
            assert "emptied, restored" in ended(running)
    else:
        assert site.once()[0] == 0
        restore(site)
    code, _, said = site.once()
    assert code == 2
    assert f"up to offset {DOCUMENTS // 2}" in said
    code, _, said = site.once("--from-beginning")
    assert code == 0, said


def restore(site: Site) -> None:
    """What a snapshot of half-way brings back, as far as progress tells."""
    with site.collection() as (connection, collection):
        nameless = models.FilterSelector(
            filter=models.Filter(must=[models.IsEmptyCondition(is_empty=models.PayloadField(key="document"))])
        )
        site.change(lambda client: client.delete(collection.name, nameless))
        ledger = QdrantLedger(connection, site.name, collection)
        ledger.advance({Partition(site.kafka.topic, 0): epoch_base(1) + DOCUMENTS // 2})


def test_a_collection_that_was_made_anew_by_another_ends_a_worker(site: Site) -> None:
    site.send("old")
    with site.working() as running:
        site.change(partial(drop, site))
        with closing(Connection(site.qdrant)) as connection:
            open_collection(connection, site.name, identity())
        assert re.search("made anew|is gone", ended(running))


def test_workers_of_a_lower_epoch_let_go(site: Site) -> None:
    site.send("old")
    with site.working() as running:
        with site.collection() as (connection, collection):
            ledger = QdrantLedger(connection, site.name, collection)
            state = ledger.state()
            assert state is not None
            assert state.origin is not None
            ledger.follow(Origin(site.kafka.topic, state.origin.topic_id, 1, 2))
        assert "raise PENSTOCK_INDEX__EPOCH to 2" in ended(running, 3)


def test_the_group_goes_back_only_while_nobody_works(site: Site) -> None:
    site.send("old")
    with site.working():
        code, _, said = site.once("--from-beginning")
        assert code == 2
        assert "has 1 members" in said
    assert committed(site.kafka) == {0: DOCUMENTS}


def test_a_new_group_begins_where_retention_has_left_something(site: Site) -> None:
    """That it has begun there is remembered beside the offset, and is no progress."""
    site.send("old")
    with site.admin() as admin:
        admin.delete_records({TopicPartition(site.kafka.topic, 0): DOCUMENTS // 2})
    code, _, said = site.once()
    assert code == 0, said
    assert len(site.stored()) == DOCUMENTS // 2
    assert site.once()[0] == 0


def test_another_order_is_another_collection(site: Site) -> None:
    site.send("old")
    assert site.once()[0] == 0
    for more in ({}, {"INDEX__EPOCH": 2}):
        code, _, said = site.once("--from-beginning", INDEX__ORDER="event", **more)
        assert code == 2
        assert "set PENSTOCK_QDRANT__COLLECTION to a new name" in said


@pytest.mark.parametrize("anew", [True, False], ids=["made anew", "deleted"])
def test_a_query_worker_whose_topic_is_another_or_gone_ends(site: Site, *, anew: bool) -> None:
    site.send("old")
    assert site.once()[0] == 0
    queries = Site(new_topic(site.kafka.bootstrap_servers), site.qdrant, site.change, site.folder)
    asked = {"QUERY__TOPIC": queries.kafka.topic, "QUERY__GROUP": queries.kafka.topic, "HTTP__ENABLED": "false"}
    env = environment(**site.variables(RERANK__ENABLED="false", QUERY__REPLY_TOPIC=f"{site.name}-replies", **asked))
    with worker("query", env=env, cwd=site.folder) as running:
        running.until("started")
        queries.make_topic_anew() if anew else queries.delete_topic()
        assert ("was deleted and made anew" if anew else "is gone") in ended(running)


@pytest.mark.parametrize("on_gap", ["continue", "stop"])
def test_records_that_retention_removed_before_they_were_read_are_told(site: Site, on_gap: str) -> None:
    site.send("read")
    assert site.once()[0] == 0
    for part in range(3):
        site.send("unread", part * DOCUMENTS)
    with site.admin() as admin:
        admin.delete_records({TopicPartition(site.kafka.topic, 0): 3 * DOCUMENTS})
    code, log, said = site.once(INDEX__ON_GAP=on_gap)
    if on_gap == "stop":
        assert code == 2
        assert f"offsets {DOCUMENTS} to {3 * DOCUMENTS - 1} of {site.kafka.topic}/0 were removed" in said
        assert committed(site.kafka) == {0: DOCUMENTS}
        return
    assert code == 0, said
    (gap,) = [line for line in log if line["event"] == "gap"]
    assert (gap["partition"], gap["first"], gap["offsets"]) == (0, DOCUMENTS, 2 * DOCUMENTS)
    assert log[-1]["indexed"] == DOCUMENTS
