"""A collection gets another model while it is written and searched: by processes as they are documented, on Kafka."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from penstock.adapters.kafka.connection import client_options, connect_producer
from penstock.adapters.qdrant.connection import Connection
from penstock.adapters.qdrant.members import members
from penstock.adapters.qdrant.migration import opened
from penstock.core.inventory import Sought
from penstock.core.members import PARTS
from penstock.settings import KafkaSettings, QdrantSettings
from tests.conftest import wait_until
from tests.integration.test_cli import SHIPPED
from tests.kafka_tools import committed, ends, new_topic
from tests.workers import Worker, environment, penstock, worker

WORDS = ["turbine", "dam", "river", "valve", "pipe", "gauge", "pump", "canal", "weir", "sluice"]


@dataclass
class Site:
    """A topic, a store for several processes, and the settings of all that run there."""

    kafka: KafkaSettings
    qdrant: QdrantSettings
    folder: Path
    state: dict[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, object]:
        return {
            "KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "KAFKA__TOPIC": self.kafka.topic,
            "KAFKA__GROUP": self.kafka.group,
            "KAFKA__SESSION_TIMEOUT_S": 6,
            "MODEL__BUNDLE": SHIPPED,
            "MODEL__DIMENSION": 64,
            "RERANK__ENABLED": "false",
            "QDRANT__URL": self.qdrant.url,
            "QDRANT__GRPC_PORT": self.qdrant.grpc_port,
            "QDRANT__COLLECTION": self.kafka.topic,
            "QDRANT__API_KEY": self.qdrant.api_key.get_secret_value(),
            "QDRANT__ALLOW_INSECURE": "true",
        }

    @contextmanager
    def working(self, *arguments: str, **more: object) -> Iterator[Worker]:
        env = environment(None, **self.variables, **more)
        with worker(*arguments, env=env, cwd=self.folder) as running:
            yield running

    def run(self, *arguments: str, **more: object) -> Any:
        """The one JSON object that a command prints."""
        done = penstock(self.folder, *arguments, variables=self._over(more))
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def fails(self, *arguments: str, **more: object) -> str:
        """What a command that ends with exit code 2 says."""
        done = penstock(self.folder, *arguments, variables=self._over(more))
        assert done.returncode == 2, done.stderr.decode()
        return done.stderr.decode().splitlines()[-1]

    def _over(self, more: dict[str, object]) -> dict[str, object]:
        return {"QDRANT__PATH": "", **self.variables, **more}

    def send(self, *changes: tuple[str, str | None]) -> None:
        """Names and texts; None deletes."""
        with closing(connect_producer(self.kafka)) as producer:
            for name, text in changes:
                self.put(producer, name, text)
            producer.flush()

    def put(self, producer: KafkaProducer, name: str, text: str | None) -> None:
        value = None if text is None else json.dumps({"id": name, "text": text}).encode()
        producer.send(self.kafka.topic, key=name.encode(), value=value)
        self.state.pop(name, None)
        self.state |= {} if text is None else {name: text}

    def held(self) -> dict[str, dict[str, str]]:
        """What readers would see of each collection behind the alias."""
        with closing(Connection(self.qdrant)) as connection:
            there = members(connection, self.kafka.topic)
            return {
                one.name: {
                    hit.key.document: hit.text
                    for hit in connection.store(opened(connection, one)).living()
                    if hit.key.chunk == 0
                }
                for one in there
            }

    def caught_up(self, group: str) -> bool:
        own = self.kafka.model_copy(update={"group": group})
        done = committed(own)
        return all(done.get(n, 0) >= end for n, end in ends(own, 2).items() if end)


@pytest.fixture
def site(broker: str, qdrant_process: QdrantSettings, tmp_path: Path) -> Site:
    kafka = new_topic(broker, 2)
    _set_policy(kafka, "compact")
    return Site(kafka, qdrant_process, tmp_path)


def _set_policy(kafka: KafkaSettings, policy: str) -> None:
    with closing(KafkaAdminClient(**client_options(kafka))) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, kafka.topic, {"cleanup.policy": policy})])


class Stream(threading.Thread):
    """Changes, deletes and new documents all the while, one after the other."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site, self.ended, self.sent = site, threading.Event(), 0

    def run(self) -> None:
        chance = random.Random(7)
        with closing(connect_producer(self.site.kafka)) as producer:
            while not self.ended.wait(0.02):
                self.change(producer, chance)
            producer.flush()

    def change(self, producer: KafkaProducer, chance: random.Random) -> None:
        name = f"doc {chance.randrange(120)}"
        text = None if chance.random() < 0.2 else f"A {chance.choice(WORDS)} and {self.sent} {chance.choice(WORDS)}s."
        self.site.put(producer, name, text)
        self.sent += 1


