"""What the API's own description says: bodies, which are read by hand, as in ``schemas/``; errors, and keys."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from fastapi import FastAPI

from penstock.events import schemas
from penstock.query.http.errors import KINDS

JSON, TEXT_PLAIN = "application/json", "text/plain"

EVENTS, BODIES = ("query.v1", "reply.v1"), "http.v1"

SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Where the worker has keys."},
    "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "The same key."},
}

TENANT_PARAMETER = {
    "name": "tenant", "in": "query", "required": False,
    "description": "Whose documents. With API keys the key decides, and this may only agree.",
    "schema": {"$ref": "#/components/schemas/query.v1/properties/tenant"},
}  # fmt: skip

Responses = dict[int | str, dict[str, Any]]


def _of(schema: str, kind: str = JSON) -> dict[str, Any]:
    return {"content": {kind: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}}


def _meaning(status: int) -> str:
    kinds = [kind for kind in KINDS.values() if kind.status == status]
    come_back = " Come back after Retry-After seconds." if any(kind.retry_s for kind in kinds) else ""
    return " Or: ".join(kind.meaning for kind in kinds) + come_back


ERRORS: Responses = {
    status: {"description": _meaning(status), **_of("error")}
    for status in sorted({kind.status for kind in KINDS.values()} - {404})
}

_TEXT = {"content": {TEXT_PLAIN: {"schema": {"type": "string"}}}}
TEXT: Responses = {200: {"description": "The answer.", **_TEXT}}
ALIVE: Responses = {
    200: {"description": "Yes.", **_of("health")},
    503: {"description": "Stuck: restart it.", **_of("health")},
}
STARTED: Responses = {200: {"description": "Yes.", **_of("health")}, 503: {"description": "Not yet.", **_of("health")}}

READINESS: Responses = {
    200: {"description": "Yes.", **_of("readiness")},
    503: {"description": "Not yet, or no more.", **_of("readiness")},
}

INFO: Responses = {200: {"description": "The answer.", **_of("info")}}


def work(request: str, reply: str) -> dict[str, Any]:
    """What a path operation says of an endpoint that reads a body by hand."""
    return {
        "responses": {200: {"description": "The answer.", **_of(reply)}, **ERRORS},
        "openapi_extra": {"requestBody": {"required": True, **_of(request)}, "security": _needed()},
    }


def listing(reply: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    """And of one that reads none."""
    errors = {status: ERRORS[status] for status in (400, 401, 403, 413, 503)}
    return {
        "responses": {200: {"description": "The answer.", **_of(reply)}, **errors},
        "openapi_extra": {"security": _needed(), "parameters": list(parameters)},
    }


def describe(app: FastAPI, *, keys: bool) -> None:
    """Schemas are added as they are in ``schemas/``; without ``keys``, none is asked for."""
    plain = app.openapi

    @cache
    def described() -> dict[str, Any]:
        made = plain()
        components = made.setdefault("components", {})
        components["schemas"] = {name: _component(name, json.loads(schemas.text(name))) for name in EVENTS}
        components["schemas"] |= _apart(json.loads(schemas.text(BODIES)))
        components["securitySchemes"] = SECURITY if keys else {}
        for operation in (one for path in made["paths"].values() for one in path.values()):
            if not keys:
                operation.pop("security", None)
        return made

    app.openapi = described  # type: ignore[method-assign]  # as its documentation says


def _needed() -> list[dict[str, list[str]]]:
    return [{name: []} for name in SECURITY]


def _component(name: str, schema: Mapping[str, Any]) -> Any:
    """A schema whose definitions stay within it."""
    whole = {key: part for key, part in schema.items() if key != "$schema"}
    return _moved(whole, f"#/components/schemas/{name}/$defs/")


def _apart(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Its definitions, each a component."""
    made: dict[str, Any] = _moved(schema["$defs"], "#/components/schemas/")
    return made


def _moved(part: Any, to: str) -> Any:
    if isinstance(part, dict):
        return {
            key: value.replace("#/$defs/", to) if key == "$ref" else _moved(value, to) for key, value in part.items()
        }
    return [_moved(one, to) for one in part] if isinstance(part, list) else part
