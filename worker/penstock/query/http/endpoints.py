"""What clients ask for: searches, and the models by themselves, in the words of several APIs."""

import time
from http import HTTPStatus
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from penstock.core.documents import TENANT
from penstock.core.errors import InvalidEvent
from penstock.observe.spans import HEADER, answer_span
from penstock.query.http.admission import Admission
from penstock.query.http.description import TENANT_PARAMETER, listing, work
from penstock.query.http.errors import Rejected, starting
from penstock.query.http.model_api import ModelApi
from penstock.query.http.service import Service
from penstock.query.replies import ReplyBody, to_json, to_reply
from penstock.query.requests import read_query, to_query

TOOL = "mcp_search"
"""What an agent's searches are counted as: the protocol answers 200 whatever became of them."""


def most_of_search(service: Service) -> int:
    """Bytes of a body."""
    return min(service.max_search_body_bytes, service.max_body_bytes)


def add_search(app: FastAPI, service: Service, admission: Admission) -> None:
    """The search."""
    most = most_of_search(service)

    @app.post("/v1/search", summary="Search", tags=["search"], **work("query.v1", "reply.v1"))
    async def search(request: Request) -> Response:
        """The documents that answer a query, best first."""
        return await admission(request, "search", most, lambda body, tenant: _search(service, request, body, tenant))

    @app.get("/v1/overview", summary="What there is", tags=["search"], **listing("overview", TENANT_PARAMETER))
    async def overview(request: Request) -> Response:
        """How many documents a tenant has, by which values of declared fields, and queries to begin with."""
        return await admission(request, "overview", 0, lambda _, tenant: _overview(service, request, tenant))


def add_models(app: FastAPI, service: Service, admission: Admission) -> None:
    """The models by themselves, as other people's clients ask for them."""
    most = service.max_body_bytes

    @app.post("/v1/embeddings", summary="Embed texts", tags=["models"], **work("embeddings", "embeddings_reply"))
    async def embeddings(request: Request) -> Response:
        """Vectors, as in OpenAI's API."""
        return await admission(request, "embeddings", most, lambda body, tenant: _embeddings(service, body, tenant))

    @app.post("/embed", summary="Embed texts", tags=["models"], **work("embed", "embed_reply"))
    async def embed(request: Request) -> Response:
        """Vectors, as in the API of text-embeddings-inference."""
        return await admission(request, "embeddings", most, lambda body, tenant: _embed(service, body, tenant))

    described = work("rerank", "rerank_reply")

    @app.post("/rerank", summary="Rerank texts", tags=["models"], **described)
    @app.post("/v2/rerank", summary="Rerank texts", tags=["models"], **described)
    @app.post("/v1/rerank", summary="Rerank texts", tags=["models"], **described)
    async def rerank(request: Request) -> Response:
        """How well each document answers a query, best first; as in Cohere's API, or text-embeddings-inference's."""
        return await admission(request, "rerank", most, lambda body, tenant: _rerank(service, body, tenant))

    @app.get("/v1/models", summary="The models by name", tags=["models"], **listing("models"))
    async def models(request: Request) -> Response:
        """As in OpenAI's API."""
        try:
            service.keys.tenant(request)
            return JSONResponse(_models(service).models())
        except Rejected as rejected:
            return rejected.response()


def add_mcp(app: FastAPI, service: Service, admission: Admission) -> None:
    """The search as a tool, where the SDK is installed."""
    from penstock.query.http.mcp import Mcp  # noqa: PLC0415  # an extra

    mcp = Mcp(not service.keys, service.limits.longest_timeout_s)

    def failed(error: Exception) -> str:
        rejected = admission.rejected(error, TOOL)
        service.metrics.request(TOOL, rejected.status)
        return str(rejected)

    @app.post("/mcp", include_in_schema=False)
    async def answer(request: Request) -> Response:
        async def work(body: bytes, tenant: str | None) -> Response:
            async def search(asked: bytes) -> ReplyBody:
                reply = await _reply(service, request, asked, tenant)
                service.metrics.request(TOOL, HTTPStatus.OK)
                return reply

            return await mcp.answer(request.scope, body, search, failed)

        return await admission(request, "mcp", most_of_search(service), work)


async def _overview(service: Service, request: Request, tenant: str | None) -> Response:
    if service.overview is None:
        raise starting()
    named = request.query_params.get("tenant")
    if named is not None and not TENANT.fullmatch(named):
        raise InvalidEvent("tenant: letters, digits and . _ - only, at most 128")
    if tenant is not None and named not in (None, tenant):
        raise Rejected("forbidden", f"the key is not for tenant {named!r}")
    return JSONResponse(await service.overview.of(tenant if tenant is not None else named or ""))


async def _search(service: Service, request: Request, value: bytes, tenant: str | None) -> Response:
    return Response(to_json(await _reply(service, request, value, tenant)), media_type="application/json")


async def _reply(service: Service, request: Request, value: bytes, tenant: str | None) -> ReplyBody:
    if service.search is None:
        raise starting()
    body = read_query(value, service.limits)
    if tenant is not None and body.tenant not in (None, tenant):
        raise Rejected("forbidden", f"the key is not for tenant {body.tenant!r}")
    query = to_query(body, service.limits, str(uuid4()), tenant if tenant is not None else body.tenant or "")
    answer = await service.search.answer(query)
    service.metrics.answer(answer)
    parent, documents = request.headers.get(HEADER, ""), len(answer.documents)
    span = f"{request.method} {request.url.path}"
    service.tracer.emit(answer_span(span, "server", parent, time.time_ns(), answer.timings_ms, documents))
    return to_reply(answer, service.model.reranker)


def _models(service: Service) -> ModelApi:
    if service.models is None:
        raise starting()
    return service.models


async def _embeddings(service: Service, value: bytes, tenant: str | None) -> Response:
    return Response(await _models(service).embeddings(value, tenant or ""), media_type="application/json")


async def _embed(service: Service, value: bytes, tenant: str | None) -> Response:
    return Response(await _models(service).embed(value, tenant or ""), media_type="application/json")


async def _rerank(service: Service, value: bytes, tenant: str | None) -> Response:
    return JSONResponse(await _models(service).rerank(value, tenant or ""))
