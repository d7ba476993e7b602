"""What everything that searches shares: both models, what queries may ask for, and the search over a collection."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from penstock.adapters.kafka.progress import KafkaProgress
from penstock.adapters.qdrant.collection import NoCollection, find_collection
from penstock.adapters.qdrant.connection import Collection, Connection
from penstock.adapters.qdrant.store import QdrantStore
from penstock.assembly.models import Model, Reranker, load_model, load_reranker
from penstock.core.documents import ChunkKey, Stored
from penstock.core.errors import InvalidEvent, Misconfigured, Unavailable
from penstock.core.ports import Progress
from penstock.core.queries import Hit, Lookup
from penstock.models.prompts import takes_instruction
from penstock.observe.log import log
from penstock.observe.metrics import Running
from penstock.query.requests import Limits, ModelBody
from penstock.query.search import Encoder, Judge, Search
from penstock.settings import QdrantSettings, QuerySettings, Settings

WARM_UP = "warm up"
STORE_SHARE = 0.5
"""Of a query's usual time: the longest wait for one answer of the store."""

LOOK_AGAIN_S = 30.0
"""Between two looks at where the alias points to."""


@dataclass(frozen=True, slots=True)
class Models:
    """Both models of a query worker."""

    embedding: Model
    reranker: Reranker | None

    @property
    def body(self) -> ModelBody:
        """What answers say of them."""
        reranker = None if self.reranker is None else name(self.reranker)
        return ModelBody(embedding=name(self.embedding), dimension=self.embedding.dimension, reranker=reranker)

    @property
    def instruction(self) -> str:
        """The task that queries have unless they or the settings name one; empty where no model takes any."""
        both = (self.embedding.bundle, self.reranker.bundle if self.reranker else self.embedding.bundle)
        return next(filter(None, (bundle.manifest.prompts.get("instruction") for bundle in both)), "")

    @property
    def running(self) -> list[Running]:
        """What metrics say of them."""
        both = {"embedding": self.embedding, "reranking": self.reranker}
        manifests = {task: (one.bundle.manifest, one.loaded) for task, one in both.items() if one is not None}
        return [Running(task, said.source, said.revision, loaded) for task, (said, loaded) in manifests.items()]

    def warm_up(self) -> None:
        """The first pass through a graph takes longer: no query should wait for it."""
        model = self.embedding
        model.embedder.embed(model.tokenizer.encode([model.query_prompt + WARM_UP], model.bundle.manifest.max_tokens))
        if self.reranker is not None:
            self.reranker.reranker.logits(self.reranker.pairs.encode(WARM_UP, [WARM_UP]))


def name(model: Model | Reranker) -> str:
    """Source and revision."""
    manifest = model.bundle.manifest
    return f"{manifest.source}@{manifest.revision}" if manifest.revision else manifest.source


def load_models(settings: Settings) -> Models:
    """By the settings; raises Misconfigured, also where a reranker is enabled and there is none."""
    if settings.rerank.enabled and settings.rerank.bundle is None:
        raise Misconfigured(
            "no reranker: set PENSTOCK_RERANK__BUNDLE to a folder made by penstock export, "
            "or PENSTOCK_RERANK__ENABLED=false to serve the order of the search"
        )
    embedding = load_model(settings.model)
    return Models(
        embedding, load_reranker(settings.rerank, settings.rerank.max_tokens) if settings.rerank.enabled else None
    )


def limits(settings: QuerySettings, qdrant: QdrantSettings) -> Limits:
    """What queries may ask for."""
    return Limits(
        top_k=settings.top_k,
        candidates=settings.candidates,
        timeout_s=settings.timeout_s,
        most_top_k=settings.max_top_k,
        most_candidates=settings.max_candidates,
        longest_timeout_s=settings.max_timeout_s,
        most_characters=settings.max_query_chars,
        most_conditions=settings.max_filter_conditions,
        most_values=settings.max_filter_values,
        filter_fields=qdrant.filter_fields,
    )


