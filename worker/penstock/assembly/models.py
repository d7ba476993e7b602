"""Models by the settings: verified, on the first provider that works, and what was loaded is in the log."""

from dataclasses import dataclass, replace
from pathlib import Path

from penstock.core.errors import Misconfigured
from penstock.core.identity import ModelIdentity
from penstock.core.ports import Embedder, Tokenizer
from penstock.models import runtime
from penstock.models.bundle import Bundle, load
from penstock.models.embedder import OnnxEmbedder
from penstock.models.reranker import OnnxReranker, PairTokenizer
from penstock.models.runtime import Loaded, Wish
from penstock.models.tokenizer import HubTokenizer
from penstock.observe.log import log
from penstock.settings import ModelSettings, RuntimeSettings


@dataclass(frozen=True, slots=True)
class Model:
    """An embedding model, ready to run. ``loaded`` is what the embedder runs on.

    ``dimension`` is that of the vectors that are searched, the embedder's may be larger: see ``model.full_dimension``.
    """

    bundle: Bundle
    tokenizer: Tokenizer
    embedder: Embedder
    loaded: Loaded
    query_prompt: str
    dimension: int

    @property
    def identity(self) -> ModelIdentity:
        """What a collection of its vectors remembers."""
        return self.bundle.identity(self.dimension)

    def wide(self, dimension: int) -> "Model":
        """With vectors of another dimension; raises Misconfigured for one that the model does not support."""
        return replace(self, embedder=OnnxEmbedder(self.loaded.forward, self.bundle.dimension(dimension)))


@dataclass(frozen=True, slots=True)
class Reranker:
    """A reranking model, ready to run."""

    bundle: Bundle
    pairs: PairTokenizer
    reranker: OnnxReranker
    loaded: Loaded

    @property
    def at_once(self) -> int:
        """Padded tokens that it works on at one time."""
        return self.loaded.forward.at_once


def load_model(settings: ModelSettings) -> Model:
    """Verify and load the bundle; raises Misconfigured."""
    bundle = load(settings.bundle)
    bundle.expect("embedding")
    dimension, full = bundle.dimension(settings.dimension), settings.full_dimension
    if full is not None and full <= dimension:
        raise Misconfigured(f"model.full_dimension = {full}: longer than model.dimension, please, which is {dimension}")
    width = dimension if full is None else bundle.dimension(full, "model.full_dimension")
    prompt = bundle.prompt("query", settings.instruction or None)
    loaded = start(bundle, settings)
    embedder = OnnxEmbedder(loaded.forward, width)
    return Model(bundle, HubTokenizer(bundle.tokenizer), embedder, loaded, prompt, dimension)


def load_reranker(settings: RuntimeSettings, most_tokens: int = 2**31) -> Reranker:
    """Verify and load a reranker's bundle, for pairs of at most so many tokens; raises Misconfigured."""
    bundle = load(settings.bundle)
    bundle.expect("reranker")
    manifest = bundle.manifest
    pairs = PairTokenizer(HubTokenizer(bundle.tokenizer), manifest.prompts, min(manifest.max_tokens, most_tokens))
    loaded = start(bundle, settings)
    return Reranker(bundle, pairs, OnnxReranker(loaded.forward), loaded)


def start(bundle: Bundle, settings: RuntimeSettings) -> Loaded:
    """The bundle's graph on the first provider that works, and a log line that says what was loaded."""
    wish = Wish(
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
    loaded = runtime.load(bundle, wish)
    manifest, graph = bundle.manifest, loaded.graph
    log.info("model_loaded", source=manifest.source, revision=manifest.revision, dialect=graph.dialect,
             precision=graph.precision, provider=loaded.forward.provider, token_budget=loaded.token_budget,
             **loaded.versions)  # fmt: skip
    for provider, reason in loaded.passed_over.items():
        log.warning("provider_passed_over", provider=provider, reason=reason)
    return loaded


def build_engines(folder: Path, cache: Path) -> None:
    """TensorRT's engines for a bundle, as a worker with the same token budget will look for them."""
    start(load(folder), ModelSettings(provider="tensorrt", require_provider="tensorrt", engine_cache=cache))