class Searches(threading.Thread):
    """Queries all the while; every answer is kept by the dimension of the model that it names."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.ended = url, threading.Event()
        self.dimensions: list[int] = []
        self.failed: list[str] = []
        self.found: Counter[bool] = Counter()

    def run(self) -> None:
        chance = random.Random(8)
        with httpx.Client(base_url=self.url, timeout=20) as client:
            while not self.ended.wait(0.05):  # leaving the workers something of two processors
                answer = client.post("/v1/search", json={"query": f"a {chance.choice(WORDS)}", "timeout_ms": 10_000})
                if answer.status_code != 200:
                    self.failed.append(f"{answer.status_code} {answer.text}")
                    continue
                self.dimensions.append(answer.json()["model"]["dimension"])
                self.found[bool(answer.json()["hits"])] += 1


@pytest.mark.timeout(600)
def test_a_collection_is_migrated_under_a_stream_with_searches_running_and_rolled_back(site: Site) -> None:
    """No query fails, none is answered by one model from the other's vectors, and both collections hold the same."""
    site.send(*((f"doc {n}", f"The {WORDS[n % 10]} of number {n}.") for n in range(120)))
    both = {"MIGRATION__BUNDLE": "shipped", "MIGRATION__DIMENSION": 128}
    with ExitStack() as running:
        old = running.enter_context(site.working("index"))
        wait_until(lambda: site.caught_up(site.kafka.group))
        query = running.enter_context(site.working("query", **both, HTTP__PORT=0))
        port = query.until("listening")["port"]
        query.until("ready")
        stream, searches = Stream(site), Searches(f"http://127.0.0.1:{port}")
        for thread in (stream, searches):
            thread.start()
            running.callback(thread.join)
            running.callback(thread.ended.set)
        assert "64" in str(site.run("migrate", "--status", "--json")["members"])
        new = running.enter_context(site.working("migrate", **both))
        begun = new.until("migration")
        assert (begun["begun"], begun["copies"]) == (True, False)
        wait_until(lambda: site.run("migrate", "--status", "--json")["members"][1]["points"] > 0)
        switched = site.run("migrate", "--switch", "--json", **both)
        assert switched["collection"] == begun["to"]
        wait_until(lambda: searches.dimensions[-1] == 128)
        assert "sent to" in site.fails("migrate", "--switch")
        time.sleep(1)  # under the new one, for a while
        told = site.run("migrate", "--status", "--json")
        assert [(one["current"], one["workers"]) for one in told["members"]] == [(True, 1), (False, 1)]
        back = site.run("migrate", "--rollback", "--json")
        assert back["collection"] == begun["origin"]
        wait_until(lambda: searches.dimensions[-1] == 64)
        stream.ended.set()
        stream.join()
        wait_until(lambda: site.caught_up(site.kafka.group) and site.caught_up(begun["group"]))
        assert site.held() == dict.fromkeys((begun["origin"], begun["to"]), site.state)
        assert not searches.failed
        assert searches.found[True] > 100
        changes = sum(a != b for a, b in zip(searches.dimensions, searches.dimensions[1:], strict=False))
        assert (changes, set(searches.dimensions)) == (2, {64, 128})
        searches.ended.set()
        searches.join()
        go_on_after_the_switch(site, begun, both)
        assert "still write" in site.fails("migrate", "--drop", "--yes")
        assert new.stop() == 0
        wait_until(lambda: site.run("migrate", "--status", "--json")["members"][1]["workers"] == 0)
        assert "say --yes" in site.fails("migrate", "--drop")
        assert site.run("migrate", "--drop", "--yes", "--json")["removed"] == begun["to"]
        assert old.stop() == 0
        assert query.stop() == 0


