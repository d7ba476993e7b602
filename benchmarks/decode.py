"""How fast records become events, as they are and as others send them: python benchmarks/decode.py

Microseconds for each record on one core, the fastest of several rounds, in turns; documents of 400 characters.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

from benchmarks.report import about, machine, table, write  # noqa: E402
from penstock.adapters.registry.client import ConfluentRegistry  # noqa: E402
from penstock.assembly.index import BODIES  # noqa: E402
from penstock.core.ports import Registry  # noqa: E402
from penstock.core.records import Partition, Record  # noqa: E402
from penstock.events.document import decode  # noqa: E402
from penstock.events.mapping import MappingSpec, MomentFrom  # noqa: E402
from penstock.events.metadata import MetadataFrom  # noqa: E402
from penstock.events.rules import DocumentRules  # noqa: E402
from penstock.settings import RegistrySettings  # noqa: E402

RECORDS, ROUNDS = 2000, 15
TEXT = "A turbine turns the fall of water into rotation. " * 8


def row(number: int) -> dict[str, Any]:
    return {
        "id": f"wiki/{number}",
        "title": "Turbines",
        "text": TEXT,
        "timestamp": "2026-11-27T12:00:00Z",
        "metadata": {"section": "energy", "year": 2026},
    }


def debezium(number: int) -> dict[str, Any]:
    source = {"db": "w", "table": "articles", "lsn": number}
    return {"before": None, "after": row(number), "source": source, "op": "c", "ts_ms": 1_714_557_600_000 + number}


WAYS: dict[str, Callable[[int], dict[str, Any]]] = {
    "as it is": row,
    "Debezium": debezium,
    "Debezium, with schemas": lambda number: {"schema": {"type": "struct"}, "payload": debezium(number)},
    "Debezium, flattened": lambda number: {**row(number), "__deleted": "false", "__op": "c"},
    "Kafka Connect": lambda number: {"schema": {"type": "struct"}, "payload": row(number)},
    "CloudEvents": lambda number: {
        "specversion": "1.0", "type": "article", "source": "/articles", "id": str(number), "data": row(number),
    },
}  # fmt: skip


AVRO = {
    "type": "record",
    "name": "Article",
    "fields": [
        *({"name": name, "type": "string"} for name in ("id", "title", "text", "timestamp")),
        {"name": "metadata", "type": {"type": "map", "values": ["string", "long"]}},
    ],
}
MAPPING = MappingSpec(
    id="nr", text="{lead}\n\n{body.text}", timestamp=MomentFrom(field="at", format="epoch_ms"), metadata=MetadataFrom()
)
FORMATTED = " ".join(TEXT.split()[:10])
PAGE = "".join(f"<h2>Part {n}</h2><p>{FORMATTED}</p><ul><li>{FORMATTED}</li></ul>" for n in range(5))


def mapped(number: int) -> dict[str, Any]:
    return {"nr": number, "title": "Turbines", "lead": TEXT[:50], "body": {"text": TEXT[50:]}, "at": 1_714_557_600_000,
            "section": "energy", "year": 2026}  # fmt: skip


def in_avro() -> tuple[Callable[[int], bytes], Registry]:
    """A registry in this process, and what writes rows by its schema."""
    client = SchemaRegistryClient.new_client({"url": "mock://here"})
    serialize, context = AvroSerializer(client, json.dumps(AVRO)), SerializationContext("articles", MessageField.VALUE)
    registry = ConfluentRegistry(RegistrySettings(url="http://here"), client)
    return lambda number: serialize(row(number), context), registry


def ways() -> dict[str, tuple[Callable[[int], bytes], DocumentRules]]:
    """What writes the value of a record, and how it is read."""
    plain = DocumentRules(bodies=BODIES)
    mapping = replace(plain, mapping=MAPPING, key="ignore")
    in_json = {way: (value, plain) for way, value in WAYS.items()}
    in_json["with a mapping"] = mapped, mapping
    in_json["Debezium, with a mapping"] = (lambda number: {**debezium(number), "after": mapped(number)}), mapping
    in_json["HTML, of 5 headings"] = (lambda number: {**row(number), "text": PAGE, "format": "html"}), plain
    found = {way: (partial(written, value), rules) for way, (value, rules) in in_json.items()}
    write_avro, registry = in_avro()
    return found | {"Avro by a registry": (write_avro, replace(plain, registry=registry))}


def written(value: Callable[[int], dict[str, Any]], number: int) -> bytes:
    return json.dumps(value(number)).encode()


def took(records: Sequence[Record], rules: DocumentRules) -> float:
    started = time.perf_counter()
    for record in records:
        decode(record, rules)
    return (time.perf_counter() - started) / len(records) * 1e6


def main() -> None:
    partition = Partition("articles", 0)
    made = {
        way: ([Record(partition, number, f"wiki/{number}".encode(), value(number)) for number in range(RECORDS)], rules)
        for way, (value, rules) in ways().items()
    }
    fastest = dict.fromkeys(made, float("inf"))
    for _ in range(ROUNDS):
        for way, (records, rules) in made.items():
            fastest[way] = min(fastest[way], took(records, rules))
    rows = [(way, f"{spent:.1f}", f"{1e6 / spent:,.0f}") for way, spent in fastest.items()]
    text = f"# Records to events\n\n{machine()}. {about(__doc__)}\n\n"
    text += table(rows, ("document", "us/record", "records/s"))
    print(text)
    write("decode", text)


if __name__ == "__main__":
    main()
