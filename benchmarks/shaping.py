"""What a query gains by wishing for fresh, diverse or more chunks, and what that costs: python benchmarks/shaping.py

Sets made of the demo's documents, with their short descriptions as queries, by the shipped embedding model, in a hybrid
search without reranking over an embedded store, for ten hits out of 100 candidates. Fresh: each document three times,
written today, 100 and 400 days ago; the newest is meant, the half-life is 30 days. Diverse: each document four times,
three of them with words left out; counted are different originals among ten hits. Chunks: five documents in one;
counted are the right chunk among the hits, and different documents. Milliseconds are medians of a whole search.
"""

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

from benchmarks.report import about, machine, table, write  # noqa: E402
from benchmarks.small_model import documents  # noqa: E402
from penstock.adapters.qdrant.collection import open_collection  # noqa: E402
from penstock.adapters.qdrant.connection import Connection  # noqa: E402
from penstock.assembly.models import EmbeddingModel, Models, load_model  # noqa: E402
from penstock.assembly.search import make_search, no_progress  # noqa: E402
from penstock.core.documents import Chunk, DocumentKey, Event, Op, Order, Point  # noqa: E402
from penstock.core.queries import Answer, Boost, Query, Shaping  # noqa: E402
from penstock.core.records import Partition, Record  # noqa: E402
from penstock.demo import corpus  # noqa: E402
from penstock.evaluate.labelled import LabelledQuery, read  # noqa: E402
from penstock.index.plan import text_hash  # noqa: E402
from penstock.settings import ModelSettings, QdrantSettings, RerankSettings, Settings  # noqa: E402
from penstock.settings.models import SHIPPED_MODELS  # noqa: E402

QUERIES, TOP, CANDIDATES = 60, 10, 100
NOW = datetime.now(UTC)
DROPPED = 0.15
"""Of the words of a copy."""

Document = tuple[str, list[str], str | None]
"""Name, chunks, and when it was written."""


def days_ago(days: int) -> str:
    return (NOW - timedelta(days=days)).isoformat()


def fresh(texts: dict[str, str]) -> Iterator[Document]:
    for name, text in texts.items():
        for days in (400, 0, 100):
            yield f"{name}@{days}", [text], days_ago(days)


def copied(texts: dict[str, str]) -> Iterator[Document]:
    chance = random.Random(0)  # no secret
    for name, text in texts.items():
        for copy in range(4):
            kept = [word for word in text.split(" ") if copy == 0 or chance.random() > DROPPED]
            yield f"{name}@{copy}", [" ".join(kept)], None


def joined(texts: dict[str, str]) -> Iterator[Document]:
    named = list(texts.items())
    for start in range(0, len(named), 5):
        group = named[start : start + 5]
        yield "|".join(name for name, _ in group), [text for _, text in group], None


def points(model: EmbeddingModel, made: Sequence[Document]) -> Iterator[Point]:
    flat = [text for _, chunks, _ in made for text in chunks]
    rows = iter(model.embedder.embed(model.tokenizer.encode(flat, corpus.CHUNK_TOKENS)))
    for name, chunks, moment in made:
        record = Record(Partition("documents", 0), 1, None, None)
        event = Event(record, DocumentKey("", name), Order(1, 1), Op.UPSERT, timestamp=moment)
        cut = [Chunk(text, 0, len(text), text_hash(text)) for text in chunks]
        hashes = tuple(chunk.hash for chunk in cut)
        for at, chunk in enumerate(cut):
            yield Point(event, at, 1, hashes if at == 0 else (), chunk, next(rows))


