"""The query worker over HTTP: searches, the models by themselves, health, metrics, and a page to try it on."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.cors import CORSMiddleware

from penstock import __version__
from penstock.query.http.admission import Admission
from penstock.query.http.description import describe
from penstock.query.http.door import Door
from penstock.query.http.endpoints import add_mcp, add_models, add_search
from penstock.query.http.errors import error_response
from penstock.query.http.operations import add_health, add_info, add_metrics
from penstock.query.http.page import add_page
from penstock.query.http.service import Service

ABOUT: dict[str, Any] = {
    "title": "Penstock",
    "version": __version__,
    "description": "Search over documents that were indexed from a stream.",
    "redirect_slashes": False,  # a redirect would go where the Host header says
}

READABLE = ("Retry-After", "X-Request-Id")
"""Headers of an answer that pages from elsewhere may read."""


def create_app(service: Service) -> FastAPI:
    """The application; without metrics and docs where these are served apart, by ``create_operations``."""
    apart = service.operated_apart
    app: FastAPI = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, **ABOUT) if apart else _documented()
    app.add_exception_handler(StarletteHTTPException, _not_found)
    admission = Admission(service.keys, service.metrics, service.places, service.bug, service.tracer)
    add_search(app, service, admission)
    add_models(app, service, admission)
    if service.mcp:
        add_mcp(app, service, admission)
    add_info(app, service, keyed=True)
    add_health(app, service)
    if not apart:
        add_metrics(app, service)
    add_page(app)
    describe(app, keys=bool(service.keys))
    if service.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=READABLE,
        )
    app.add_middleware(Door, names=service.names, origins=service.origins)
    return app


def create_operations(service: Service, api: FastAPI, names: Sequence[str] = ()) -> FastAPI:
    """What is served on a port of its own: health, metrics, what is served, and the description of ``api``."""
    app = _documented({"supportedSubmitMethods": []})
    app.add_exception_handler(StarletteHTTPException, _not_found)
    add_health(app, service)
    add_metrics(app, service)
    add_info(app, service, keyed=False)
    app.openapi = api.openapi  # type: ignore[method-assign]  # as its documentation says
    app.add_middleware(Door, names=names)
    return app


def _documented(swagger: dict[str, Any] | None = None) -> FastAPI:
    made: FastAPI = FastAPIOffline(static_url="/docs-assets", redoc_url=None, swagger_ui_parameters=swagger, **ABOUT)
    return made


async def _not_found(_request: Request, error: Exception) -> Response:
    """A path or a method that is not there, told like everything else."""
    status, headers = 500, None
    if isinstance(error, StarletteHTTPException):
        status, headers = error.status_code, error.headers
    return error_response(status, "no_such_thing", HTTPStatus(status).phrase, headers)
