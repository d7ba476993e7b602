"""What happens in the demo, in order: the same in one process and through Kafka."""

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from rich.console import Console

from penstock.assembly.models import EmbeddingModel, Models, load_model, load_reranker
from penstock.core.errors import Misconfigured
from penstock.core.queries import Hit, Mode
from penstock.core.vectors import Vector
from penstock.demo import corpus, tables
from penstock.demo.backend import Backend, Options
from penstock.demo.in_process import COLLECTION, InProcess
from penstock.demo.own import points_of, run_own
from penstock.demo.tables import Cost
from penstock.demo.through_kafka import ThroughKafka
from penstock.evaluate import exact
from penstock.evaluate.labelled import LabelledQuery, read, sampled
from penstock.query.replies import ReplyBody
from penstock.query.requests import QueryBody
from penstock.settings import ModelSettings, RerankSettings
from penstock.settings.models import SHIPPED

TOP, CANDIDATES, FIRST = 3, 50, 10
WAYS = {
    "vectors": (Mode.DENSE, False),
    "words": (Mode.SPARSE, False),
    "both": (Mode.HYBRID, False),
    "reranked": (Mode.HYBRID, True),
}

MEASURED = 400
"""Queries that the dimensions are compared by."""


def run(options: Options, stop: threading.Event) -> None:
    """Index the corpus, search it, change it, and say what became of every record. Raises Misconfigured."""
    if options.own is not None and options.bootstrap_servers:
        raise Misconfigured("--from indexes into an embedded store; through Kafka: penstock index")
    console = Console(stderr=options.as_json, quiet=options.as_json)
    bundles = options.bundle or corpus.EMBEDDING, options.reranker or corpus.RERANKER
    reranker = load_reranker(RerankSettings(bundle=bundles[1]))
    models = Models(load_model(ModelSettings(bundle=bundles[0])), reranker)
    if options.own is not None:
        run_own(options, options.own, _folder(options, models.embedding), models, stop, console)
        return
    with (
        tempfile.TemporaryDirectory() as passing,
        _backend(options, models, bundles, Path(passing), stop, console) as backend,
    ):
        _demonstrate(backend, options, models.embedding, stop, console)


@contextmanager
def _backend(
    options: Options, models: Models, bundles: tuple[Path, Path], passing: Path, stop: threading.Event,
    console: Console,
) -> Iterator[Backend]:  # fmt: skip
    made: Backend
    if options.bootstrap_servers:
        made = ThroughKafka(options.bootstrap_servers, models, bundles, passing, options.port, stop, console)
    else:
        made = InProcess(models, _folder(options, models.embedding), stop, console)
    with closing(made):
        yield made