def go_on_after_the_switch(site: Site, begun: dict[str, Any], both: dict[str, object]) -> None:
    """As a worker does that is evicted, or restarted."""
    assert site.run("migrate", "--switch", "--json")["collection"] == begun["to"]
    with site.working("migrate", **both) as another:
        told = another.until("migration")
        assert (told["begun"], told["to"], told["group"]) == (False, begun["to"], begun["group"])
        another.until("started")
        assert another.stop() == 0
    assert site.run("migrate", "--rollback", "--json")["collection"] == begun["origin"]


def test_what_a_topic_holds_no_more_is_copied_and_what_it_holds_is_taken_from_there(site: Site) -> None:
    """Killed half-way and run again, it goes on; a delete that only the old collection remembers is taken along."""
    _set_policy(site.kafka, "delete")
    long = " ".join(f"Sentence {n} tells of a {WORDS[n % 10]}." for n in range(80))
    site.send(("kept", "An old text."), ("gone", "Soon deleted."), ("long", long), ("gone", None))
    more = {"INDEX__CHUNK_TOKENS": 64, "INDEX__CHUNK_OVERLAP": 8}
    with site.working("index", "--once", **more) as first:
        assert first.end() == 0
    _forget(site)
    site.send(("kept", "A new text."), ("fresh", "Only in the topic."))
    with site.working("index", "--once", **more) as second:
        assert second.end() == 0
    smaller = {
        "INDEX__CHUNK_TOKENS": 32,
        "INDEX__CHUNK_OVERLAP": 4,
        "MIGRATION__BUNDLE": "shipped",
        "MIGRATION__DIMENSION": 128,
    }
    assert site.run("migrate", "--dry-run", "--json", **smaller)["copies"] is True
    with site.working("migrate", **smaller) as killed:
        killed.until("copied_part")
        killed.process.kill()
    assert "parts are copied" in site.fails("migrate", "--switch", "--wait-s", "0")
    with site.working("migrate", "--once", **smaller) as again:
        assert again.until("migration")["begun"] is False
        assert again.until("backfill_copied")["dead_lettered"] == 0
        assert again.end() == 0
    told = site.run("migrate", "--status", "--json")
    assert (told["ready"], told["members"][1]["parts_copied"]) == (True, PARTS)
    old, new = site.held().values()
    assert set(old) == set(new) == {"kept", "fresh", "long"}
    assert (new["kept"], new["fresh"]) == ("A new text.", "Only in the topic.")
    with closing(Connection(site.qdrant)) as connection:
        pair = members(connection, site.kafka.topic)
        counts = [connection.inventory(one.name).count(Sought(tombstones=True)) for one in pair]
        orders = [
            {
                held.key: held.stored.order
                for held in connection.inventory(one.name).scan(Sought())
                if not held.key.chunk
            }
            for one in pair
        ]
        chunks = [
            sorted(
                (hit.place, hit.text)
                for hit in connection.store(opened(connection, one)).living()
                if hit.key.document == "long"
            )
            for one in pair
        ]
    assert counts == [1, 1]
    assert orders[0] == orders[1]
    assert len(chunks[1]) > len(chunks[0]) > 1
    for (start, end), text in chunks[1]:
        assert long[start:end] == text


