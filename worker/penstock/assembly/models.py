"""Models by the settings: verified, on the first provider that works, and what was loaded is in the log."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from penstock.core.errors import Misconfigured
from penstock.core.identity import ModelIdentity
from penstock.core.ports import Embedder, Tokenizer
from penstock.core.queries import EmbeddedBy
from penstock.models import runtime
from penstock.models.bundle import Bundle, Manifest, load
from penstock.models.embedder import OnnxEmbedder
from penstock.models.forward import Usage
from penstock.models.reranker import CrossPairs, OnnxReranker, PairTokenizer, pair_encoder
from penstock.models.runtime import LoadedGraph, ProviderRequest
from penstock.models.tokenizer import HubTokenizer
from penstock.observe.log import log
from penstock.observe.metrics import ModelInfo
from penstock.query.replies import ModelBody, model_body
from penstock.settings import MigrationSettings, ModelSettings, RerankSettings, RuntimeSettings

WARM_UP = "warm up"
MOST_FAILED = 5
"""Forward passes in a row; then a query worker ends. An index worker ends with the first, which is a bug."""


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """An embedding model, ready to run. ``loaded`` is what the embedder runs on.

    ``dimension`` is that of the vectors that are searched, the embedder's may be larger: see ``model.full_dimension``.
    """

    bundle: Bundle
    tokenizer: Tokenizer
    embedder: Embedder
    loaded: LoadedGraph
    query_prompt: str
    dimension: int

    @property
    def identity(self) -> ModelIdentity:
        """What a collection of its vectors remembers."""
        return self.bundle.identity(self.dimension)

    @property
    def by(self) -> EmbeddedBy:
        """What answers say of it."""
        return EmbeddedBy(_name(self.bundle.manifest), self.dimension)

    @property
    def info(self) -> ModelInfo:
        """What metrics say of it."""
        return _info("embedding", self.bundle.manifest, self.loaded)

    def wide(self, dimension: int) -> "EmbeddingModel":
        """With vectors of another dimension; raises Misconfigured for one that the model does not support."""
        return replace(self, embedder=OnnxEmbedder(self.loaded.forward, self.bundle.dimension(dimension)))


@dataclass(frozen=True, slots=True)
class RerankingModel:
    """A reranking model, ready to run."""

    bundle: Bundle
    pairs: PairTokenizer | CrossPairs
    reranker: OnnxReranker
    loaded: LoadedGraph

    @property
    def at_once(self) -> int:
        """Padded tokens that it works on at one time."""
        return self.loaded.forward.at_once

    @property
    def info(self) -> ModelInfo:
        """What metrics say of it."""
        return _info("reranking", self.bundle.manifest, self.loaded)


@dataclass(frozen=True, slots=True)
class Models:
    """Both models of a query worker."""

    embedding: EmbeddingModel
    reranker: RerankingModel | None
    following: EmbeddingModel | None = None
    """The one that a migration goes to."""

    @property
    def embeddings(self) -> list[EmbeddingModel]:
        """All that queries may be embedded by."""
        return [self.embedding] if self.following is None else [self.embedding, self.following]

    @property
    def body(self) -> ModelBody:
        """What answers say of them."""
        return model_body(self.embedding.by, None if self.reranker is None else _name(self.reranker.bundle.manifest))

    @property
    def instruction(self) -> str:
        """The task that queries have unless they or the settings name one; empty where no model takes any."""
        bundles = [model.bundle for model in self.embeddings] + ([self.reranker.bundle] if self.reranker else [])
        return next(filter(None, (bundle.manifest.prompts.get("instruction") for bundle in bundles)), "")

    @property
    def infos(self) -> list[ModelInfo]:
        """What metrics say of them."""
        return [model.info for model in self.embeddings] + ([self.reranker.info] if self.reranker else [])

    @property
    def usages(self) -> dict[str, Usage]:
        """What each graph computes, by task."""
        graphs = {"embedding": self.embedding.loaded} | ({"reranking": self.reranker.loaded} if self.reranker else {})
        if self.following is not None:
            graphs["next embedding"] = self.following.loaded
        return {task: loaded.forward.usage for task, loaded in graphs.items()}

    def silent(self) -> tuple[str, float]:
        """The task whose oldest pass is under way for longest, and for how many seconds."""
        return max(((task, usage.longest_s()) for task, usage in self.usages.items()), key=lambda one: one[1])

    def when_broken(self, end: Callable[[str], None]) -> None:
        """Calls ``end`` with a reason when passes in a row have failed: an accelerator seldom mends itself."""
        for task, usage in self.usages.items():
            usage.ended = partial(_end_if_broken, task, usage, end)

    def warm_up(self) -> None:
        """The first pass through a graph takes longer: no query should wait for it."""
        for model in self.embeddings:
            ids = model.tokenizer.encode([model.query_prompt + WARM_UP], model.bundle.manifest.max_tokens)
            model.embedder.embed(ids)
        if self.reranker is not None:
            self.reranker.reranker.logits(self.reranker.pairs.encode(WARM_UP, [WARM_UP]))


def _end_if_broken(task: str, usage: Usage, end: Callable[[str], None]) -> None:
    if usage.failed_in_a_row >= MOST_FAILED:
        end(f"{usage.failed_in_a_row} forward passes of the {task} model failed one after the other: see the log")


def load_models(model: ModelSettings, rerank: RerankSettings, migration: MigrationSettings | None = None) -> Models:
    """By the settings; raises Misconfigured, also where a reranker is enabled and there is none.

    With the model of a ``migration``, where there is one: whoever answers queries has to have both.
    """
    if rerank.enabled and rerank.bundle is None:
        raise Misconfigured(
            "no reranker: set PENSTOCK_RERANK__BUNDLE to a folder made by penstock export, or to shipped (small), "
            "or PENSTOCK_RERANK__ENABLED=false to serve the order of the search"
        )
    embedding = load_model(model)
    reranker = load_reranker(rerank, rerank.max_tokens) if rerank.enabled else None
    goes_on = migration is not None and migration.bundle is not None
    return Models(embedding, reranker, load_model(migration.of(model)) if migration and goes_on else None)


def load_model(settings: ModelSettings) -> EmbeddingModel:
    """Verify and load the bundle; raises Misconfigured."""
    bundle = load(settings.bundle)
    bundle.expect("embedding")
    dimension, full = bundle.dimension(settings.dimension), settings.full_dimension
    if full is not None and full <= dimension:
        raise Misconfigured(f"model.full_dimension = {full}: longer than model.dimension, please, which is {dimension}")
    width = dimension if full is None else bundle.dimension(full, "model.full_dimension")
    prompt = bundle.prompt("query", settings.instruction or None)
    loaded = load_graph(bundle, settings)
    embedder = OnnxEmbedder(loaded.forward, width)
    return EmbeddingModel(bundle, HubTokenizer(bundle.tokenizer), embedder, loaded, prompt, dimension)


def load_reranker(settings: RuntimeSettings, most_tokens: int = 2**31) -> RerankingModel:
    """Verify and load a reranker's bundle, for pairs of at most so many tokens; raises Misconfigured."""
    bundle = load(settings.bundle, "PENSTOCK_RERANK__BUNDLE")
    bundle.expect("reranker")
    manifest = bundle.manifest
    pairs = pair_encoder(HubTokenizer(bundle.tokenizer), manifest.prompts, min(manifest.max_tokens, most_tokens))
    loaded = load_graph(bundle, settings)
    return RerankingModel(bundle, pairs, OnnxReranker(loaded.forward), loaded)


