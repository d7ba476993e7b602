"""What words beside vectors cost: python benchmarks/hybrid.py [--quick]

The demo's documents, each twice in another order of sentences, with vectors of 1,024 random numbers, through the
store's own writes and searches on Qdrant's engine in this process: a collection with terms and one without, written in
turns, then indexed (HNSW). Searches are the short descriptions of packages, one at a time, for 100 candidates.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

import numpy as np  # noqa: E402

from benchmarks.report import about, machine, table, write  # noqa: E402
from benchmarks.small_model import documents  # noqa: E402
from penstock.adapters.qdrant import points as convert  # noqa: E402
from penstock.adapters.qdrant.collection import open_collection  # noqa: E402
from penstock.adapters.qdrant.connection import Connection  # noqa: E402
from penstock.adapters.qdrant.shape import Shape  # noqa: E402
from penstock.adapters.qdrant.store import QdrantStore  # noqa: E402
from penstock.core.documents import Chunk, DocumentKey, Event, Op, Order, Point  # noqa: E402
from penstock.core.identity import ModelIdentity  # noqa: E402
from penstock.core.queries import Lookup  # noqa: E402
from penstock.core.records import Partition, Record  # noqa: E402
from penstock.core.terms import Weighting  # noqa: E402
from penstock.core.vectors import Vector  # noqa: E402
from penstock.demo import corpus  # noqa: E402
from penstock.evaluate.labelled import read, sampled  # noqa: E402
from penstock.index.plan import text_hash  # noqa: E402
from penstock.query.ranking import fused  # noqa: E402
from penstock.settings import QdrantSettings  # noqa: E402
from tests.edge_store import EdgeQdrant  # noqa: E402

DIMENSION, CANDIDATES = 1024, 100
COPIES, QUERIES, BATCH = 2, 100, 1000
NOW = datetime.now(UTC)
IDENTITY = ModelIdentity("random", "1", "last", "", "", DIMENSION)


def unit(rng: np.random.Generator) -> Vector:
    row = rng.standard_normal(DIMENSION)
    return (row / np.linalg.norm(row)).astype(np.float32)


def points(copies: int) -> Iterator[Point]:
    shuffle, rng = random.Random(0), np.random.default_rng(0)  # no secret
    for copy in range(copies):
        for name, text in documents().items():
            sentences = text.split(". ")
            shuffle.shuffle(sentences)
            said = ". ".join(sentences)
            record = Record(Partition("documents", 0), 1, None, None)
            event = Event(record, DocumentKey("", f"{name}-{copy}"), Order(1, 1), Op.UPSERT)
            chunk = Chunk(said, 0, len(said), text_hash(said))
            yield Point(event, 0, 1, (chunk.hash,), chunk, unit(rng))


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()) / 1e6


def written(stores: Sequence[QdrantStore], made: Sequence[Point]) -> list[float]:
    """Documents a second of each, in turns."""
    seconds = [0.0] * len(stores)
    for start in range(0, len(made), BATCH):
        for at, store in enumerate(stores):
            begun = time.perf_counter()
            store.upsert(made[start : start + BATCH])
            seconds[at] += time.perf_counter() - begun
    return [len(made) / took for took in seconds]


def searched(store: QdrantStore, texts: Sequence[str], *, vectors: bool, words: bool) -> float:
    """Milliseconds of a search, the median."""
    rng, took = np.random.default_rng(1), []
    for text in texts:
        lookup = Lookup(unit(rng) if vectors else None, "", CANDIDATES, NOW, None, text if words else "")
        begun = time.perf_counter()
        fused(store.search([lookup])[0], 4.0)
        took.append((time.perf_counter() - begun) * 1000)
    return statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one copy of each document, nothing written")
    quick = parser.parse_args().quick
    made = list(points(1 if quick else COPIES))
    asked = [query.text for query in sampled(read(corpus.HELD_OUT / "en.jsonl", None), QUERIES)]
    begun = time.perf_counter()
    terms = [Weighting().of_document(point.chunk.text) for point in made if point.chunk]
    weighing = (time.perf_counter() - begun) / len(made) * 1e6
    sizes = [
        statistics.mean(convert.upsert_message(point, shape, "").ByteSize() for point in made)
        for shape in (Shape(DIMENSION), Shape(DIMENSION, 0, Weighting()))
    ]
    with tempfile.TemporaryDirectory() as passing:
        folders = [Path(passing) / name for name in ("without", "with")]
        engines = [EdgeQdrant(folder) for folder in folders]
        with (
            closing(Connection(QdrantSettings(terms=False), engines[0])) as without,
            closing(Connection(QdrantSettings(), engines[1])) as having,
        ):
            stores = [one.store(open_collection(one, "documents", IDENTITY)) for one in (without, having)]
            rates = written(stores, made)
            for engine in engines:
                for held in engine.held.values():
                    held.shard.optimize()
            disk = [megabytes(folder) for folder in folders]
            times = {
                "vectors, collection without terms": searched(stores[0], asked, vectors=True, words=False),
                "vectors": searched(stores[1], asked, vectors=True, words=False),
                "words": searched(stores[1], asked, vectors=False, words=True),
                "both": searched(stores[1], asked, vectors=True, words=True),
            }
    average = statistics.mean(len(one.indices) for one in terms)
    rows = [
        ("bytes of a point as it is sent", f"{sizes[0]:,.0f}", f"{sizes[1]:,.0f}", f"{sizes[1] / sizes[0]:.2f}"),
        ("MB on disk", f"{disk[0]:,.0f}", f"{disk[1]:,.0f}", f"{disk[1] / disk[0]:.2f}"),
        ("documents written a second", f"{rates[0]:,.0f}", f"{rates[1]:,.0f}", f"{rates[1] / rates[0]:.2f}"),
    ]
    first = times["vectors, collection without terms"]
    text = f"# Words beside vectors\n\n{machine()}. {len(made):,} points. {about(__doc__)}\n\n"
    text += table(rows, ("", "without terms", "with terms", "ratio"))
    text += f"\nA point has {average:.0f} different terms; finding and weighing them takes {weighing:.0f} µs.\n\n"
    text += table(
        [(name, f"{took:.1f}", f"{took / first:.2f}") for name, took in times.items()],
        ("search by", "ms, median", "ratio"),
    )
    print(text)
    if not quick:
        write("hybrid", text)


if __name__ == "__main__":
    main()
