"""Input that is something else than it seems, on a real topic: a record is what it is, or a letter that says why."""

import gzip
import json
import re
from pathlib import Path
from typing import NamedTuple

from tests.integration.test_cli import SHIPPED, ended, kafka_variables
from tests.kafka_tools import committed, new_topic, produce, read_all
from tests.workers import penstock


class Given(NamedTuple):
    """A record, and what its dead letter says; nothing where there is none."""

    key: str
    value: object
    said: str = ""


def gauge(number: int, **more: object) -> dict[str, object]:
    return {"id": f"gauge/{number}", "text": f"Gauge {number} stands at two metres."} | more


FRAME = "\0\0\0\0\x0b"
BODY = json.dumps(gauge(4)).encode()

RECORDS = [
    Given("gauge/1", gauge(1, timestamp="2026-03-01T08:30:00.123456789+01:00", colour="red")),
    Given("gauge/2", gauge(2, __deleted="false", __op="u", metadata={"maker.name": "Ann", "seals": [{"mm": 12}]})),
    Given("gauge/3", b"\xef\xbb\xbf" + json.dumps(gauge(3)).encode()),
    Given("gauge/4", BODY),
    Given("gauge/4", gauge(4, expires_at="20310101"), "expires_at: not RFC 3339"),
    Given("gauge/4", gauge(4, timestamp="1772352000"), "timestamp: not RFC 3339"),
    Given("gauge/4", gauge(4, expiresAt="2031-01-01T00:00:00Z"), "did you mean expires_at"),
    Given("gauge/4", gauge(4, Op="delete"), "did you mean op"),
    Given("gauge/4", gauge(4, deleted=True), "sounds like a delete"),
    Given("gauge/4", gauge(4, __deleted="true", __op="d"), "sounds like a delete.*Debezium"),
    Given("gauge/4", FRAME.encode() + BODY, "schema registry's frame .schema 11, JSON Schema"),
    Given("gauge/4", gzip.compress(BODY), "compressed .gzip"),
    Given("gauge/4", json.dumps(gauge(4)).encode("utf-16"), "UTF-16"),
    Given("gauge/4", json.dumps(json.dumps(gauge(4))).encode(), "encoded twice"),
    Given("gauge/4", [gauge(4)], "a list"),
    Given("gauge/4", {"schema": None, "payload": None}, "Connect's envelope with nothing in it"),
    Given("gauge/4", {"before": gauge(4), "after": None, "op": "d"}, "Debezium's envelope"),
    Given("gauge/4", b"null", "a tombstone is a null value"),
    Given("gauge/4", b"", "a tombstone is a null value"),
    Given('"gauge/4"', None, "the key is JSON in quotes"),
    Given('{"id": "gauge/4"}', None, "the key is a JSON object"),
    Given(f"{FRAME}gauge/4", None, "the key is in a schema registry's frame"),
    Given("gauge/3", None),
    Given("gauge/9", None),
]


def test_each_record_is_what_it_is_or_a_letter_that_says_why_not(broker: str, tmp_path: Path) -> None:
    kafka = new_topic(broker)
    values = [
        one.value if one.value is None or isinstance(one.value, bytes) else json.dumps(one.value).encode()
        for one in RECORDS
    ]
    produce(kafka, zip((one.key for one in RECORDS), values, strict=True))
    done = penstock(
        tmp_path, "index", "--once", variables=kafka_variables(kafka, SHIPPED) | {"INDEX__ENVELOPE": "none"}
    )
    expected = [one for one in RECORDS if one.said]
    assert ended(done) == {
        "indexed": 3, "unchanged": 0, "superseded": 1, "deleted": 1, "deleted_unknown": 1,
        "dead_lettered": len(expected),
    }  # fmt: skip
    assert committed(kafka) == {0: len(RECORDS)}
    letters = read_all(kafka, kafka.dead_letters)
    for one, letter in zip(expected, letters, strict=True):
        said = dict(letter.headers)["__connect.errors.exception.message"].decode()
        assert re.search(one.said, said), (one, said)
    assert done.stderr.count(b"unknown_field") == len(("colour", "__deleted", "__op"))
    assert searched(tmp_path, {"field": 'metadata."maker.name"', "equals": "Ann"}) == {"gauge/2"}
    assert searched(tmp_path, {"field": "metadata.seals.mm", "range": {"gte": 12}}) == {"gauge/2"}
    assert searched(tmp_path, {"field": "timestamp", "range": {"lt": "2026-03-01T07:30:01Z"}}) == {"gauge/1"}
    assert searched(tmp_path, {"not": {"field": "document", "equals": "nothing"}}) == {"gauge/1", "gauge/2", "gauge/4"}


def searched(folder: Path, only: dict[str, object]) -> set[str]:
    variables = {"MODEL__BUNDLE": SHIPPED, "RERANK__ENABLED": "false"}
    done = penstock(folder, "search", "--json", "--filter", json.dumps(only), "gauge", variables=variables)
    assert done.returncode == 0, done.stderr.decode()
    return {hit["document"] for hit in json.loads(done.stdout)["hits"]}
