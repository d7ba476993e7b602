"""What the vectors of a collection look like. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from qdrant_client import grpc

from penstock.core.terms import Weighting
from penstock.core.vectors import Vector, truncate

VECTOR = "dense"
FULL = "full"
"""The vector of more dimensions, where there is one: candidates found by the short one are scored by it."""

TERMS = "terms"
"""The sparse vector of BM25 weights; the server multiplies them by the rarity of each term."""


class Shape(NamedTuple):
    """The dimensions of a collection's vectors: those that are searched, and those that score, 0 where none do.

    ``terms`` says how texts become sparse vectors, None where points have none.
    """

    dense: int
    full: int = 0
    terms: Weighting | None = None

    @property
    def widest(self) -> int:
        """What is to be computed; the shorter one is its beginning."""
        return max(self.dense, self.full)

    @property
    def widths(self) -> tuple[int, int]:
        """What a model must make vectors of."""
        return self.dense, self.full

    @property
    def names(self) -> list[str]:
        """Of the dense vectors that a point has."""
        return [VECTOR, FULL] if self.full else [VECTOR]

    def named(self, vector: Vector) -> dict[str, Vector]:
        """The vectors of a point, each of length 1."""
        vectors = {VECTOR: truncate(vector[None], self.dense)[0]}
        return vectors | {FULL: vector} if self.full else vectors


def vectors(names: Iterable[str]) -> grpc.WithVectorsSelector:
    """Only these of the named vectors."""
    return grpc.WithVectorsSelector(include=grpc.VectorsSelector(names=names))


def vector_of(point: grpc.ScoredPoint | grpc.RetrievedPoint, name: str) -> list[float]:
    """A named vector; empty where a tombstone has none."""
    named = point.vectors.vectors.vectors
    return list(named[name].dense.data) or list(named[name].data) if name in named else []