def find(settings: Settings, models: Models, connection: Connection) -> Collection:
    """The collection; raises Misconfigured when there is none or it is of another model, or Unavailable."""
    return find_collection(connection, settings.qdrant.collection, models.embedding.identity)


def make_search(
    settings: Settings,
    models: Models,
    connection: Connection,
    following: Progress | None,
    unfit: Callable[[str], None] = lambda _: None,
) -> Search:
    """Opens the collection; raises Misconfigured when there is none or it is of another model, or Unavailable.

    ``unfit`` hears when the alias later points to one that this worker cannot search.
    """
    model = models.embedding
    collection = find(settings, models, connection)
    model = model.wide(collection.shape.widest)
    task = settings.model.instruction or None
    encoder = Encoder(
        model.tokenizer,
        model.embedder,
        _prompts(model),
        takes_instruction(model.bundle.manifest.prompts.get("query", "")),
        min(model.bundle.manifest.max_tokens, settings.query.max_query_tokens),
        model.loaded.forward.at_once,
    )
    judge = None
    if (reranker := models.reranker) is not None:
        judge = Judge(reranker.pairs, reranker.reranker, reranker.at_once, task)
    log.info(
        "collection_opened", collection=collection.name, vectors=collection.shape.dense, full=collection.shape.full
    )

    def look() -> tuple[QdrantStore, Collection]:
        found = find(settings, models, connection)
        return connection.store(found), found

    return Search(encoder, Followed(connection.store(collection), collection, look, unfit), judge, following)


def _prompts(model: Model) -> Callable[[str | None], str]:
    """What goes before a query."""

    def prompt(instruction: str | None) -> str:
        try:
            return model.query_prompt if instruction is None else model.bundle.prompt("query", instruction)
        except Misconfigured as error:
            raise InvalidEvent(f"instruction: {error}") from None

    return prompt


class Followed:
    """A Searcher that follows the alias: where it points to another collection of this model, that is searched."""

    def __init__(
        self,
        store: QdrantStore,
        now: Collection,
        look: Callable[[], tuple[QdrantStore, Collection]],
        unfit: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``unfit`` hears of a collection that this worker cannot search, which only another start can mend."""
        self._store = store
        self._now = now
        self._look = look
        self._unfit = unfit
        self._looked = time.monotonic()

    def search(self, lookups: Sequence[Lookup]) -> list[list[Hit]]:
        """As the port says."""
        if time.monotonic() - self._looked > LOOK_AGAIN_S:
            self._follow()
        try:
            return self._store.search(lookups)
        except Unavailable:
            self._looked = 0.0  # the collection may be gone: look before the next search
            raise

    def read(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
        """As the port says."""
        return self._store.read(keys)

    def _follow(self) -> None:
        try:
            store, found = self._look()
        except NoCollection as error:
            raise Unavailable(str(error)) from None
        except Misconfigured as error:
            self._end(str(error))
        except Unavailable:
            return  # the search itself tells whether the store is away
        self._looked = time.monotonic()
        if found.shape != self._now.shape:
            self._end(f"{found.name} has vectors {found.shape}, not {self._now.shape}: start the worker again")
        if found != self._now:
            log.info("collection_opened", collection=found.name, instead_of=self._now.name)
            self._store, self._now = store, found

    def _end(self, reason: str) -> NoReturn:
        self._unfit(reason)
        raise Unavailable(reason)


def progress(settings: Settings) -> KafkaProgress | None:
    """How far the index workers are, if queries may wait for them. Connects when first asked."""
    return KafkaProgress(settings.kafka) if settings.query.follow else None


@contextmanager
def reading(settings: Settings) -> Iterator[Connection]:
    """A connection whose calls end well before a query does: a store that hangs is away, the query not too late."""
    patience_s = min(settings.qdrant.timeout_s, settings.query.timeout_s * STORE_SHARE)
    connection = Connection(settings.qdrant.model_copy(update={"timeout_s": patience_s}))
    try:
        yield connection
    finally:
        connection.close()
