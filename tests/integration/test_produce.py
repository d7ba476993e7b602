"""``penstock produce``: what a file holds is on the topic, keyed as workers ask for, and is indexed from there."""

import json
from pathlib import Path

import pytest

from tests.integration.test_cli import SHIPPED, ended, kafka_variables
from tests.kafka_tools import new_topic, read_all
from tests.workers import penstock

LINES = [{"id": f"doc/{n}", "text": f"Water turns turbine {n}."} for n in range(1200)]


def written(folder: Path, *lines: object) -> str:
    (folder / "events.jsonl").write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return "events.jsonl"


@pytest.mark.parametrize("compression", ["lz4", "zstd", "none"])
def test_a_files_events_are_on_the_topic_with_their_ids_as_keys(broker: str, tmp_path: Path, compression: str) -> None:
    kafka = new_topic(broker)
    variables = kafka_variables(kafka, SHIPPED)
    file = written(tmp_path, *LINES, {"id": "doc/0", "op": "delete"})
    done = penstock(tmp_path, "produce", file, "--compression", compression, "--json", variables=variables)
    assert json.loads(done.stdout) == {"topic": kafka.topic, "events": 1201, "left_out": 0, "dry_run": False}
    records = read_all(kafka, kafka.topic)
    assert {record.key.decode() for record in records} == {line["id"] for line in LINES}
    assert all(json.loads(record.value)["id"] == record.key.decode() for record in records)
    if compression == "none":
        index = {**variables, "INDEX__CHUNK_TOKENS": 32, "INDEX__CHUNK_OVERLAP": 0}
        totals = ended(penstock(tmp_path, "index", "--once", variables=index, seconds=120))
        outcomes = ("indexed", "superseded", "deleted", "deleted_unknown", "unchanged")
        assert (totals["dead_lettered"], sum(totals[name] for name in outcomes)) == (0, 1201)
        assert totals["indexed"] >= 1199


@pytest.mark.parametrize(
    ("tenant_from", "key", "headers"),
    [("key", b"acme/a", []), ("header", b"a", [("tenant", b"acme")])],
)
def test_the_tenant_is_where_workers_look_for_it(
    broker: str, tmp_path: Path, tenant_from: str, key: bytes, headers: list[tuple[str, bytes]]
) -> None:
    kafka = new_topic(broker)
    variables = {**kafka_variables(kafka, SHIPPED), "INDEX__TENANT_FROM": tenant_from}
    file = written(tmp_path, {"id": "a", "text": "Water."})
    missing = penstock(tmp_path, "produce", file, variables=variables)
    assert (missing.returncode, b"--tenant is needed" in missing.stderr) == (2, True)
    other = penstock(tmp_path, "produce", file, "--tenant", "ac/me", variables=variables)
    assert (other.returncode, b"--tenant 'ac/me': letters, digits" in other.stderr) == (2, True)
    assert penstock(tmp_path, "produce", file, "--tenant", "acme", variables=variables).returncode == 0
    (record,) = read_all(kafka, kafka.topic)
    assert (record.key, list(record.headers)) == (key, headers)


def test_a_line_that_would_be_a_dead_letter_is_not_sent(broker: str, tmp_path: Path) -> None:
    kafka = new_topic(broker)
    variables = kafka_variables(kafka, SHIPPED)
    file = written(tmp_path, LINES[0], LINES[1], {"id": "x"}, LINES[2])
    dry = penstock(tmp_path, "produce", file, "--dry-run", "--skip-invalid", variables=variables)
    assert dry.stdout.decode() == f"3 events would be sent to topic {kafka.topic}; 1 lines left out\n"
    assert read_all(kafka, kafka.topic) == []
    stopped = penstock(tmp_path, "produce", file, variables=variables)
    assert stopped.returncode == 2
    said = "line 3 of events.jsonl: text is missing; 2 events before it are sent: correct it, or --skip-invalid"
    assert said in stopped.stderr.decode()
    assert len(read_all(kafka, kafka.topic)) == 2
    skipped = penstock(tmp_path, "produce", file, "--skip-invalid", variables=variables)
    assert "line 3 of events.jsonl: text is missing" in skipped.stderr.decode()
    assert len(read_all(kafka, kafka.topic)) == 5
    missing = penstock(tmp_path, "produce", file, "--topic", "nowhere", variables=variables)
    assert (missing.returncode, b"topic 'nowhere' does not exist on " in missing.stderr) == (2, True)
    nowhere = penstock(tmp_path, "produce", "none.jsonl", variables=variables)
    assert (nowhere.returncode, b"cannot read none.jsonl" in nowhere.stderr) == (2, True)
