"""How fast records become events, as they are and in the envelopes of others: python benchmarks/decode.py

Microseconds for each record on one core, the fastest of several rounds, in turns; documents of 400 characters.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

from benchmarks.report import about, machine, table, write  # noqa: E402
from penstock.core.records import Partition, Record  # noqa: E402
from penstock.events.document import decode  # noqa: E402
from penstock.events.rules import DocumentRules  # noqa: E402

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


def took(records: Sequence[Record], rules: DocumentRules) -> float:
    started = time.perf_counter()
    for record in records:
        decode(record, rules)
    return (time.perf_counter() - started) / len(records) * 1e6


def main() -> None:
    partition, rules = Partition("articles", 0), DocumentRules()
    made = {
        way: [
            Record(partition, number, f"wiki/{number}".encode(), json.dumps(value(number)).encode())
            for number in range(RECORDS)
        ]
        for way, value in WAYS.items()
    }
    fastest = dict.fromkeys(made, float("inf"))
    for _ in range(ROUNDS):
        for way, records in made.items():
            fastest[way] = min(fastest[way], took(records, rules))
    rows = [(way, f"{spent:.1f}", f"{1e6 / spent:,.0f}") for way, spent in fastest.items()]
    text = f"# Records to events\n\n{machine()}. {about(__doc__)}\n\n"
    text += table(rows, ("document", "us/record", "records/s"))
    print(text)
    write("decode", text)


if __name__ == "__main__":
    main()
