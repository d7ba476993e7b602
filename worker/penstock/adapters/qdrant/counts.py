"""How many documents a tenant has, in all and by the values of a field."""

from datetime import datetime
from typing import Any

from qdrant_client import grpc

from penstock.adapters.qdrant.filters import keys, living
from penstock.core.queries import FacetCounts

MANY = 100_000
"""Documents that are no longer counted one by one: it would take the server seconds."""

ANCHOR = grpc.Condition(field=grpc.FieldCondition(key="chunk", match=grpc.Match(integer=0)))
"""A document has one."""


def documents(points: Any, collection: str, tenant: str, now: datetime) -> int:
    """By their anchors; many are estimated."""
    request = grpc.CountPoints(collection_name=collection, filter=living(tenant, now, ANCHOR), exact=False)
    about = int(points.Count(request).result.count)
    if about < MANY:
        request.exact = True
        about = int(points.Count(request).result.count)
    return about


def facet(points: Any, collection: str, tenant: str, now: datetime, field: str, most: int) -> FacetCounts:
    """The values that most documents have, each with about how many; most first.

    A field that may be reached by several ways has what each of them finds.
    """
    found: FacetCounts = {}
    for key in keys(field):
        where = living(tenant, now, ANCHOR)
        request = grpc.FacetCounts(collection_name=collection, key=key, filter=where, limit=most)
        for hit in points.Facet(request).hits:
            value = getattr(hit.value, hit.value.WhichOneof("variant"))
            found[value] = found.get(value, 0) + hit.count
    return dict(sorted(found.items(), key=lambda one: (-one[1], str(one[0])))[:most])
