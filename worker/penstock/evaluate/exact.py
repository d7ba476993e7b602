"""Exact search over all vectors of a collection, at any dimension: what a shorter vector costs, without an index."""

from collections.abc import Sequence

import numpy as np

from penstock.core.queries import Hit
from penstock.core.vectors import Vector, truncate

QUERIES_AT_ONCE = 256


def dimensions(widest: int) -> list[int]:
    """32, 64, 128 … and the widest."""
    return [*(2**n for n in range(5, 20) if 2**n < widest), widest]


def ranked(chunks: Sequence[Hit], rows: Vector, queries: Vector, dimension: int, most: int) -> list[list[Hit]]:
    """For each query the ``most`` nearest chunks by cosine of the first ``dimension`` numbers, nearest first.

    ``rows`` are ``[len(chunks), d]``, ``queries`` ``[n, d]``.
    """
    stored, asked = truncate(rows, dimension), truncate(queries, dimension)
    runs: list[list[Hit]] = []
    for start in range(0, len(asked), QUERIES_AT_ONCE):
        scores = asked[start : start + QUERIES_AT_ONCE] @ stored.T
        nearest = np.argsort(-scores, axis=1, kind="stable")[:, :most]
        runs += [
            [chunks[i]._replace(score=float(row[i])) for i in order] for row, order in zip(scores, nearest, strict=True)
        ]
    return runs


def documents(hits: Sequence[Hit]) -> list[str]:
    """Each document once, at the place of its best chunk."""
    return list(dict.fromkeys(hit.key.document for hit in hits))
