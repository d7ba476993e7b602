"""Changes of a table, as other tools write them, through a real topic: the store ends as the table does."""

import json
import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from penstock.adapters.qdrant.collection import find_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.assembly.models import load_model
from penstock.settings import ModelSettings, QdrantSettings
from tests import registry as registry_process
from tests.conftest import unavailable
from tests.integration.test_cli import SHIPPED, ended, kafka_variables
from tests.kafka_tools import committed, new_topic, produce
from tests.workers import environment, penstock, worker

Row = dict[str, Any]
Change = tuple[str | bytes | None, bytes | None]
Write = Callable[[str, int, Row | None, Row | None, int], list[Change]]


def history(write: Write, steps: int = 120, seed: int = 7) -> tuple[list[Change], dict[str, str]]:
    """A snapshot, then inserts, updates, deletes and changes of keys; and what the table holds in the end."""
    chance, table, changes = random.Random(seed), {}, []  # no secret
    for number in range(5):
        table[number] = f"row {number} of the snapshot"
        changes += write("r", number, None, {"id": number, "text": table[number]}, 0)
    for step in range(1, steps):
        number, text = chance.randrange(12), f"text of step {step}"
        before = None if number not in table else {"id": number, "text": table[number]}
        match chance.choice(["write", "write", "delete", "rename"]):
            case "write":
                changes += write("u" if before else "c", number, before, {"id": number, "text": text}, step)
                table[number] = text
            case "delete" if before:
                changes += write("d", number, before, None, step)
                del table[number]
            case "rename" if before:  # a changed key is a delete and an insert
                other = number + 100 * step
                changes += write("d", number, before, None, step)
                changes += write("c", other, None, {"id": other, "text": table[number]}, step)
                table[other] = table.pop(number)
    return changes, {str(number): text for number, text in table.items()}


def struct(number: int) -> str:
    return json.dumps({"schema": {"type": "struct"}, "payload": {"id": number}})


def whole(op: str, number: int, before: Row | None, after: Row | None, step: int) -> list[Change]:
    """The envelope, with schemas, and the tombstone behind a delete."""
    source = {"db": "w", "table": "articles", "lsn": 24_000_000 + step}
    payload = {"before": before, "after": after, "op": op, "source": source, "ts_ms": 1_714_557_600_000 + step}
    event = struct(number), json.dumps({"schema": {}, "payload": payload}).encode()
    return [event, (struct(number), None)] if op == "d" else [event]


def flattened(op: str, number: int, before: Row | None, after: Row | None, step: int) -> list[Change]:
    """By ExtractNewRecordState, with delete.tombstone.handling.mode = rewrite."""
    row = {**(after or before or {}), "__deleted": str(op == "d").lower(), "__op": op, "__lsn": 24_000_000 + step}
    return [(json.dumps({"id": number}), json.dumps(row).encode())]


def events(op: str, number: int, _before: Row | None, after: Row | None, step: int) -> list[Change]:
    """CloudEvents in structured mode; a delete has no data."""
    event = {"specversion": "1.0", "type": f"article.{op}", "source": "/articles", "id": str(step)}
    return [(str(number), json.dumps({**event, **({"data": after} if after else {})}).encode())]


@pytest.mark.parametrize(
    ("write", "more"),
    [
        (whole, {}),
        (whole, {"INDEX__ORDER": "event", "INDEX__VERSION_FROM": "lsn", "SETUP__CLEANUP": "delete"}),
        (flattened, {}),
        (events, {"INDEX__EMPTY_DATA": "delete"}),
    ],
    ids=["debezium", "debezium-by-lsn", "debezium-flattened", "cloudevents"],
)
def test_the_store_ends_as_the_table_does(broker: str, tmp_path: Path, write: Write, more: dict[str, object]) -> None:
    kafka = new_topic(broker)
    changes, table = history(write)
    produce(kafka, changes)
    done = penstock(tmp_path, "index", "--once", variables=kafka_variables(kafka, SHIPPED) | more)
    assert ended(done)["dead_lettered"] == 0
    name = b"cloudevents" if write is events else b"debezium"
    assert done.stderr.count(b'"event": "envelope"') == done.stderr.count(b'"name": "%s"' % name) == 1
    assert indexed(tmp_path) == table


