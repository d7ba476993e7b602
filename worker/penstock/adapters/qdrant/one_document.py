"""All points of one document."""

from collections.abc import Mapping
from typing import Any

from qdrant_client import grpc

from penstock.adapters.qdrant import points as convert
from penstock.adapters.qdrant.channel import about_no_document
from penstock.adapters.qdrant.filters import of_tenant
from penstock.adapters.qdrant.inventory import held
from penstock.adapters.qdrant.scroll import scrolled
from penstock.core.explained import StoredPoint

FIELDS = (*convert.HIT_FIELDS, "indexed_at", "expires_at", "source", "language")


def points_of(points: Any, collection: str, document: str, tenant: str | None) -> list[StoredPoint]:
    """Those of a tenant's document, or without a tenant of all documents that are called so, in the chunks' order.

    ``points`` is a stub of Qdrant's Points service, or the embedded one.
    """
    where = grpc.Filter() if tenant is None else of_tenant(tenant)
    named = grpc.FieldCondition(key="document", match=grpc.Match(keyword=document))
    where.must.append(grpc.Condition(field=named))
    with about_no_document():
        found = [_point(point, point.payload) for point in scrolled(points, collection, where, FIELDS)]
    return sorted(found, key=lambda point: point.held.key)


def _point(point: grpc.RetrievedPoint, payload: Mapping[str, grpc.Value]) -> StoredPoint:
    hit = convert.hit(point)
    language = payload["language"].string_value or None
    return StoredPoint(held(point), hit.text, hit.title, *hit.place, language, hit.timestamp, hit.metadata)
