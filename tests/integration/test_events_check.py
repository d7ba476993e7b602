"""``penstock events check``: what foreign records would become, from a file and from a topic, and nothing changes."""

import base64
import json
from pathlib import Path
from typing import Any

from tests.integration.test_cli import SHIPPED, kafka_variables
from tests.kafka_tools import committed, new_topic, produce
from tests.workers import penstock

ROW = {"id": 19, "title": "Sluice", "text": "A sluice lets water through a gate."}
FOREIGN: list[tuple[bytes, str, str]] = [
    (json.dumps({"id": "a", "text": "Water.", "colour": "red"}).encode(), "indexed", "not read: colour"),
    (
        json.dumps({"after": ROW, "op": "c"}).encode(),
        "indexed",
        "out of Debezium's envelope; title 'Sluice'; 35 characters",
    ),
    (json.dumps({**ROW, "__deleted": "true"}).encode(), "deleted", "out of Debezium's envelope"),
    (json.dumps({"op": "t", "before": None, "after": None}).encode(), "dead letter", "the table was truncated"),
    (b'{"_id": "x", "body": "hello"}', "dead letter", "did you mean id?"),
    (b"[1]", "dead letter", "a list"),
    (base64.b64decode("AAAAAAd7fQ=="), "dead letter", "schema registry's frame"),
]


def read(printed: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


def test_a_files_records_are_explained(tmp_path: Path) -> None:
    lines = [value for value, _, _ in FOREIGN[:-1]]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines))
    done = penstock(tmp_path, "events", "check", "events.jsonl", "--json")
    told = read(done.stdout)
    for (_, became, said), one in zip(FOREIGN, told, strict=False):
        assert (one["became"], said in one["said"]) == (became, True), one
    assert [one["document"] for one in told[:3]] == ["a", "19", "19"]
    shown = penstock(tmp_path, "events", "check", "-", "--limit", "2", stdin=b"\n".join(lines)).stdout.decode()
    assert "  indexed a: 6 characters, 'Water.'; not read: colour" in shown
    assert shown.endswith("2 records: 2 indexed\n")
    assert not (tmp_path / "qdrant").exists()


def test_a_topics_newest_records_are_explained_and_nothing_is_committed(broker: str, tmp_path: Path) -> None:
    kafka = new_topic(broker, 2)
    produce(kafka, [(f"old/{n}", json.dumps({"id": f"old/{n}", "text": "old"}).encode()) for n in range(50)])
    produce(kafka, [(None if became == "dead letter" else "k", value) for value, became, _ in FOREIGN])
    variables = kafka_variables(kafka, SHIPPED)
    done = penstock(tmp_path, "events", "check", kafka.topic, "--limit", "30", "--json", variables=variables)
    told = read(done.stdout)
    assert 20 <= len(told) <= 30
    assert {one["became"] for one in told} == {"indexed", "dead letter"}
    assert any("key 'k' contradicts the body, which says 'a'" in one["said"] for one in told)
    assert any("the value is in a schema registry's frame" in one["said"] for one in told)
    assert not committed(kafka)
    missing = penstock(tmp_path, "events", "check", "nowhere", variables=variables)
    assert (missing.returncode, missing.stderr.decode()) == (2, "penstock: there is no file and no topic 'nowhere'\n")