def indexed(folder: Path) -> dict[str, str]:
    """What readers see."""
    with closing(Connection(QdrantSettings(path=folder / "qdrant", collection="documents"))) as connection:
        identity = load_model(ModelSettings(bundle=SHIPPED)).identity
        living = connection.store(find_collection(connection, "documents", identity)).living()
        return {hit.key.document: hit.text for hit in living}


class InAvro:
    """A table whose rows are Avro by a real registry's schemas, keys too: the value's changes halfway."""

    def __init__(self, registry: str, topic: str) -> None:
        client = SchemaRegistryClient.new_client({"url": registry})
        key = {"type": "record", "name": "Key", "fields": [{"name": "pk", "type": "long"}]}
        old = [{"name": "pk", "type": "int"}, {"name": "body", "type": "string"}]
        new = [{"name": "pk", "type": "long"}, {"name": "body", "type": "string"}, {"name": "by", "type": "string"}]
        schemas = [key, *({"type": "record", "name": "Row", "fields": fields} for fields in (old, new))]
        self._key, *self._rows = (AvroSerializer(client, json.dumps(schema)) for schema in schemas)
        self._topic = topic

    def __call__(self, op: str, number: int, _before: Row | None, after: Row | None, step: int) -> list[Change]:
        key = self._key({"pk": number}, SerializationContext(self._topic, MessageField.KEY))
        if after is None:
            return [(key, None)]
        row = {"pk": number, "body": after["text"], "by": op}
        return [(key, self._rows[step > 60](row, SerializationContext(self._topic, MessageField.VALUE)))]


def test_rows_in_avro_end_as_the_table_does(broker: str, registry: str, tmp_path: Path) -> None:
    """With a mapping; one record names a schema that the registry does not have, and is a dead letter."""
    kafka = new_topic(broker)
    changes, table = history(InAvro(registry, kafka.topic))
    changes.insert(50, (b"a key", b"\0\0\x0f\0\0 of nobody"))
    produce(kafka, changes)
    mapping = {"id": "pk", "text": "body", "metadata": {"include": ["by"]}}
    more = {"REGISTRY__URL": registry, "INDEX__MAPPING": json.dumps(mapping)}
    done = penstock(tmp_path, "index", "--once", variables=kafka_variables(kafka, SHIPPED) | more)
    assert ended(done)["dead_lettered"] == 1
    assert b"schema 983040 is not in the registry" in done.stderr
    assert indexed(tmp_path) == table


def test_a_registry_that_is_away_is_waited_for(broker: str, tmp_path: Path) -> None:
    """Nothing becomes a dead letter, and nothing is committed; when it comes, all is indexed."""
    if reason := registry_process.missing():
        unavailable(reason)
    own = registry_process.RegistryProcess(tmp_path)
    own.start()
    try:
        kafka = new_topic(broker)
        changes, table = history(InAvro(own.url, kafka.topic), steps=10)
        produce(kafka, changes)
        own.hang()
        more = {"REGISTRY__URL": own.url, "REGISTRY__TIMEOUT_S": 1}
        mapping = {"INDEX__MAPPING": json.dumps({"id": "pk", "text": "body"})}
        env = environment(tmp_path, **kafka_variables(kafka, SHIPPED), **more, **mapping)
        with worker("index", "--once", env=env, cwd=tmp_path) as index:
            told = index.until("unavailable")
            assert "the registry at" in told["error"]
            assert not any(committed(kafka).values())
            own.go_on()
            assert index.until("ended")["dead_lettered"] == 0
            assert index.end() == 0
        assert indexed(tmp_path) == table
    finally:
        own.stop()
