"""Change events of a table, as Debezium writes them, through a real topic: the store ends as the table does."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.adapters.qdrant.collection import find_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.assembly.models import load_model
from penstock.settings import ModelSettings, QdrantSettings
from tests.integration.test_cli import SHIPPED, ended, kafka_variables
from tests.kafka_tools import new_topic, produce
from tests.workers import penstock

Row = dict[str, Any]
Change = tuple[str | None, bytes | None]
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
    settings = QdrantSettings(path=tmp_path / "qdrant", collection="documents")
    connection = Connection(settings)
    identity = load_model(ModelSettings(bundle=SHIPPED)).identity
    living = connection.store(find_collection(connection, "documents", identity)).living()
    connection.close()
    assert {hit.key.document: hit.text for hit in living} == table
