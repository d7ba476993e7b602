"""How fast the pipeline is, from a real Kafka on, and where the time goes: python benchmarks/pipeline.py [--quick]

(a) 1 KB documents with a null model and a null store, with a null and with a real tokenizer: documents per second.
(b) the MiniLM bundle into Qdrant: tokens per second against the same model called with the same texts alone.
(c) a null model into Qdrant: what it costs to ask before every batch whether topic and collection are still the same.

Each figure is the median of three runs; what is compared runs in turn, in one go. Prints a table and writes it to
benchmarks/results/.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

from benchmarks import minilm  # noqa: E402
from benchmarks.report import machine, table, write  # noqa: E402
from penstock.adapters.kafka.upstream import KafkaUpstream  # noqa: E402
from penstock.adapters.qdrant.collection import open_collection  # noqa: E402
from penstock.adapters.qdrant.connection import Connection  # noqa: E402
from penstock.adapters.qdrant.ledger import QdrantLedger  # noqa: E402
from penstock.assembly.index import IndexWorker  # noqa: E402
from penstock.assembly.membership import Joining, Stream  # noqa: E402
from penstock.assembly.models import EmbeddingModel, load_model  # noqa: E402
from penstock.assembly.stream import Retries  # noqa: E402
from penstock.core.documents import ChunkKey, DocumentKey, Point, Stored  # noqa: E402
from penstock.core.identity import ModelIdentity, Origin  # noqa: E402
from penstock.core.ports import Embedder, Membership, Tokenizer, VectorStore  # noqa: E402
from penstock.core.records import Partition, Record  # noqa: E402
from penstock.core.vectors import Vector  # noqa: E402
from penstock.demo.corpus import event_lines  # noqa: E402
from penstock.events.document import decode  # noqa: E402
from penstock.events.rules import DocumentRules  # noqa: E402
from penstock.fakes import MemoryDeadLetters, unchanging  # noqa: E402
from penstock.index.chunking import Chunker, ChunkRules  # noqa: E402
from penstock.index.passages import Text  # noqa: E402
from penstock.settings import IndexSettings, KafkaSettings, ModelSettings, QdrantSettings  # noqa: E402
from tests.broker import Broker, missing  # noqa: E402
from tests.kafka_tools import new_topic, produce, source  # noqa: E402
from tests.store_server import StoreServer  # noqa: E402

RUNS = 3


class NullTokenizer:
    """A token per four characters, none of them looked at."""

    special_tokens = 0

    def encode(self, texts: Sequence[str], limit: int | None = None) -> list[tuple[int, ...]]:
        return [(1,) * min(len(text) // 4 + 1, limit or len(text)) for text in texts]

    def split(self, texts: Sequence[str], capacity: int, overlap: int) -> list[list[tuple[int, str]]]:
        raise NotImplementedError(f"{len(texts)} texts above {capacity} tokens ({overlap})")


class NullEmbedder:
    """The same vector for every text."""

    dimension = 384

    def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
        return np.ones((len(texts), self.dimension), dtype=np.float32)


class NullStore:
    """Keeps the anchors' marks alone, so that the protocol comes to an end."""

    def __init__(self) -> None:
        self.anchors: dict[ChunkKey, Stored] = {}

    def read(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
        return {key: self.anchors[key] for key in keys if key in self.anchors}

    def upsert(self, points: Sequence[Point]) -> None:
        for point in points:
            self.anchors[point.key] = Stored(point.event.order, point.recipe, "", point.hashes)

    def patch(self, points: Sequence[Point]) -> None:
        self.upsert(points)

    def sweep(self, anchors: Mapping[DocumentKey, Stored]) -> None:
        pass

    def retract(self, points: Sequence[Point]) -> None:
        pass

    def probe(self) -> None:
        pass


class Result:
    """One run of the pipeline."""

    def __init__(self, documents: int, tokens: int, seconds: float, busy: dict[str, float]) -> None:
        self.documents_s = documents / seconds
        self.tokens_s = tokens / seconds
        self.busy = {name: spent / seconds for name, spent in busy.items()}


def corpus(count: int) -> list[tuple[str, bytes]]:
    """Documents of about 1 KB of English, made of the demo's sentences."""
    english = (event["text"] for event in map(json.loads, event_lines()) if event.get("language") == "en")
    words = " ".join(english).split()
    chance = random.Random(1)
    documents = []
    for n in range(count):
        at = chance.randrange(len(words) - 400)
        text = " ".join(words[at : at + 400])[:960]
        documents.append((f"doc/{n}", json.dumps({"id": f"doc/{n}", "text": text}).encode()))
    return documents


Join = Callable[[Stream], Callable[[Retries], Membership]]


def run(
    kafka: KafkaSettings,
    store: VectorStore,
    tokenizer: Tokenizer,
    embedder: Embedder,
    size: int,
    join: Join = lambda _: unchanging,
) -> Result:
    """Everything that the topic holds, once; timed from the first record on, so joining the group does not count."""
    settings = KafkaSettings.model_validate(kafka.model_dump() | {"group": uuid.uuid4().hex})
    upstream = KafkaUpstream(settings)
    known = upstream.identity()
    origin = Origin.of(kafka.topic, known, 1, "offset") if known else None
    stream = Stream(source(settings), MemoryDeadLetters(), DocumentRules(), origin, upstream)
    while not stream.source.poll(0.05, hold=True) and not stream.source._generations:  # type: ignore[attr-defined]  # noqa: SLF001
        pass
    chunker = Chunker(tokenizer, ChunkRules(size, 0, title=True, prompt="", most=50))
    started = time.perf_counter()
    worker = IndexWorker(IndexSettings(batch_bytes=500_000), stream, join(stream), store, chunker, 1, embedder)
    report = worker.run(threading.Event())
    upstream.close()
    seconds = report.last_s - started
    return Result(report.totals.total(), report.tokens, seconds, dict(report.busy_s))


def median(results: Sequence[Result], field: str) -> float:
    return float(statistics.median(getattr(result, field) for result in results))


def shares(results: Sequence[Result]) -> str:
    return ", ".join(f"{name} {statistics.median(r.busy[name] for r in results):.0%}" for name in results[0].busy)


def overhead(broker: str, tokenizer: Tokenizer, count: int) -> str:
    """(a)"""
    kafka = new_topic(broker, 4, max_poll_records=1000)
    documents = corpus(count)
    produce(kafka, documents)
    null: list[Result] = []
    real: list[Result] = []
    for _ in range(RUNS):
        null.append(run(kafka, NullStore(), NullTokenizer(), NullEmbedder(), 512))
        real.append(run(kafka, NullStore(), tokenizer, NullEmbedder(), 512))
    rows = [
        ("null tokenizer", f"{median(null, 'documents_s'):,.0f}", "1.00", shares(null)),
        (
            "real tokenizer",
            f"{median(real, 'documents_s'):,.0f}",
            f"{median(real, 'documents_s') / median(null, 'documents_s'):.2f}",
            shares(real),
        ),
    ]
    return table(rows, ("(a) null model, null store", "documents/s", "ratio", "busy")) + "\n" + where(documents)


def where(documents: Sequence[tuple[str, bytes]]) -> str:
    """The cost of single steps on one thread that has the interpreter to itself."""
    records = [Record(Partition("t", 0), n, key.encode(), value) for n, (key, value) in enumerate(documents[:5000])]
    texts = [Text(event.title, event.text) for event in (decode(record, DocumentRules()) for record in records)]
    chunker = Chunker(NullTokenizer(), ChunkRules(512, 0, title=True, prompt="", most=50))
    steps: dict[str, Callable[[], object]] = {
        "decode": lambda: [decode(record, DocumentRules()) for record in records],
        "chunk and hash, null tokenizer": lambda: chunker.chunk(texts),
    }
    rows = []
    for name, step in steps.items():
        times = []
        for _ in range(RUNS):
            started = time.perf_counter()
            step()
            times.append(time.perf_counter() - started)
        rows.append((name, f"{statistics.median(times) / len(records) * 1e6:.1f}"))
    return table(rows, ("alone, one thread", "µs per document"))


def model_bound(broker: str, model: EmbeddingModel, count: int) -> str:
    """(b)"""
    kafka = new_topic(broker, 4, max_poll_records=1000)
    documents = corpus(count)
    produce(kafka, documents)
    size = model.bundle.manifest.max_tokens
    texts = model.tokenizer.encode([json.loads(value)["text"] for _, value in documents], size)
    alone: list[float] = []
    whole: list[Result] = []
    for _ in range(RUNS):
        started = time.perf_counter()
        for at in range(0, count, 400):
            model.embedder.embed(texts[at : at + 400])
        alone.append(sum(map(len, texts)) / (time.perf_counter() - started))
        server = StoreServer()
        connection = Connection(QdrantSettings(url=f"http://127.0.0.1:{server.port}", grpc_port=server.port))
        name = open_collection(connection, "bench", model.bundle.identity(model.embedder.dimension))
        whole.append(run(kafka, connection.store(name), model.tokenizer, model.embedder, size))
        connection.close()
        server.stop()
    ratio = statistics.median(r.tokens_s / a for r, a in zip(whole, alone, strict=True))
    rows = [
        ("model alone", f"{statistics.median(alone):,.0f}", "1.00", ""),
        ("Kafka to Qdrant", f"{median(whole, 'tokens_s'):,.0f}", f"{ratio:.2f}", shares(whole)),
    ]
    return table(rows, ("(b) MiniLM fp32 on CPU", "tokens/s", "ratio", "busy"))


def asking(broker: str, count: int) -> str:
    """(c)"""
    kafka = new_topic(broker, 4, max_poll_records=1000)
    produce(kafka, corpus(count))
    results: dict[str, list[Result]] = {"asked nothing": [], "still the same topic and collection?": []}
    for _ in range(RUNS):
        for name, runs in results.items():
            server = StoreServer()
            connection = Connection(QdrantSettings(url=f"http://127.0.0.1:{server.port}", grpc_port=server.port))
            identity = ModelIdentity("null", "1", "mean", "", "", NullEmbedder.dimension)
            made = open_collection(connection, "bench", identity)
            ledger = QdrantLedger(connection, "bench", made)

            def join(stream: Stream, ledger: QdrantLedger = ledger) -> Callable[[Retries], Membership]:
                return Joining(stream, ledger, "continue").join(Retries(threading.Event()))

            asked: Join = join if name != "asked nothing" else lambda _: unchanging
            runs.append(run(kafka, connection.store(made), NullTokenizer(), NullEmbedder(), 512, asked))
            connection.close()
            server.stop()
    alone = median(results["asked nothing"], "documents_s")
    rows = [
        (name, f"{median(runs, 'documents_s'):,.0f}", f"{median(runs, 'documents_s') / alone:.2f}", shares(runs))
        for name, runs in results.items()
    ]
    return table(rows, ("(c) null model into Qdrant's stand-in", "documents/s", "ratio", "busy"))


def main() -> None:
    """Run both and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the documents, nothing written")
    scale = 10 if parser.parse_args().quick else 1
    if reason := missing():
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        broker.start()
        try:
            model = load_model(ModelSettings(bundle=minilm.bundle(Path(folder))))
            parts = [
                f"# Pipeline\n\n{machine()}. The broker, the worker and the stand-in for Qdrant share these cores.\n",
                overhead(broker.bootstrap_servers, model.tokenizer, 40_000 // scale),
                model_bound(broker.bootstrap_servers, model, 1200 // scale),
                asking(broker.bootstrap_servers, 10_000 // scale),
            ]
        finally:
            broker.stop()
    text = "\n".join(parts)
    print(text)
    if scale == 1:
        write("pipeline", text)


if __name__ == "__main__":
    main()
