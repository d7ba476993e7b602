"""What the endpoints work with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from penstock.observe.health import Health
from penstock.observe.query_metrics import QueryMetrics
from penstock.observe.spans import NoTracer, Tracer
from penstock.query.http.admission import Keys
from penstock.query.http.model_api import ModelApi
from penstock.query.http.overview import Overview
from penstock.query.http.places import Places
from penstock.query.replies import ModelBody, model_body
from penstock.query.requests import Limits
from penstock.query.search import Search


@dataclass(slots=True)
class Service:
    """What the endpoints work with. ``search`` and ``models`` are None until the collection is open."""

    limits: Limits
    model: ModelBody
    keys: Keys
    max_body_bytes: int = 1_000_000
    max_search_body_bytes: int = 262_144
    max_concurrency: int = 256
    max_concurrency_per_tenant: int | None = None
    instruction: str = ""
    bug: Callable[[str, Exception], None] = lambda _endpoint, _error: None
    health: Health = field(default_factory=Health)
    metrics: QueryMetrics = field(default_factory=QueryMetrics)
    search: Search | None = None
    models: ModelApi | None = None
    overview: Overview | None = None
    examples: Sequence[str] = ()
    tracer: Tracer = field(default_factory=NoTracer)
    stopping: bool = False
    names: Sequence[str] = ()
    """Answers to these only, see ``Door``; none is any."""
    origins: Sequence[str] = ()
    """Web pages that may ask, beside its own."""
    mcp: bool = False
    """Serves the search as a tool for agents."""
    operated_apart: bool = False
    """Metrics, docs and what is served are told on a port of their own."""

    def open(self, search: Search, models: ModelApi) -> None:
        """From now on there are answers."""
        self.metrics.watch(lambda: search.steps)
        self.overview = Overview(search, self.limits.filter_fields or {}, self.examples)
        self.models, self.search = models, search

    @property
    def serving(self) -> ModelBody:
        """The models that answer at the moment; before there are answers, those of the settings."""
        return self.model if self.search is None else model_body(self.search.served.encoder.by, self.model.reranker)

    @property
    def places(self) -> Places:
        """Half of all for one tenant, where there are several and nothing else is said."""
        fair = (self.max_concurrency + 1) // 2 if self.keys.several else self.max_concurrency
        return Places(self.max_concurrency, self.max_concurrency_per_tenant or fair)

    @property
    def ready(self) -> bool:
        """Whether there are answers."""
        return self.search is not None and not self.stopping
