"""What the API's own description says of bodies, which are read by hand, from bytes."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from penstock.query.http.errors import DESCRIBED
from penstock.query.http.model_api import EmbeddingsBody, RerankBody
from penstock.query.requests import QueryBody, ReplyBody

BODIES = (QueryBody, ReplyBody, EmbeddingsBody, RerankBody)


def describe(app: FastAPI) -> None:
    """Bodies are read by hand, from bytes; their schemas are added to the API's description."""
    plain = app.openapi
    _, definitions = models_json_schema(
        [(model, "validation") for model in BODIES], ref_template="#/components/schemas/{model}"
    )

    def described() -> dict[str, Any]:
        schema = plain()
        schema.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
        return schema

    app.openapi = described  # type: ignore[method-assign]  # as its documentation says


def request_body(model: type[BaseModel]) -> dict[str, Any]:
    """For an endpoint that reads its body by hand."""
    return {"requestBody": {"required": True, **_json_of(model)}}


def responses(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """The answer's schema, and what the errors mean."""
    return {200: {"description": "The answer.", **_json_of(model)}, **DESCRIBED}


def _json_of(model: type[BaseModel]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}}