def load_graph(bundle: Bundle, settings: RuntimeSettings) -> LoadedGraph:
    """The bundle's graph on the first provider that works, and a log line that says what was loaded."""
    request = ProviderRequest(
        providers=tuple(settings.provider.split(",")),
        required=settings.require_provider,
        token_budget=settings.token_budget,
        threads=settings.threads,
        passes=settings.passes,
        spinning=settings.spinning,
        gpu_memory=settings.gpu_memory_mb << 20,
        engine_cache=settings.engine_cache,
        engine_lengths=tuple(map(int, settings.engine_lengths.split(","))),
    )
    loaded = runtime.load(bundle, request)
    manifest, graph = bundle.manifest, loaded.graph
    log.info("model_loaded", source=manifest.source, revision=manifest.revision, dialect=graph.dialect,
             precision=graph.precision, provider=loaded.forward.provider, token_budget=loaded.token_budget,
             **loaded.versions)  # fmt: skip
    for provider, reason in loaded.passed_over.items():
        log.warning("provider_passed_over", provider=provider, reason=reason)
    return loaded


def build_engines(folder: Path, cache: Path) -> None:
    """TensorRT's engines for a bundle, as a worker with the same token budget will look for them."""
    load_graph(load(folder), ModelSettings(provider="tensorrt", require_provider="tensorrt", engine_cache=cache))


def _name(manifest: Manifest) -> str:
    """Source and revision."""
    return f"{manifest.source}@{manifest.revision}" if manifest.revision else manifest.source


def _info(task: str, manifest: Manifest, loaded: LoadedGraph) -> ModelInfo:
    usage = loaded.forward.usage.read
    return ModelInfo(task, manifest.source, manifest.revision, loaded.provider, loaded.graph.precision, usage)
