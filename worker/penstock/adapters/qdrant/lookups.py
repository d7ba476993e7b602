"""A lookup as the queries of one request to Qdrant, and what they found as hits. Pure.

By vectors and by words, each finds candidates and then scores those of both: two queries over the same prefetches. One
more per term asks what this term alone reaches at best, without which a sum over terms says little.
"""

from collections.abc import Sequence
from typing import Any

from qdrant_client import grpc

from penstock.adapters.qdrant.filters import of_tenant, readable
from penstock.adapters.qdrant.points import HIT_FIELDS, fields, hit
from penstock.adapters.qdrant.shape import FULL, TERMS, VECTOR, Shape, vectors
from penstock.core.queries import Hit, Lookup, Side
from penstock.core.terms import reach
from penstock.core.vectors import Vector

OVERSAMPLED = 3
"""Candidates of short vectors, per one wanted, that full vectors score."""

Part = dict[str, Any]
"""What a query and a prefetch have in common."""


def queries(collection: str, shape: Shape, lookup: Lookup) -> list[grpc.QueryPoints]:
    """To be sent in one request, see ``hits``; none where a search by words has no words.

    The filter of what its tenant may see goes with every stage of each.
    """
    terms = _terms(shape, lookup)
    sides = [] if lookup.vector is None else [_by_vector(shape, lookup, lookup.vector)]
    if terms:
        sides.append(_by_terms(lookup, terms) | {"limit": lookup.limit})
    if len(sides) > 1:
        found = {"prefetch": [grpc.PrefetchQuery(**side) for side in sides], "limit": lookup.limit * len(sides)}
        sides = [side | found for side in sides]
    if sides:
        sides[0] |= {"with_payload": fields(HIT_FIELDS)}
        if lookup.with_vectors:
            sides[0] |= {"with_vectors": vectors([VECTOR])}
    alone = [_by_terms(lookup, [term]) | {"limit": 1} for term in terms]
    return [grpc.QueryPoints(collection_name=collection, **part) for part in (*sides, *alone)]


def hits(shape: Shape, lookup: Lookup, found: Sequence[Sequence[grpc.ScoredPoint]]) -> list[Hit]:
    """What the queries of a lookup found, each one's points in the order of the queries."""
    terms = _terms(shape, lookup)
    sides = list(found[: len(found) - len(terms)])
    most = reach([points[0].score if points else None for points in found[len(sides) :]])
    sparse = (
        {at.id.uuid: _share(at.score, most, rank, lookup) for rank, at in enumerate(sides.pop(), 1)} if terms else {}
    )
    if lookup.vector is None:
        matching = [hit(point) for point in found[0]] if found else []
        shares = [sparse[point.id.uuid] for point in found[0]] if found else []
        return [one._replace(score=side.score, sparse=side) for one, side in zip(matching, shares, strict=True)]
    return [
        hit(point)._replace(
            dense=Side(point.score, rank if rank <= lookup.limit else None), sparse=sparse.get(point.id.uuid)
        )
        for rank, point in enumerate(sides[0], 1)
    ]


def _share(score: float, most: float, rank: int, lookup: Lookup) -> Side:
    """A point may have been written between two of the queries: no more than all can be reached."""
    return Side(min(1.0, score / most) if most else 0.0, rank if rank <= lookup.limit else None)


def _terms(shape: Shape, lookup: Lookup) -> list[int]:
    return shape.terms.of_query(lookup.text) if shape.terms is not None and lookup.text else []


def _by_vector(shape: Shape, lookup: Lookup, vector: Vector) -> Part:
    named = {
        name: grpc.Query(nearest=grpc.VectorInput(dense=grpc.DenseVector(data=one.tolist())))
        for name, one in shape.named(vector).items()
    }
    by_short: Part = {"query": named[VECTOR], "using": VECTOR, "limit": lookup.limit, "filter": readable(lookup)}
    if not shape.full:
        return by_short
    first = grpc.PrefetchQuery(**by_short | {"limit": lookup.limit * OVERSAMPLED})
    return by_short | {"prefetch": [first], "query": named[FULL], "using": FULL}


def _by_terms(lookup: Lookup, terms: Sequence[int]) -> Part:
    """How rare a term is, is counted in the tenant's own points: what others write neither shows nor matters."""
    ones = grpc.SparseVector(indices=terms, values=[1.0] * len(terms))
    part: Part = {
        "query": grpc.Query(nearest=grpc.VectorInput(sparse=ones)),
        "using": TERMS,
        "filter": readable(lookup),
    }
    if lookup.tenant:
        part["params"] = grpc.SearchParams(idf=grpc.IdfParams(corpus=of_tenant(lookup.tenant)))
    return part
