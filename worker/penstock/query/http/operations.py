"""For who operates it: health, metrics, and what is served; on the port of the searches, or on one of their own."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from penstock import __version__
from penstock.query.http.description import ALIVE, INFO, READINESS, STARTED, TEXT
from penstock.query.http.errors import Rejected
from penstock.query.http.service import Service


def add_health(app: FastAPI, service: Service) -> None:
    """For probes and load balancers."""

    @app.get("/healthz", summary="Alive", tags=["operation"], responses=ALIVE)
    async def healthz() -> Response:
        """The process answers, and its loop over the topic turns. Says nothing of Kafka and Qdrant being away."""
        status, body, kind = service.health.answer("/healthz")
        return Response(body, status, media_type=kind.decode())

    @app.get("/startz", summary="Started", tags=["operation"], responses=STARTED)
    async def startz() -> Response:
        """The models are warm."""
        status, body, kind = service.health.answer("/startz")
        return Response(body, status, media_type=kind.decode())

    @app.get("/readyz", summary="Ready", tags=["operation"], responses=READINESS)
    async def readyz() -> Response:
        """The models are warm and the collection is open."""
        return JSONResponse({"ready": service.ready}, 200 if service.ready else 503)


def add_metrics(app: FastAPI, service: Service) -> None:
    """For Prometheus."""

    @app.get(
        "/metrics",
        summary="Metrics for Prometheus",
        tags=["operation"],
        response_class=PlainTextResponse,
        responses=TEXT,
    )
    async def metrics(request: Request) -> Response:
        """Counters and histograms."""
        body, kind = service.metrics.exposed(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": kind})


def add_info(app: FastAPI, service: Service, *, keyed: bool) -> None:
    """``keyed``: only for who has a key, where there are keys."""

    @app.get("/v1/info", summary="What is served", tags=["search"], responses=INFO)
    async def info(request: Request) -> Response:
        """The models, the usual values, the ways to search, the usual one first, and the fields to filter by.

        Without a key, where there are keys, only that there are.
        """
        if keyed and service.keys:
            try:
                service.keys.tenant(request)
            except Rejected:
                return JSONResponse({"keys": True})
        return JSONResponse(_info(service))


def _info(service: Service) -> dict[str, Any]:
    limits = service.limits
    return {
        "version": __version__,
        "model": service.serving.model_dump(),
        "instruction": service.instruction,
        "keys": bool(service.keys),
        "top_k": limits.top_k,
        "candidates": limits.candidates,
        "max_top_k": limits.most_top_k,
        "max_candidates": limits.most_candidates,
        "modes": service.search.modes if service.search else [],
        "filter_fields": limits.filter_fields or {},
    }