def answered(
    models: Models, made: Sequence[Document], asked: Sequence[LabelledQuery], wishes: Sequence[Shaping]
) -> list[tuple[list[Answer], float]]:
    """Per wish the answers, and the milliseconds of one."""
    settings = Settings.model_construct(qdrant=QdrantSettings(path=Path(":memory:")), rerank=RerankSettings())
    with closing(Connection(settings.qdrant)) as connection:
        collection = open_collection(connection, settings.qdrant.collection, models.embedding.identity)
        connection.store(collection).upsert(list(points(models.embedding, made)))
        with closing(make_search(settings, models, connection, no_progress)) as search:

            async def one_by_one(wish: Shaping) -> tuple[list[Answer], float]:
                answers, took = [], []
                for query in asked:
                    begun = time.perf_counter()
                    wished = Query(query.id, "", query.text, TOP, CANDIDATES, 60.0, shaping=wish)
                    answers.append(await search.answer(wished))
                    took.append((time.perf_counter() - begun) * 1000)
                return answers, statistics.median(took)

            async def all_wishes() -> list[tuple[list[Answer], float]]:
                await one_by_one(wishes[0])  # warm
                return [await one_by_one(wish) for wish in wishes]

            return asyncio.run(all_wishes())


def names(answer: Answer) -> list[str]:
    return [one.hit.key.document for one in answer.documents]


def share(asked: Sequence[LabelledQuery], answers: Sequence[Answer], right: Callable[[str, Answer], float]) -> str:
    values = [right(next(iter(query.relevant)), answer) for query, answer in zip(asked, answers, strict=True)]
    return f"{statistics.mean(values):.3f}"


def newest_first(name: str, answer: Answer) -> float:
    found = names(answer)
    return 1 / (found.index(f"{name}@0") + 1) if f"{name}@0" in found else 0.0


def originals(_name: str, answer: Answer) -> float:
    return len({found.split("@")[0] for found in names(answer)})


def any_copy(name: str, answer: Answer) -> float:
    return float(any(found.split("@")[0] == name for found in names(answer)))


def right_chunk(name: str, answer: Answer) -> float:
    return float(
        any(one.hit.key.document.split("|")[one.hit.key.chunk] == name for one in answer.documents),
    )


def main() -> None:
    model = load_model(ModelSettings(bundle=SHIPPED_MODELS / "embedding"))
    models = Models(model, None)
    asked = read(corpus.HELD_OUT / "en.jsonl", None)[:QUERIES]
    texts = documents()
    meant = {name for query in asked for name in query.relevant}
    some = {name: text for at, (name, text) in enumerate(texts.items()) if name in meant or at % 8 == 0}
    parts = []

    def compare(title: str, made: Sequence[Document], wishes: dict[str, Shaping], **measured: Any) -> None:
        results = answered(models, made, asked, list(wishes.values()))
        rows = [
            (label, *(share(asked, answers, right) for right in measured.values()), f"{took:.1f}")
            for label, (answers, took) in zip(wishes, results, strict=True)
        ]
        parts.append(table(rows, (title, *(name.replace("_", " ") for name in measured), "ms")))
        print(parts[-1], flush=True)

    boosts = {f"boost, weight {weight:g}": Shaping(Boost("timestamp", 30, weight)) for weight in (0.25, 0.5, 1, 2)}
    compare("fresh", list(fresh(some)), {"none": Shaping(), **boosts}, RR_of_the_newest=newest_first)
    various = {f"diversity {much:g}": Shaping(diversity=much) for much in (0.0, 0.1, 0.3, 0.5, 0.7)}
    compare("diverse", list(copied(some)), various, originals_in_ten=originals, R_at_10=any_copy)
    chunks = {f"{most} a document": Shaping(chunks_per_document=most) for most in (1, 2, 5)}
    compare(
        "chunks", list(joined(texts)), chunks,
        right_chunk_in_ten=right_chunk, documents_in_ten=lambda _, answer: len(set(names(answer))),
    )  # fmt: skip
    text = f"# Fresh, diverse, more chunks\n\n{machine()}. {len(asked)} queries. {about(__doc__)}\n\n"
    write("shaping", text + "\n".join(parts))


if __name__ == "__main__":
    main()
