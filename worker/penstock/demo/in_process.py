"""The demo in one process: the pipeline and the search of the workers over an embedded store."""

import io
import threading
import time
import webbrowser
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from typing_extensions import override

from penstock.adapters.files import FileDeadLetters, FileSource
from penstock.adapters.qdrant.collection import number_recipe, open_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.adapters.qdrant.ledger import QdrantLedger
from penstock.assembly.index import TICKS_PER_S, IndexWorker, chunker_for, rules_for
from penstock.assembly.membership import Joining, Stream
from penstock.assembly.models import Models
from penstock.assembly.query import run_query_worker
from penstock.assembly.search import make_search, no_progress
from penstock.assembly.stream import Retries
from penstock.core.queries import Hit
from penstock.core.records import Outcome
from penstock.core.vectors import Vector
from penstock.demo import corpus
from penstock.demo.backend import Backend
from penstock.query.http.server import EventLoopThread
from penstock.query.replies import ReplyBody, to_reply
from penstock.query.requests import Limits, QueryBody, to_query
from penstock.query.search import Search
from penstock.settings import (
    HttpSettings,
    IndexSettings,
    ModelSettings,
    QdrantSettings,
    QuerySettings,
    RerankSettings,
    Settings,
)

COLLECTION = "demo"
BATCH_BYTES = 100_000


class InProcess(Backend):
    """Workers' parts, without workers."""

    def __init__(
        self,
        models: Models,
        folder: Path,
        stop: threading.Event,
        console: Console,
        settings: Settings | None = None,
        name: str = corpus.CORPUS.name,
    ) -> None:
        """The points are kept in ``folder``; ``name`` is that of the documents.

        Raises Misconfigured where the points are another model's, or in use.
        """
        self._name, self.letters = name, Path(f"{name}.dlq.jsonl")
        self._models, self._stop, self._console = models, stop, console
        self._settings = settings or demo_settings(folder)
        self._totals: Counter[Outcome] = Counter()
        self._search: Search | None = None
        self._chunker = chunker_for(self._settings.index, models.embedding)
        self._connection = Connection(self._settings.qdrant)
        self._collection = open_collection(self._connection, COLLECTION, models.embedding.identity)
        self._recipe = number_recipe(self._connection, self._collection.name, self._chunker.rules.fingerprint)
        self._event_loop = EventLoopThread()
        self._opened = ExitStack()
        for part in (self._connection, self._event_loop):
            self._opened.callback(part.close)

    @override
    def send(self, lines: Sequence[bytes]) -> None:
        base = int(time.time() * TICKS_PER_S)
        source = FileSource(io.BytesIO(b"\n".join(lines)), self._name, len(lines))
        stream = Stream(source, FileDeadLetters(self.letters), rules_for(self._settings.index, base, keyed=False))
        store = self._connection.store(self._collection)
        bar = self._console.is_terminal and len(lines) > 1
        embedder = self._models.embedding.embedder
        joining = Joining(stream, QdrantLedger(self._connection, COLLECTION, self._collection), "stop")
        membership = joining.join(Retries(self._stop))
        worker = IndexWorker(self._settings.index, stream, membership, store, self._chunker, self._recipe, embedder)
        report = worker.run(self._stop, bar=bar)
        self._totals.update(report.totals)

    @override
    def change(self, line: bytes, body: QueryBody) -> ReplyBody:
        self.send([line])
        return self.ask(body)

    @override
    def ask(self, body: QueryBody) -> ReplyBody:
        if self._search is None:
            self._search = make_search(self._settings, self._models, self._connection, no_progress)
            self._opened.callback(self._search.close)
        answer = self._event_loop.run(self._search.answer(to_query(body, Limits(), "demo", "")))
        return to_reply(answer, self._models.body.reranker)

    @override
    def stored(self) -> tuple[list[Hit], Vector]:
        return self._connection.store(self._collection).vectors("")

    @override
    def finish(self) -> Mapping[str, int]:
        return {str(outcome): count for outcome, count in self._totals.items()}

    @override
    def serve(self, port: int) -> None:
        self.close()
        ours = self._name == corpus.CORPUS.name
        examples = tuple(text for _, text in corpus.QUERIES) if ours else ()
        fields = {"section": "keyword"} if ours else {}
        page = self._settings.model_copy(
            update={
                "qdrant": self._settings.qdrant.model_copy(update={"filter_fields": fields}),
                "query": QuerySettings(examples=examples),
                "http": HttpSettings(port=port),
                "rerank": RerankSettings(enabled=self._models.reranker is not None),
            }
        )

        def answering(bound: int) -> None:
            url = f"http://127.0.0.1:{bound}/"
            self._console.print(f"\nSearch it at {url} (Ctrl+C ends it)", highlight=False)
            if self._console.is_terminal:
                webbrowser.open(url)

        run_query_worker(page, self._models, self._stop, answering=answering)

    @override
    def close(self) -> None:
        self._opened.close()


def demo_settings(folder: Path) -> Settings:
    """Independent of the environment: the demo is the same for everyone."""
    index = IndexSettings(batch_bytes=BATCH_BYTES, chunk_tokens=corpus.CHUNK_TOKENS, chunk_overlap=corpus.CHUNK_OVERLAP)
    qdrant = QdrantSettings(path=folder, collection=COLLECTION)
    return Settings.model_construct(qdrant=qdrant, model=ModelSettings(), index=index)
