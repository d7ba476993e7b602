"""From a bundle to a graph that runs: the first provider of those wanted that this machine has, and no other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import override

from penstock.core.errors import Misconfigured
from penstock.core.vectors import Vector
from penstock.models import session
from penstock.models.bundle import Bundle, Graph
from penstock.models.forward import Forward, GraphRunner
from penstock.models.providers import (
    BUDGET,
    ENGINES,
    MULTIPLE,
    PROVIDERS,
    Limits,
    Profile,
    covers,
    engine_folder,
    profiles,
)
from penstock.models.session import Feeds, Session


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """What to run on. ``providers`` are tried in order; one that is ``required`` must be it.

    ``token_budget`` None means the bundle's tuned one, else the provider's default. On processors so many ``passes``
    run at once and share the ``threads``, 0 being all cores; 0 passes are as many as threads. ``gpu_memory`` in bytes.
    """

    providers: tuple[str, ...] = ("cpu",)
    required: str = ""
    token_budget: int | None = None
    threads: int = 0
    passes: int = 1
    spinning: bool = False
    gpu_memory: int = 0
    engine_cache: Path | None = None
    engine_lengths: tuple[int, ...] = ENGINES


@dataclass(frozen=True, slots=True)
class LoadedGraph:
    """A graph, ready, and what it runs on.

    ``passed_over`` says why earlier providers do not work that this build of ONNX Runtime has.
    """

    forward: Forward
    graph: Graph
    provider: str
    token_budget: int
    versions: Mapping[str, str]
    passed_over: Mapping[str, str] = field(default_factory=dict)


class EngineRouter(GraphRunner):
    """TensorRT for the shapes that engines were built for, CUDA for all others: none is built in the stream."""

    def __init__(self, engines: Sequence[tuple[Profile, GraphRunner]], others: GraphRunner) -> None:
        self._engines, self._others = engines, others
        self.inputs, self.width, self.provider = others.inputs, others.width, PROVIDERS["tensorrt"]

    @override
    def run(self, feeds: Feeds) -> Vector:
        batch, length = feeds["input_ids"].shape
        fitting = (engine for profile, engine in self._engines if covers(profile, batch, length))
        return next(fitting, self._others).run(feeds)


def load(bundle: Bundle, request: ProviderRequest) -> LoadedGraph:
    """Raises Misconfigured when no provider works, or not the one that is required."""
    failures: dict[str, str] = {}
    built_in = session.providers()
    tried = (request.required,) if request.required else request.providers
    for provider in tried:
        here = {name: reason for name, reason in failures.items() if name in built_in}
        try:
            return _on(bundle, request, provider, here)
        except Misconfigured as error:
            failures[provider] = str(error)
    reasons = "; ".join(failures.values())
    wanted = (
        f"model.require_provider = {request.required} cannot be had"
        if request.required
        else "no execution provider works"
    )
    raise Misconfigured(f"{wanted}: {reasons}")


def _on(bundle: Bundle, request: ProviderRequest, provider: str, failures: Mapping[str, str]) -> LoadedGraph:
    if provider not in session.providers():
        raise Misconfigured(f"{provider} is not in this build of ONNX Runtime, only {', '.join(session.providers())}")
    budget = request.token_budget or bundle.manifest.token_budgets.get(provider) or BUDGET[provider]
    graph = _choose(bundle, provider)
    if provider == "cpu":
        forward = on_processor(bundle, graph, budget, request.threads, request.passes, spinning=request.spinning)
    elif provider == "cuda":
        limits = Limits(gpu_memory=request.gpu_memory)
        forward = Forward(_session(bundle, graph, provider, limits), budget, MULTIPLE[provider])
    else:
        forward = Forward(_with_engines(bundle, request, graph, budget), budget, MULTIPLE[provider])
    return LoadedGraph(forward, graph, provider, budget, session.versions(), dict(failures))


def on_processor(
    bundle: Bundle, graph: Graph, token_budget: int, threads: int = 0, passes: int = 0, *, spinning: bool = False
) -> Forward:
    """A graph on the CPU; for ``threads`` and ``passes`` see ProviderRequest."""
    threads = threads or session.cores()
    passes = min(passes or threads, threads)
    running = _session(bundle, graph, "cpu", Limits(threads // passes, spinning))
    return Forward(running, token_budget, MULTIPLE["cpu"], passes)


def _session(bundle: Bundle, graph: Graph, provider: str, limits: Limits) -> Session:
    return Session(bundle.folder / graph.file, graph.output, provider, limits, graph.precision)


def _choose(bundle: Bundle, provider: str) -> Graph:
    graphs = bundle.graphs(provider)
    if not graphs:
        made = ", ".join(graph.dialect for graph in bundle.manifest.graphs)
        raise Misconfigured(f"{bundle.folder}: no graph for {provider}, only for {made}")
    exact = [graph for graph in graphs if graph.precision != "int8" or session.multiplies_bytes()]
    if not exact:
        raise Misconfigured(
            f"{bundle.folder}: the graph for {provider} is int8, which this processor, without VNNI, computes wrongly; "
            "export with --precision int7 or fp32"
        )
    return exact[0]


def _with_engines(bundle: Bundle, request: ProviderRequest, graph: Graph, budget: int) -> EngineRouter:
    others = [other for other in bundle.graphs("cuda") if other.precision == graph.precision]
    if not others:
        raise Misconfigured(
            f"{bundle.folder}: TensorRT needs a {graph.precision} graph for cuda beside its own, for shapes without an "
            "engine; export with --dialect cuda,tensorrt"
        )
    fallback = _session(bundle, others[0], "cuda", Limits(gpu_memory=request.gpu_memory))
    files = {name: file.sha256 for name, file in bundle.manifest.files.items()}
    engines: list[tuple[Profile, GraphRunner]] = []
    for profile in profiles(budget, bundle.manifest.max_tokens, request.engine_lengths):
        cache = request.engine_cache
        if cache is not None:
            cache = engine_folder(cache, files, session.versions(), session.gpu_name()) / str(profile.longest)
            make_folder(cache)
        limits = Limits(gpu_memory=request.gpu_memory, engines=cache, profile=profile)
        engines.append((profile, _session(bundle, graph, "tensorrt", limits)))
    return EngineRouter(engines, fallback)


def make_folder(path: Path) -> None:
    """With those above it; raises Misconfigured."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from None
