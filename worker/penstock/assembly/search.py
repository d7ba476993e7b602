"""The search over a collection, put together: for the query worker, and for commands that search by themselves."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

from penstock.adapters.kafka.progress import KafkaProgress
from penstock.adapters.qdrant.collection import find_collection
from penstock.adapters.qdrant.connection import MEMORY, Collection, Connection
from penstock.assembly.alias import Alias
from penstock.assembly.models import EmbeddingModel, Models
from penstock.core.errors import InvalidEvent, Misconfigured
from penstock.core.ports import Progress
from penstock.models.prompts import takes_instruction
from penstock.query.requests import Limits
from penstock.query.search import Search
from penstock.query.served import Served
from penstock.query.sides import PairScorer, QueryEncoder, Retrieval
from penstock.settings import KafkaSettings, QdrantSettings, QuerySettings, Settings

ProgressOf = Callable[[str], Progress | None]
"""Of a group of index workers; None where queries may not wait for them."""


def no_progress(_group: str) -> None:
    """Where no query waits for index workers."""


STORE_SHARE = 0.5
"""Of a query's usual time: the longest wait for one answer of the store."""


def limits_of(query: QuerySettings, qdrant: QdrantSettings) -> Limits:
    """What queries may ask for."""
    return Limits(
        top_k=query.top_k,
        candidates=query.candidates,
        timeout_s=query.timeout_s,
        most_top_k=query.max_top_k,
        most_candidates=query.max_candidates,
        longest_timeout_s=query.max_timeout_s,
        most_characters=query.max_query_chars,
        most_conditions=query.max_filter_conditions,
        most_values=query.max_filter_values,
        filter_fields=qdrant.filter_fields,
    )


@contextmanager
def opened_search(settings: Settings, models: Models) -> Iterator[Search]:
    """A search for a command that ends after it; raises Misconfigured or Unavailable."""
    with ExitStack() as opened:
        connection = opened.enter_context(closing(reader(settings.qdrant, settings.query)))
        progress = opened.enter_context(following(settings.query, settings.kafka))
        yield opened.enter_context(closing(make_search(settings, models, connection, progress)))


def make_search(
    settings: Settings,
    models: Models,
    connection: Connection,
    progress: ProgressOf,
    unfit: Callable[[str], None] = lambda _: None,
) -> Search:
    """Opens the collection; raises Misconfigured when there is none or it is of no model at hand, or Unavailable.

    ``unfit`` hears when the alias later points to one that this worker cannot search.
    """
    identities = [model.identity for model in models.embeddings]
    weight = settings.query.terms_weight

    def serve(collection: Collection) -> Served:
        made_by = next(model for model in models.embeddings if model.identity.digest == collection.model)
        encoder = encoder_of(made_by.wide(collection.shape.widest), settings.query)
        return Served(encoder, connection.store(collection), progress(collection.group), weight)

    alias = Alias(partial(find_collection, connection, settings.qdrant.collection, *identities), serve, unfit)
    retrieval = Retrieval(settings.query.mode, weight)
    return Search(alias(), make_scorer(settings, models), retrieval=retrieval, follow=alias)


def make_scorer(settings: Settings, models: Models) -> PairScorer | None:
    """The reranking side of a search; None without a reranker."""
    if (reranker := models.reranker) is None:
        return None
    instruction = settings.model.instruction or None
    return PairScorer(reranker.pairs, reranker.reranker, reranker.at_once, instruction, settings.rerank.weight)


def encoder_of(model: EmbeddingModel, query: QuerySettings) -> QueryEncoder:
    """The embedding side of a search."""
    return QueryEncoder(
        model.tokenizer,
        model.embedder,
        _prompt_of(model),
        takes_instruction(model.bundle.manifest.prompts.get("query", "")),
        min(model.bundle.manifest.max_tokens, query.max_query_tokens),
        model.loaded.forward.at_once,
        model.by,
        model.bundle.prompt("document"),
    )


def _prompt_of(model: EmbeddingModel) -> Callable[[str | None], str]:
    """What goes before a query."""

    def prompt(instruction: str | None) -> str:
        try:
            return model.query_prompt if instruction is None else model.bundle.prompt("query", instruction)
        except Misconfigured as error:
            raise InvalidEvent(f"instruction: {error}") from None

    return prompt


@contextmanager
def following(query: QuerySettings, kafka: KafkaSettings) -> Iterator[ProgressOf]:
    """How far the index workers of a group are, if queries may wait for them. Connects when first asked."""
    with ExitStack() as opened:
        known: dict[str, KafkaProgress] = {}

        def progress(group: str) -> KafkaProgress | None:
            """Without a name, of the group of the settings."""
            if query.follow and group not in known:
                of_group = kafka.model_copy(update={"group": group}) if group else kafka
                known[group] = opened.enter_context(closing(KafkaProgress(of_group)))
            return known.get(group)

        yield progress


def reader(qdrant: QdrantSettings, query: QuerySettings) -> Connection:
    """A connection whose calls end well before a query does: a store that hangs is away, the query not too late.

    Raises Misconfigured where a folder of points is to be read that is not there: who searches makes none.
    """
    if qdrant.path and qdrant.path != MEMORY and not qdrant.path.is_dir():
        raise Misconfigured(f"there is no folder {qdrant.path}: index into it first, or set PENSTOCK_QDRANT__PATH")
    timeout_s = min(qdrant.timeout_s, query.timeout_s * STORE_SHARE)
    return Connection(qdrant.model_copy(update={"timeout_s": timeout_s}))
