"""The query worker over HTTP: searches, the models by themselves, health, metrics, and a page to try it on."""

import base64
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException as StarletteHTTPException

from penstock import __version__
from penstock.observe.health import Health
from penstock.observe.metrics import CONTENT_TYPE
from penstock.observe.query_metrics import QueryMetrics
from penstock.observe.spans import HEADER, NoTracer, Tracer, answer_span
from penstock.query.http.admission import Admission, Keys
from penstock.query.http.description import describe, request_body, responses
from penstock.query.http.door import Door
from penstock.query.http.errors import DESCRIBED, Rejected, error_response, starting
from penstock.query.http.model_api import EmbeddingsBody, ModelApi, RerankBody
from penstock.query.http.places import Places
from penstock.query.requests import Limits, ModelBody, QueryBody, ReplyBody, read_query, to_json, to_query, to_reply
from penstock.query.search import Search

PAGE = Path(__file__).parent / "page.html"


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
    tracer: Tracer = field(default_factory=NoTracer)
    stopping: bool = False
    local: bool = False
    """Answers to local names only, see ``Door``."""

    def open(self, search: Search, models: ModelApi) -> None:
        """From now on there are answers."""
        self.metrics.watch(search.steps)
        self.models, self.search = models, search

    @property
    def places(self) -> Places:
        """Half of all for one tenant, where there are several and nothing else is said."""
        fair = (self.max_concurrency + 1) // 2 if self.keys.several else self.max_concurrency
        return Places(self.max_concurrency, self.max_concurrency_per_tenant or fair)

    @property
    def ready(self) -> bool:
        """Whether there are answers."""
        return self.search is not None and not self.stopping


def create_app(service: Service) -> FastAPI:
    """The application."""
    app: FastAPI = FastAPIOffline(
        title="Penstock",
        version=__version__,
        description="Search over documents that were indexed from a stream.",
        static_url="/docs-assets",
        redoc_url=None,
        redirect_slashes=False,  # a redirect would go where the Host header says
    )
    admission = Admission(service.keys, service.metrics, service.places, service.bug, service.tracer)
    app.add_exception_handler(StarletteHTTPException, _not_found)
    _add_work(app, service, admission)
    _add_operations(app, service)
    _add_catalogue(app, service)
    _add_page(app)
    describe(app)
    app.add_middleware(Door, local=service.local)
    return app


async def _not_found(_request: Request, error: Exception) -> Response:
    """A path or a method that is not there, told like everything else."""
    status, headers = 500, None
    if isinstance(error, StarletteHTTPException):
        status, headers = error.status_code, error.headers
    return error_response(status, "no_such_thing", HTTPStatus(status).phrase, headers)


def _add_work(app: FastAPI, service: Service, admission: Admission) -> None:
    @app.post("/v1/search", summary="Search", responses=responses(ReplyBody), openapi_extra=request_body(QueryBody))
    async def search(request: Request) -> Response:
        """The documents that answer a query, best first."""
        most = min(service.max_search_body_bytes, service.max_body_bytes)
        return await admission(request, "search", most, lambda body, tenant: _search(service, request, body, tenant))

    @app.post("/v1/embeddings", summary="Embed texts", responses=DESCRIBED, openapi_extra=request_body(EmbeddingsBody))
    async def embeddings(request: Request) -> Response:
        """Vectors, as in OpenAI's API."""
        most = service.max_body_bytes
        return await admission(request, "embeddings", most, lambda body, tenant: _embeddings(service, body, tenant))

    described: dict[str, Any] = {"responses": DESCRIBED, "openapi_extra": request_body(RerankBody)}

    @app.post("/rerank", summary="Rerank texts", **described)
    @app.post("/v2/rerank", summary="Rerank texts", **described)
    @app.post("/v1/rerank", summary="Rerank texts", **described)
    async def rerank(request: Request) -> Response:
        """How well each document answers a query, best first, as in Cohere's API."""
        most = service.max_body_bytes
        return await admission(request, "rerank", most, lambda body, tenant: _rerank(service, body, tenant))


async def _search(service: Service, request: Request, value: bytes, tenant: str | None) -> Response:
    if service.search is None:
        raise starting()
    body = read_query(value, service.limits)
    if tenant is not None and body.tenant not in (None, tenant):
        raise Rejected("forbidden", f"the key is not for tenant {body.tenant!r}")
    query = to_query(body, service.limits, str(uuid4()), tenant if tenant is not None else body.tenant or "")
    answer = await service.search.answer(query)
    service.metrics.answer(answer)
    parent, documents = request.headers.get(HEADER, ""), len(answer.documents)
    service.tracer.emit(answer_span("POST /v1/search", "server", parent, time.time_ns(), answer.timings_ms, documents))
    return Response(to_json(to_reply(answer, service.model)), media_type="application/json")


def _models(service: Service) -> ModelApi:
    if service.models is None:
        raise starting()
    return service.models


async def _embeddings(service: Service, value: bytes, tenant: str | None) -> Response:
    return Response(await _models(service).embeddings(value, tenant or ""), media_type="application/json")


async def _rerank(service: Service, value: bytes, tenant: str | None) -> Response:
    return JSONResponse(await _models(service).rerank(value, tenant or ""))


def _add_operations(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Alive", responses={503: {"description": "Stuck: restart it."}})
    async def healthz() -> Response:
        """The process answers, and its loop over the topic turns. Says nothing of Kafka and Qdrant being away."""
        status, body, kind = service.health.answer("/healthz")
        return Response(body, status, media_type=kind.decode())

    @app.get("/startz", summary="Started", responses={503: {"description": "Not yet."}})
    async def startz() -> Response:
        """The models are warm."""
        status, body, kind = service.health.answer("/startz")
        return Response(body, status, media_type=kind.decode())

    @app.get("/readyz", summary="Ready", responses={503: {"description": "Not yet, or no more."}})
    async def readyz() -> Response:
        """The models are warm and the collection is open."""
        return JSONResponse({"ready": service.ready}, 200 if service.ready else 503)

    @app.get("/metrics", summary="Metrics for Prometheus")
    async def metrics() -> Response:
        """Counters and histograms."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _add_catalogue(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", summary="The models by name")
    async def models(request: Request) -> Response:
        """As in OpenAI's API."""
        try:
            service.keys.tenant(request)
            return JSONResponse(_models(service).models())
        except Rejected as rejected:
            return rejected.response()

    @app.get("/v1/info", summary="What is served")
    async def info() -> Response:
        """The models, the usual values, the ways to search, the usual one first, and the fields to filter by."""
        limits = service.limits
        body = {
            "version": __version__,
            "model": service.model.model_dump(),
            "instruction": service.instruction,
            "keys": bool(service.keys),
            "top_k": limits.top_k,
            "candidates": limits.candidates,
            "modes": service.search.modes if service.search else [],
            "filter_fields": limits.filter_fields or {},
        }
        return JSONResponse(body)


def _add_page(app: FastAPI) -> None:
    page = PAGE.read_text(encoding="utf-8")
    policy = content_policy(page)

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})


def content_policy(page: str) -> str:
    """Only the page's own style and script may run, and it may talk to this server only."""

    def hashes(tag: str) -> str:
        contents = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents]
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; img-src data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
