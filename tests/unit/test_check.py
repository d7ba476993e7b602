"""Thirty records as others send them, and what ``penstock events check`` says of each, in words for a stranger."""

import base64
import json
from typing import Any

import pytest

from penstock.assembly.index import BODIES
from penstock.core.records import Partition, Record
from penstock.events.check import check
from penstock.events.mapping import MappingSpec
from penstock.events.rules import DocumentRules

TEXT = "A lock lifts boats."
ROW = {"id": 5, "title": "Lock", "text": TEXT}
CLOUD = {"specversion": "1.0", "type": "t", "source": "/s", "id": "1"}


def js(value: Any) -> bytes:
    return json.dumps(value).encode()


FOREIGN: list[tuple[bytes | None, bytes | None, str, str]] = [
    (
        None,
        js({"id": "a", "text": TEXT, "colour": "red"}),
        "indexed a",
        "19 characters, 'A lock lifts boats.'; not read: colour",
    ),
    (b"5", js({"before": None, "after": ROW, "op": "c"}), "indexed 5", "out of Debezium's envelope; title 'Lock'"),
    (b'{"id":5}', js({"before": {"id": 5}, "after": None, "op": "d"}), "deleted 5", "out of Debezium's envelope"),
    (b'{"id":5}', None, "deleted 5", "a tombstone"),
    (None, js({**ROW, "__deleted": "true", "__op": "d"}), "deleted 5", "out of Debezium's envelope"),
    (
        None,
        js({"op": "t", "before": None, "after": None}),
        "dead letter",
        "the table was truncated, and not which rows",
    ),
    (None, js({"schema": {}, "payload": ROW}), "indexed 5", "out of Kafka Connect's envelope"),
    (b"5", js({"schema": None, "payload": None}), "dead letter", "a tombstone is a null value"),
    (None, js({**CLOUD, "data": ROW}), "indexed 5", "out of CloudEvents' envelope"),
    (None, js([{**CLOUD, "data": ROW}]), "indexed 5", "out of CloudEvents' envelope"),
    (b"5", js(CLOUD), "dead letter", "there is no data in CloudEvents' envelope: to delete its document then, set"),
    (None, js({"_id": "a", "body": TEXT}), "dead letter", "did you mean id?"),
    (
        None,
        js({"id": "a", "text": TEXT, "expiresAt": "2030-01-01T00:00:00Z"}),
        "dead letter",
        "did you mean expires_at?",
    ),
    (None, js({"id": "a", "text": TEXT, "deleted": True}), "dead letter", "sounds like a delete"),
    (None, js({"id": "a", "text": TEXT, "op": "remove"}), "dead letter", "op: Input should be 'upsert' or 'delete'"),
    (None, js({"id": "a", "text": TEXT, "timestamp": 1714557600000}), "dead letter", "timestamp: not RFC 3339"),
    (None, js({"id": "a", "text": TEXT, "timestamp": "2024-05-01"}), "dead letter", "needs a time and a zone"),
    (None, js({"id": "a", "text": "  "}), "dead letter", 'to remove a document send "op": "delete"'),
    (
        None,
        js({"id": "a", "text": "<h1>Lock</h1><p>Boats.", "format": "html"}),
        "indexed a",
        "title 'Lock'; 12 characters",
    ),
    (None, js({"id": "a", "text": "<nav>Home</nav>", "format": "html"}), "dead letter", "no text in this html"),
    (
        None,
        b"\0\0\0\0\x07\x02a",
        "dead letter",
        "in a schema registry's frame (schema 7, Avro or Protobuf): set PENSTOCK_REGISTRY__URL",
    ),
    (None, b"\0" * 8 + b"\x07{}", "dead letter", "in Apicurio's frame of eight bytes"),
    (None, b"\x03\x00" + b"g" * 40, "dead letter", "AWS Glue's schema registry"),
    (
        None,
        base64.b64decode("H4sIAAAAAAAAA6tWykxRslJQSlTSUVAqSa0oUbJSUPJRqgUA8nXpNRkAAAA="),
        "dead letter",
        "compressed (gzip)",
    ),
    (None, js({"id": "a", "text": TEXT}).decode().encode("utf-16"), "dead letter", "in UTF-16: write UTF-8"),
    (None, b"[1, 2]", "dead letter", "a list: send what is in it one by one"),
    (None, js(js({"id": "a"}).decode()), "dead letter", "encoded twice"),
    (None, b"<article><id>5</id></article>", "dead letter", "XML or HTML, not JSON"),
    (
        b'"a"',
        None,
        "dead letter",
        "the key is JSON in quotes, not a plain id (of keys index.key_format = json reads it)",
    ),
    ((5).to_bytes(8), None, "dead letter", "a control character (0x00 at 0)"),
    (b"b", js({"id": "a", "text": TEXT}), "dead letter", "key 'b' contradicts the body, which says 'a'"),
]


@pytest.mark.parametrize(("key", "value", "became", "said"), FOREIGN)
def test_a_foreign_record_is_explained(key: bytes | None, value: bytes | None, became: str, said: str) -> None:
    told = check(Record(Partition("t", 0), 0, key, value), DocumentRules(keyed=False, bodies=BODIES))
    assert f"{told.became} {told.document or ''}".strip() == became
    assert said in told.said
    assert "\n" not in told.said


def test_what_a_mapping_makes_of_a_record_is_shown() -> None:
    mapping = MappingSpec(id="_id", text="{head}: {body}")
    rules = DocumentRules(mapping=mapping, keyed=False)
    told = check(Record(Partition("t", 0), 0, None, js({"_id": 7, "head": "Lock", "body": TEXT})), rules)
    assert (told.became, told.document) == ("indexed", "7")
    assert "'Lock: A lock lifts boats.'" in told.said
    told = check(Record(Partition("t", 0), 0, None, js({"nr": 7, "head": "Lock", "body": TEXT})), rules)
    assert told.said == "mapping.id: there is no '_id'; the record has: nr, head, body"