def _forget(site: Site) -> None:
    """As retention does: nothing of what was sent so far is in the topic any more."""

    with closing(KafkaAdminClient(**client_options(site.kafka))) as admin:
        admin.delete_records(
            {TopicPartition(site.kafka.topic, n): end for n, end in ends(site.kafka, 2).items() if end}
        )


def test_both_answers_are_compared_by_the_queries_of_a_file(site: Site, tmp_path: Path) -> None:
    site.send(*((word, f"All about the {word}, its parts and its care.") for word in WORDS))
    both = {"MIGRATION__BUNDLE": "shipped", "MIGRATION__DIMENSION": 256}
    with site.working("index", "--once") as first:
        assert first.end() == 0
    with site.working("migrate", "--once", **both) as filled:
        assert filled.end() == 0
    labelled = tmp_path / "labelled.jsonl"
    labelled.write_text("".join(json.dumps({"query": f"care of a {w}", "relevant": [w]}) + "\n" for w in WORDS))
    told = site.run("migrate", "--compare", str(labelled), "--json", **both)
    assert (told["queries"], told["current"]["points"], told["other"]["points"]) == (10, 10, 10)
    assert told["current"]["ndcg@10"] > 0.9
    assert told["other"]["ndcg@10"] > 0.9
    assert told["other"]["vector_bytes"] == 4 * told["current"]["vector_bytes"]
    assert told["overlap@10"] == 1.0  # ten documents, each query finds them all
    plain = tmp_path / "plain.txt"
    plain.write_text("a turbine\na dam\n")
    assert site.run("migrate", "--compare", str(plain), "--json", **both)["current"]["ndcg@10"] is None
    assert "PENSTOCK_MIGRATION__BUNDLE" in site.fails("migrate", "--compare", str(plain))


def test_what_does_not_fit_is_one_line_and_changes_nothing(site: Site) -> None:
    new = {"MIGRATION__BUNDLE": "shipped", "MIGRATION__DIMENSION": 128}
    assert "which model?" in site.fails("migrate")
    assert "nothing to migrate" in site.fails("migrate", **new)
    assert "index something first" in site.fails("migrate", "--status")
    site.send(("a", "text"))
    with site.working("index", "--once") as first:
        assert first.end() == 0
    assert "no migration" in site.fails("migrate", "--switch")
    assert "no migration" in site.fails("migrate", "--drop", "--yes")
    assert "one at a time" in site.fails("migrate", "--switch", "--rollback")
    assert "no model bundle in nowhere" in site.fails("migrate", "--to", "nowhere")
    assert "dimension" in site.fails("migrate", "--to", "shipped", "--dimension", "3")
    with site.working("migrate", "--once", **new) as filled:
        told = filled.until("migration")
        group = told["group"]
        assert filled.end() == 0
    assert "kept beside" in site.fails("migrate", "--to", "shipped", "--dimension", "256")
    assert "none of the collections is written by group 'third'" in site.fails("index", "--once", KAFKA__GROUP="third")
    assert "another model" in site.fails("index", "--once", KAFKA__GROUP=group)
    site.send(("b", "more"))
    assert "lacks" not in site.run("migrate", "--switch", "--json", "--dry-run")
    with site.working("index", "--once") as ahead:
        assert ahead.end() == 0
    assert "lacks 1 records" in site.fails("migrate", "--switch", "--wait-s", "0")
    assert site.run("migrate", "--switch", "--behind", "--wait-s", "0", "--json")["behind"] == 1
    assert site.run("migrate", "--rollback", "--json")["collection"].endswith(told["origin"][-8:])
    assert site.run("migrate", "--drop", "--yes", "--json")["removed"] == told["to"]
    with site.working("migrate", "--once", **new) as anew:  # the same group, with offsets of the one that was dropped
        assert anew.until("ended")["indexed"] == 2
        assert anew.end() == 0
    assert site.run("migrate", "--status", "--json")["members"][1]["points"] == 2