def _folder(options: Options, model: EmbeddingModel) -> Path:
    """One per model, so that another one, or that of a later version, finds no points that are not its own."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock"
    name = "demo" if options.own is None else points_of(options.own)
    return options.folder or cache / f"{name}-{model.identity.digest}"


def _demonstrate(
    backend: Backend, options: Options, model: EmbeddingModel, stop: threading.Event, console: Console
) -> None:
    lines = corpus.event_lines()
    console.print(
        f"indexing {len(lines):,} events about Debian packages in eight languages, some of them revised, sent twice or "
        "deleted …", highlight=False,
    )  # fmt: skip
    started = time.monotonic()
    backend.send(lines)
    seconds = time.monotonic() - started
    if stop.is_set():
        return
    chunks, vectors = backend.stored()
    documents = len({hit.key.document for hit in chunks})
    console.print(f"{documents:,} documents in {len(chunks):,} chunks after {seconds:.1f} s\n", highlight=False)
    searched = _search(backend, console)
    labelled = sampled(read(corpus.HELD_OUT / "en.jsonl", None), MEASURED)
    measured = costs(model, labelled, chunks, vectors)
    tables.costs(console, measured, len(labelled))
    changed = _change(backend, lines, console)
    if options.port is not None:
        backend.serve(options.port)
        return
    outcomes, events = backend.finish(), len(lines) + 1
    if options.as_json:
        figures = {"events": events, "documents": documents, "chunks": len(chunks), "seconds": round(seconds, 2)}
        recalls = [{"dimension": cost.dimension, "recall": round(cost.recall, 4)} for cost in measured]
        report = {**figures, "outcomes": outcomes, **searched, "dimensions": recalls, "change": changed}
        print(json.dumps(report))  # noqa: T201  # the command's output
        return
    console.print(f"Every one of the {events:,} events is accounted for: {tables.counted(outcomes)}.", highlight=False)
    if options.bundle is None:
        console.print(f"\n{tables.STAND_IN}", style="dim", highlight=False)
    tables.what_next(console, _suggestions(options), _variables(options, model))


def _search(backend: Backend, console: Console) -> dict[str, object]:
    """In six languages, each way by itself, and among some of the documents."""
    answers = [(language, text, backend.ask(_body(text))) for language, text in corpus.QUERIES]
    tables.found(console, answers)
    ways = [(text, {way: _first(backend, text, *how) for way, how in WAYS.items()}) for text in corpus.WAYS]
    tables.ways(console, ways)
    wanted, only = corpus.FILTERED
    filtered = backend.ask(_body(wanted).model_copy(update={"filter": only}))
    tables.filtered(console, wanted, only, filtered)
    return {
        "queries": [_as_json(*answer) for answer in answers],
        "ways": [{"query": text, "first": first} for text, first in ways],
        "filtered": {**_as_json("English", wanted, filtered), "filter": only.model_dump(exclude_none=True)},
    }


def _first(backend: Backend, text: str, mode: Mode, rerank: bool) -> str:  # noqa: FBT001  # see WAYS
    """The document that comes first."""
    reply = backend.ask(_body(text).model_copy(update={"mode": mode, "rerank": rerank}))
    return reply.hits[0].document if reply.hits else ""


def _body(text: str) -> QueryBody:
    return QueryBody(query=text, top_k=TOP, candidates=CANDIDATES)


def _change(backend: Backend, lines: list[bytes], console: Console) -> dict[str, object]:
    """A document is changed and found by what is new in it."""
    event = corpus.change(lines)
    started = time.monotonic()
    reply = backend.change(event, QueryBody(query=corpus.NEWS_QUERY, top_k=TOP, rerank=False))
    took_ms = (time.monotonic() - started) * 1000
    place = next((rank for rank, hit in enumerate(reply.hits, 1) if hit.document == corpus.CHANGED), None)
    where = "not among the first three" if place is None else f"at place {place}"
    console.print(
        f'\n{corpus.CHANGED} was written anew ("{corpus.NEWS}"), and {took_ms:.0f} ms later a search for '
        f'"{corpus.NEWS_QUERY}" has it {where}.', highlight=False,
    )  # fmt: skip
    return {"document": corpus.CHANGED, "ms": round(took_ms), "place": place}


def costs(
    model: EmbeddingModel, labelled: Sequence[LabelledQuery], chunks: Sequence[Hit], vectors: Vector
) -> list[Cost]:
    """How much is found at each dimension, by exact search over the stored vectors."""
    asked = model.embedder.embed(model.tokenizer.encode([model.query_prompt + query.text for query in labelled]))
    measured = []
    for dimension in exact.dimensions(vectors.shape[1]):
        runs = exact.ranked(chunks, vectors, asked, dimension, CANDIDATES)
        hits = sum(
            not query.relevant.keys().isdisjoint(exact.documents(run)[:FIRST])
            for query, run in zip(labelled, runs, strict=True)
        )
        measured.append(Cost(dimension, hits / len(labelled)))
    return measured


def _as_json(language: str, query: str, reply: ReplyBody) -> dict[str, object]:
    hits = [
        {
            "document": hit.document,
            "text": hit.text,
            "score": round(hit.score, 4),
            "rerank_score": None if hit.rerank_score is None else round(hit.rerank_score, 4),
            "retrieval_score": round(hit.retrieval_score, 4),
            "retrieval_rank": hit.retrieval_rank,
        }
        for hit in reply.hits
    ]
    return {"query": query, "language": language, "hits": hits}


def _suggestions(options: Options) -> Sequence[tuple[str, str]]:
    again = "penstock demo" if options.bootstrap_servers else "penstock demo --bootstrap-servers localhost:9092"
    why = "without Kafka" if options.bootstrap_servers else "the same through your Kafka, in processes of their own"
    return (
        ("penstock demo --serve", "search it on a page in the browser"),
        ("penstock demo --from FOLDER --serve", "the same with text and Markdown files of yours"),
        (again, why),
        ("penstock demo --json", "for programs"),
        ("penstock schema document.v1", "your own events"),
        ("penstock index --help", "index a topic of yours"),
        ("penstock query --help", "search it"),
        ("penstock config", "every setting"),
    )


def _variables(options: Options, model: EmbeddingModel) -> Sequence[str]:
    """What ``penstock search`` and ``evaluate`` need to work on the demo's index."""
    if options.bootstrap_servers:
        return ()
    values: dict[str, object] = {
        "QDRANT__PATH": _folder(options, model),
        "QDRANT__COLLECTION": COLLECTION,
        "MODEL__BUNDLE": options.bundle.resolve() if options.bundle else SHIPPED,
        "RERANK__BUNDLE": options.reranker.resolve() if options.reranker else SHIPPED,
    }
    return [f"PENSTOCK_{name}={value}" for name, value in values.items()]
