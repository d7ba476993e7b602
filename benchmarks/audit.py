"""How fast an audit reads, and in how much memory: python benchmarks/audit.py [DOCUMENTS]

The topic is on a real Kafka: four partitions, a record of 400 characters for each document, and a newer one for every
tenth. The collection is synthetic, since the stand-in for Qdrant would take hours to fill: two points a document, made
while they are read, so what a server and the network cost is not in these figures. A hundred documents are missing, and
are found. The audit runs in a process of its own, whose peak memory is told.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

from benchmarks.report import about, machine, table, write  # noqa: E402
from penstock.adapters.kafka.connection import connect_producer  # noqa: E402
from penstock.adapters.kafka.topics import create_topic  # noqa: E402
from penstock.core.documents import ChunkKey, Order, Stored, epoch_base  # noqa: E402
from penstock.core.inventory import Held, Sought  # noqa: E402
from penstock.core.records import Partition  # noqa: E402
from penstock.events.rules import DocumentRules  # noqa: E402
from penstock.operate.audit.report import Report  # noqa: E402
from penstock.operate.audit.run import Audit  # noqa: E402
from penstock.operate.audit.topic import Topics  # noqa: E402
from penstock.settings import KafkaSettings  # noqa: E402
from tests.broker import Broker  # noqa: E402

DOCUMENTS, PARTITIONS, RENEWED, MISSING = 1_000_000, 4, 10, 100
TEXT = "A turbine turns the fall of water into rotation. " * 8
HASHES = ("0" * 32, "1" * 32)


def fill(kafka: KafkaSettings, documents: int) -> None:
    """Every document, then every tenth again."""
    with closing(connect_producer(kafka, linger_ms=50, batch_size=1 << 18, compression_type="lz4")) as producer:
        numbered = [*((n, "first") for n in range(documents)), *((n, "again") for n in range(0, documents, RENEWED))]
        for n, title in numbered:
            value = json.dumps({"id": f"d{n}", "text": TEXT, "title": title}).encode()
            producer.send(kafka.topic, key=f"d{n}".encode(), value=value, partition=n % PARTITIONS)
        producer.flush()


def offset_of(n: int, documents: int) -> int:
    """Of a document's newest record in its partition."""
    if n % RENEWED:
        return n // PARTITIONS
    first = -(-(documents - n % PARTITIONS) // PARTITIONS)
    step = 20  # of each partition every 20th document comes twice, or none
    return first + n // step


class Synthetic:
    """The collection that workers would have made of it, but for a hundred documents."""

    def __init__(self, topic: str, documents: int) -> None:
        self.topic, self.documents = topic, documents
        self.gone = set(range(7, documents, max(1, documents // MISSING)))

    def scan(self, sought: Sought, part: int = 0, parts: int = 1) -> Iterator[Held]:
        wanted: Sequence[int] = range(part, self.documents, parts)
        if sought.documents:
            wanted = [int(name[1:]) for name in sought.documents] if not part else []
        return (point for n in wanted if n not in self.gone for point in self._points(n))

    def _points(self, n: int) -> Iterator[Held]:
        offset = offset_of(n, self.documents)
        order = Order(epoch_base(1) + offset, epoch_base(1) + offset)
        for chunk in (0, 1):
            stored = Stored(order, 1, HASHES[chunk], HASHES if chunk == 0 else ())
            source = f"{self.topic}/{n % PARTITIONS}/{offset}"
            yield Held(ChunkKey("", f"d{n}", chunk), stored, "2026-11-30T00:00:00Z", "", source)

    def count(self, _: Sought) -> int:
        return 2 * (self.documents - len(self.gone))

    def remove(self, _: Sequence[Held]) -> None:
        raise AssertionError("an audit removes nothing")

    bury = remove


class Committed:
    """A group that has read everything."""

    def __init__(self, ends: Mapping[Partition, int]) -> None:
        self.ends = ends

    def committed(self) -> Mapping[Partition, int]:
        return self.ends

    def identity(self) -> None:
        return None


def measure(servers: str, topic: str, documents: int) -> dict[str, float]:
    """In this process."""
    kafka = KafkaSettings(bootstrap_servers=servers, topic=topic, group=topic)
    ends = {Partition(topic, n): 1 << 40 for n in range(PARTITIONS)}
    topics, report = Topics(kafka, DocumentRules(), Committed(ends)), Report()
    laps: list[tuple[str, float]] = []

    def step(name: str, _: int) -> Any:
        laps.append((name, time.perf_counter()))
        return nullcontext(lambda _: None)

    audit = Audit(topics, Synthetic(topic, documents), 1, True, 86_400.0, report, step)
    began = time.perf_counter()
    audit.run()
    ended = time.perf_counter()
    spent = {name: after - at for (name, at), after in zip(laps, [at for _, at in laps[1:]] + [ended], strict=True)}
    rows = sum(len(one.table) * one.table.row_bytes for one in (*topics.expected, audit.held))
    assert report.damaged.total() == min(MISSING, len(Synthetic(topic, documents).gone)), report.damaged
    return {"total": ended - began, "peak_mb": peak_mb(), "rows_mb": rows / 1e6,
            "records": report.records, "points": report.points, **spent}  # fmt: skip


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    documents = int(sys.argv[1]) if sys.argv[1:] else DOCUMENTS
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        broker.start()
        try:
            kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, topic="documents", group="audited")
            create_topic(kafka, PARTITIONS)
            fill(kafka, documents)
            command = [sys.executable, __file__, "--measure", broker.bootstrap_servers, kafka.topic, str(documents)]
            done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
        finally:
            broker.stop()
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    rows = [(name, f"{found[name]:.1f} s", f"{documents / found[name]:,.0f}/s")
            for name in ("reading the topic", "reading the collection", "looking again", "total")]  # fmt: skip
    text = f"# An audit\n\n{machine()}. {about(__doc__)}\n\n"
    text += f"{documents:,} documents, {found['records']:,.0f} records, {found['points']:,.0f} points; "
    text += f"peak memory {found['peak_mb']:,.0f} MB, of that the rows of both sides {found['rows_mb']:,.0f} MB, "
    text += f"{found['rows_mb'] * 1e6 / documents:.0f} bytes for a document.\n\n"
    text += table(rows, ("step", "time", "documents"))
    print(text)
    write("audit", text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    else:
        main()
