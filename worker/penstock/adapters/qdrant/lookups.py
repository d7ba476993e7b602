"""A lookup as the queries of one request to Qdrant, and what they found as hits. Pure.

By vectors and by words, each finds candidates and then scores those of both: two queries over the same prefetches. One
more per term asks what this term alone reaches at best, without which a sum over terms says little.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from qdrant_client import grpc

from penstock.adapters.qdrant.filters import of_tenant, readable
from penstock.adapters.qdrant.points import HIT_FIELDS, fields, hit
from penstock.adapters.qdrant.shape import FULL, TERMS, VECTOR, Shape, vector_of, vectors
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
    terms = shape.terms.of_query(lookup.text) if shape.terms is not None and lookup.text else []
    where: Part = {"filter": readable(lookup)}
    by_terms = where | _rarity(lookup)
    sides = [] if lookup.vector is None else [_by_vector(shape, lookup, lookup.vector, where)]
    if terms:
        sides.append(by_terms | _matching(terms, lookup.limit))
    if len(sides) > 1:
        found = {"prefetch": [grpc.PrefetchQuery(**side) for side in sides], "limit": lookup.limit * len(sides)}
        sides = [side | found for side in sides]
    if sides:
        sides[0] |= {"with_payload": fields(HIT_FIELDS)}
        if lookup.with_vectors:
            sides[0] |= {"with_vectors": vectors([VECTOR])}
    alone = [by_terms | _matching([term], 1) for term in terms]
    return [grpc.QueryPoints(collection_name=collection, **part) for part in (*sides, *alone)]


def hits(lookup: Lookup, found: Sequence[Sequence[grpc.ScoredPoint]]) -> list[Hit]:
    """What the queries of a lookup found, each one's points in the order of the queries.

    More than one of them there are only where the lookup has words.
    """
    if not found:
        return []
    near = 0 if lookup.vector is None else 1
    sparse: dict[str, Side] = {}
    if len(found) > 1:
        most = reach([points[0].score if points else None for points in found[near + 1 :]])
        for rank, at in enumerate(found[near], 1):  # one written between two of the queries may seem to reach more
            sparse[at.id.uuid] = _side(min(1.0, at.score / most) if most else 0.0, rank, lookup)
    made = []
    for rank, point in enumerate(found[0], 1):
        dense = _side(point.score, rank, lookup) if near else None
        leading = dense or sparse[point.id.uuid]
        made.append(_hit(point, lookup)._replace(score=leading.score, dense=dense, sparse=sparse.get(point.id.uuid)))
    return made


def _hit(point: grpc.ScoredPoint, lookup: Lookup) -> Hit:
    found = hit(point)
    return found._replace(vector=np.array(vector_of(point, VECTOR), np.float32)) if lookup.with_vectors else found


def _side(score: float, rank: int, lookup: Lookup) -> Side:
    return Side(score, rank if rank <= lookup.limit else None)


def _by_vector(shape: Shape, lookup: Lookup, vector: Vector, where: Part) -> Part:
    named = {
        name: grpc.Query(nearest=grpc.VectorInput(dense=grpc.DenseVector(data=one.tolist())))
        for name, one in shape.named(vector).items()
    }
    by_short: Part = {"query": named[VECTOR], "using": VECTOR, "limit": lookup.limit} | where
    if not shape.full:
        return by_short
    first = grpc.PrefetchQuery(**by_short | {"limit": lookup.limit * OVERSAMPLED})
    return by_short | {"prefetch": [first], "query": named[FULL], "using": FULL}


def _matching(terms: Sequence[int], limit: int) -> Part:
    ones = grpc.SparseVector(indices=terms, values=[1.0] * len(terms))
    return {"query": grpc.Query(nearest=grpc.VectorInput(sparse=ones)), "using": TERMS, "limit": limit}


def _rarity(lookup: Lookup) -> Part:
    """How rare a term is, is counted in the tenant's own points: what others write neither shows nor matters."""
    if not lookup.tenant:
        return {}
    return {"params": grpc.SearchParams(idf=grpc.IdfParams(corpus=of_tenant(lookup.tenant)))}
