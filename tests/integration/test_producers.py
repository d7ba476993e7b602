"""The producers that docs/events.md shows, run as they stand there: what is then on the topic, and what it becomes."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kafka.record import MemoryRecords

from penstock.adapters.kafka.peek import newest
from penstock.core.records import Record
from penstock.events.check import check
from penstock.events.document import decode
from penstock.events.rules import DocumentRules
from penstock.settings import KafkaSettings
from tests import broker as kafka_broker
from tests.conftest import ROOT, unavailable
from tests.kafka_tools import document, new_topic, produce

UPSERTED, DELETED = "wiki/turbines", "wiki/treadmills"
TITLE = "Turbines"
TEXT = "A turbine turns the fall of water into rotation. Benoît Fourneyron built the first one."
PARTITIONS = 12
Program = Callable[[KafkaSettings], "subprocess.CompletedProcess[str]"]


def shown(language: str) -> str:
    """The one program in it that the page has."""
    page = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return str(found)


def of_python(_: Path) -> list[str]:
    """The client is among what the extra registry needs."""
    if not find_spec("confluent_kafka"):
        unavailable("the extra registry is not installed")
    return [sys.executable, "program.py"]


def of_java(_: Path) -> list[str]:
    """The client and Jackson are among the broker's jars."""
    if not shutil.which("javac") or not list(kafka_broker.LIB.glob("kafka-clients-*.jar")):
        unavailable("Java's compiler or Kafka's jars are missing: install a JDK 17 or later and Maven, and `make test`")
    quick = ["-Dfile.encoding=UTF-8", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    return ["java", *quick, "-cp", f"{kafka_broker.LIB}/*", "program.java"]


def of_js(folder: Path) -> list[str]:
    """With what package-lock.json locks."""
    if not shutil.which("node") or not shutil.which("npm"):
        unavailable("Node is missing: install Node 18 or later with npm")
    shutil.copytree(ROOT / "tests" / "clients" / "node", folder, dirs_exist_ok=True)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    return ["node", "program.mjs"]


LANGUAGES = {"python": (of_python, "program.py"), "java": (of_java, "program.java"), "js": (of_js, "program.mjs")}


@pytest.fixture(scope="module", params=LANGUAGES)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Runs what the page shows in a language, with the broker and the topic of a test."""
    folder = tmp_path_factory.mktemp(request.param)
    prepare, name = LANGUAGES[request.param]
    command, text = prepare(folder), shown(request.param)
    assert text.count("localhost:9092") == 1
    assert '"documents"' in text

    def run(kafka: KafkaSettings) -> "subprocess.CompletedProcess[str]":
        here = text.replace("localhost:9092", str(kafka.bootstrap_servers)).replace('"documents"', f'"{kafka.topic}"')
        (folder / name).write_text(here, encoding="utf-8")
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture(scope="module")
def kafka(program: Program, broker: str) -> KafkaSettings:
    """A topic that has older events of both documents, by a producer of ours, and then what the program sends."""
    made = new_topic(broker, PARTITIONS)
    produce(made, [document(name, "An older text.") for name in (UPSERTED, DELETED)])
    done = program(made)
    assert done.returncode == 0, done.stdout + done.stderr
    return made


class Found(NamedTuple):
    """What is on the topic: records by key, in their order, and of each batch where it begins and who numbered it."""

    records: dict[bytes | None, list[Record]]
    batches: set[tuple[int, bool]]


@pytest.fixture(scope="module")
def found(kafka: KafkaSettings) -> Found:
    """As a consumer of ours reads it."""
    batches, next_batch = set(), MemoryRecords.next_batch

    def watched(self: Any, *given: Any) -> Any:
        if (batch := next_batch(self, *given)) is not None:
            batches.add((batch.base_offset, batch.has_producer_id()))
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryRecords, "next_batch", watched)
        read = newest(kafka, 10 * PARTITIONS)
    return Found({key: [one for one in read if one.key == key] for key in {one.key for one in read}}, batches)


def test_the_key_is_the_bytes_of_the_id_and_the_value_plain_json(found: Found) -> None:
    assert found.records.keys() == {UPSERTED.encode(), DELETED.encode()}
    _, sent = found.records[UPSERTED.encode()]
    assert sent.value is not None
    assert json.loads(sent.value.decode("utf-8")) == {"id": UPSERTED, "title": TITLE, "text": TEXT}
    assert "Benoît".encode() in sent.value
    _, tombstone = found.records[DELETED.encode()]
    assert (tombstone.value, sent.headers, tombstone.headers) == (None, (), ())


def test_workers_index_the_document_and_delete_the_other(found: Found) -> None:
    sent, tombstone = found.records[UPSERTED.encode()][-1], found.records[DELETED.encode()][-1]
    rules = DocumentRules()
    told = [check(record, rules) for record in (sent, tombstone)]
    assert [(one.became, one.document) for one in told] == [("indexed", UPSERTED), ("deleted", DELETED)]
    event = decode(sent, rules)
    assert (event.title, event.text, event.unknown) == (TITLE, TEXT, ())


def test_a_documents_events_share_a_partition_whoever_sends_them(found: Found) -> None:
    for events in found.records.values():
        assert len(events) == 2
        assert len({record.partition for record in events}) == 1


def test_a_retry_would_be_known_as_such(found: Found) -> None:
    """By the producer's number, which only one that is idempotent gives to its batches; the second is the program's."""
    assert {numbered for begins, numbered in found.batches if begins == 1} == {True}


def test_what_kafka_refuses_is_an_error(program: Program, kafka: KafkaSettings) -> None:
    done = program(kafka.model_copy(update={"topic": "no topic's name"}))
    assert done.returncode != 0
    assert "invalid topic" in done.stderr.lower()
