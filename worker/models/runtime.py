"""From a bundle to a graph that runs: the first provider of those wanted that this machine has, and no other."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from worker.errors import Misconfigured
from worker.models import session
from worker.models.bundle import Bundle, Graph
from worker.models.forward import Forward
from worker.models.providers import BUDGET, MULTIPLE, Limits, Profile, covered, engine_folder, profiles
from worker.models.session import Feeds, Session
from worker.types import Vector


@dataclass(frozen=True, slots=True)
class Wish:
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


@dataclass(frozen=True, slots=True)
class Loaded:
    """A graph, ready, and what it runs on.

    ``passed_over`` says why earlier providers do not work that this build of ONNX Runtime has.
    """

    forward: Forward
    graph: Graph
    provider: str
    token_budget: int
    versions: Mapping[str, str]
    passed_over: Mapping[str, str] = field(default_factory=dict)


class Routed:
    """TensorRT for the shapes that engines were built for, CUDA for all others: none is built in the stream."""

    def __init__(self, engines: Session, others: Session, found: Sequence[Profile]) -> None:
        self._engines, self._others, self._profiles = engines, others, found
        self.inputs, self.width, self.provider = engines.inputs, engines.width, engines.provider

    def run(self, feeds: Feeds) -> Vector:
        """As in Session."""
        batch, length = feeds["input_ids"].shape
        chosen = self._engines if covered(self._profiles, batch, length) else self._others
        return chosen.run(feeds)


def load(bundle: Bundle, wish: Wish) -> Loaded:
    """Raises Misconfigured when no provider works, or not the one that is required."""
    failures: dict[str, str] = {}
    built_in = session.providers()
    for provider in wish.providers:
        try:
            here = {name: reason for name, reason in failures.items() if name in built_in}
            loaded = _on(bundle, wish, provider, here)
        except Misconfigured as error:
            failures[provider] = str(error)
            continue
        if wish.required and provider != wish.required:
            break
        return loaded
    reasons = "; ".join(failures.values()) or "it is not among model.provider"
    wanted = f"model.require_provider = {wish.required}" if wish.required else "no execution provider"
    raise Misconfigured(f"{wanted} cannot be had: {reasons}" if wish.required else f"{wanted} works: {reasons}")


def _on(bundle: Bundle, wish: Wish, provider: str, failures: Mapping[str, str]) -> Loaded:
    if provider not in session.providers():
        raise Misconfigured(f"{provider} is not in this build of ONNX Runtime, only {', '.join(session.providers())}")
    budget = wish.token_budget or bundle.manifest.token_budgets.get(provider) or BUDGET[provider]
    graph = _choose(bundle, provider)
    if provider == "cpu":
        forward = on_processor(bundle, graph, budget, wish.threads, wish.passes, spinning=wish.spinning)
    elif provider == "cuda":
        limits = Limits(gpu_memory=wish.gpu_memory)
        forward = Forward(_session(bundle, graph, provider, limits), budget, MULTIPLE[provider])
    else:
        forward = Forward(_with_engines(bundle, wish, graph, budget), budget, MULTIPLE[provider])
    return Loaded(forward, graph, provider, budget, session.versions(), dict(failures))


def on_processor(
    bundle: Bundle, graph: Graph, token_budget: int, threads: int = 0, passes: int = 0, *, spinning: bool = False
) -> Forward:
    """A graph on the CPU; for ``threads`` and ``passes`` see Wish."""
    threads = threads or os.cpu_count() or 1
    passes = min(passes or threads, threads)
    session = _session(bundle, graph, "cpu", Limits(threads // passes, spinning))
    return Forward(session, token_budget, MULTIPLE["cpu"], passes)


def _session(bundle: Bundle, graph: Graph, provider: str, limits: Limits) -> Session:
    return Session(bundle.folder / graph.file, graph.output, provider, limits)


def _choose(bundle: Bundle, provider: str) -> Graph:
    graphs = bundle.graphs(provider)
    if not graphs:
        made = ", ".join(graph.dialect for graph in bundle.manifest.graphs)
        raise Misconfigured(f"{bundle.folder}: no graph for {provider}, only for {made}")
    exact = [graph for graph in graphs if graph.precision != "int8" or session.multiplies_bytes()]
    if not exact:
        raise Misconfigured(
            f"{bundle.folder}: the graph for {provider} is int8, which this processor, without VNNI, computes wrongly; "
            "export with --precision fp32"
        )
    return exact[0]


def _with_engines(bundle: Bundle, wish: Wish, graph: Graph, budget: int) -> Routed:
    found = profiles(budget, bundle.manifest.max_tokens)
    cache = wish.engine_cache
    if cache is not None:
        sha256 = bundle.manifest.files[graph.file].sha256
        cache = engine_folder(cache, sha256, session.versions(), session.gpu_name())
        cache.mkdir(parents=True, exist_ok=True)
    limits = Limits(gpu_memory=wish.gpu_memory, engines=cache, profiles=found)
    engines = _session(bundle, graph, "tensorrt", limits)
    return Routed(engines, _session(bundle, _choose(bundle, "cuda"), "cuda", limits), found)
