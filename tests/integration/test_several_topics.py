"""Several topics into one collection, each with its own envelope and mapping, over a real broker."""

import json
import re
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient

from penstock.adapters.kafka.connection import client_options
from penstock.adapters.kafka.topics import create_topic
from penstock.settings import KafkaSettings, QdrantSettings
from tests.conftest import own_qdrant, stored, wait_until
from tests.integration.test_cli import SHIPPED, ended, kafka_variables, one_line
from tests.kafka_tools import new_topic, produce, read_all
from tests.workers import environment, penstock, worker


def change(number: int, text: str, version: int) -> tuple[str, bytes]:
    """Of a table, as Debezium tells it."""
    row = {"id": number, "text": text}
    event = {"before": None, "after": row, "op": "u", "source": {"lsn": version}, "ts_ms": 1}
    return json.dumps({"id": number}), json.dumps(event).encode()


def page(name: str, text: str, version: int) -> tuple[str, bytes]:
    """Of a content system, with fields of its own."""
    return name, json.dumps({"slug": name, "body": {"text": text}, "rev": version}).encode()


@pytest.fixture
def prefix() -> str:
    return f"many-{uuid.uuid4().hex[:6]}"


def made(broker: str, prefix: str, topics: str, **fields: Any) -> KafkaSettings:
    given = {"bootstrap_servers": broker, "topic": topics, "group": prefix, "session_timeout_s": 6.0} | fields
    return KafkaSettings.model_validate(given)


def only(kafka: KafkaSettings, topic: str) -> KafkaSettings:
    return kafka.model_copy(update={"topic": topic})


def test_each_topic_has_its_envelope_and_mapping(broker: str, prefix: str, tmp_path: Path) -> None:
    table, pages = f"{prefix}-table", f"{prefix}-pages"
    kafka = made(broker, prefix, f"{table}, {pages}")
    for topic in (table, pages):
        create_topic(only(kafka, topic), 2)
    produce(only(kafka, table), [change(1, "old", 5), change(2, "two", 6), change(1, "a row", 7)])
    produce(only(kafka, pages), [page("about", "of 2024", 2024), page("about", "of 2023", 2023), ("x", b"{}")])
    own = {
        table: {"envelope": "debezium", "version_from": "lsn"},
        pages: {"envelope": "none", "mapping": {"id": "slug", "text": "body.text", "version": "rev"}},
    }
    settings = {"INDEX__ORDER": "event", "INDEX__TOPICS": json.dumps(own)}
    with own_qdrant() as (_, qdrant):
        where = {"QDRANT__URL": qdrant.url, "QDRANT__GRPC_PORT": qdrant.grpc_port}
        env = environment(None, **kafka_variables(kafka, SHIPPED), **settings, **where, MONITOR__PORT=0)
        with worker("index", env=env, cwd=tmp_path) as index, index.client("monitored") as client:

            def counted(topic: str, outcome: str) -> float:
                labels = rf'outcome="{outcome}",topic="{topic}"'
                found = re.search(
                    rf"^penstock_index_records_total\{{{labels}\}} (\S+)", client.get("/metrics").text, re.MULTILINE
                )
                return float(found[1]) if found else 0.0

            wait_until(lambda: counted(table, "indexed") + counted(table, "superseded") == 3)
            wait_until(lambda: counted(pages, "indexed") + counted(pages, "superseded") == 2)
            assert counted(pages, "dead_lettered") == 1
            assert counted(table, "dead_lettered") == 0
            assert index.stop() == 0
        assert stored(qdrant, SHIPPED) == {"1": "a row", "2": "two", "about": "of 2024"}
    (letter,) = read_all(kafka, f"{pages}.dlq")
    assert b"mapping.text: there is no 'body.text'" in dict(letter.headers)["__connect.errors.exception.message"]
    assert read_all(kafka, f"{table}.dlq") == []


def test_topics_of_a_pattern_come_and_go(broker: str, prefix: str, tmp_path: Path) -> None:
    """Dead letters are no documents, though their topic's name fits."""
    kafka = made(broker, prefix, f"^{prefix}-.*")
    first, second = only(kafka, f"{prefix}-one"), only(kafka, f"{prefix}-two")
    create_topic(first, 1)

    def event(name: str, text: str) -> tuple[str, bytes]:
        return name, json.dumps({"id": name, "text": text, "version": 1}).encode()

    produce(first, [event("a", "in the first"), ("bad", b"nope")])
    with own_qdrant() as (_, qdrant):
        where = {"QDRANT__URL": qdrant.url, "QDRANT__GRPC_PORT": qdrant.grpc_port, "INDEX__ORDER": "event"}
        env = environment(None, **kafka_variables(kafka, SHIPPED), **where)
        with worker("index", env=env, cwd=tmp_path) as index:
            wait_until(lambda: indexed(qdrant) == {"a": "in the first"})
            create_topic(second, 2)
            produce(second, [event("b", "in the second"), ("bad", b"nope"), event("c", "there, too")])
            wait_until(lambda: indexed(qdrant).keys() == {"a", "b", "c"})
            with KafkaAdminClient(**client_options(kafka)) as admin:
                admin.delete_topics([first.topic])
            produce(second, [event("d", "later")])
            wait_until(lambda: indexed(qdrant).keys() == {"a", "b", "c", "d"})
            assert index.stop() == 0
        with worker("index", "--once", env=env, cwd=tmp_path) as again:
            assert again.until("ended")["indexed"] == 0
            assert again.end() == 0
    assert len(read_all(kafka, f"{first.topic}.dlq")) == len(read_all(kafka, f"{second.topic}.dlq")) == 1


def indexed(qdrant: QdrantSettings) -> dict[str, str]:
    """Nothing before there is a collection."""
    with suppress(Exception):
        return stored(qdrant, SHIPPED)
    return {}


def test_a_key_that_is_no_id_is_refused_where_it_cannot_be_safe(broker: str, tmp_path: Path) -> None:
    kafka = new_topic(broker, partitions=2)
    produce(kafka, [("of a customer", b'{"id": "a", "text": "A weir."}')])
    variables = kafka_variables(kafka, SHIPPED) | {"INDEX__KEY": "ignore"}
    said = one_line(penstock(tmp_path, "index", "--once", variables=variables), 2)
    assert "has 2 partitions, and with index.key = ignore" in said
    assert "PENSTOCK_INDEX__ORDER=event" in said
    single = new_topic(broker)
    produce(single, [("of a customer", b'{"id": "a", "text": "A weir."}')])
    variables = kafka_variables(single, SHIPPED) | {"INDEX__KEY": "ignore"}
    assert ended(penstock(tmp_path, "index", "--once", variables=variables))["indexed"] == 1


def test_a_mapping_that_finds_no_id_stops_before_it_fills_the_dead_letters(broker: str, tmp_path: Path) -> None:
    kafka = new_topic(broker)
    produce(kafka, [(None, json.dumps({"number": n, "text": "A weir."}).encode()) for n in range(150)])
    mapping = json.dumps({"id": "nr"})
    variables = kafka_variables(kafka, SHIPPED) | {"INDEX__MAPPING": mapping}
    said = one_line(penstock(tmp_path, "index", "--once", variables=variables), 2)
    assert "mapping.id: there is no 'nr'; the record has: number, text" in said
    assert "first 100 records" in said
    assert '{"number": ' in said
    assert read_all(kafka, kafka.dead_letters) == []
