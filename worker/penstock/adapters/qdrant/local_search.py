"""What a server's indexes do, for the client's local mode, which looks at every point: documents, terms, and queries.

Local mode tries a filter on every point before it looks for near ones, and compares sparse vectors with all of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, grpc, models
from qdrant_client.conversions.conversion import GrpcToRest
from qdrant_client.local.payload_filters import check_filter

from penstock.adapters.qdrant.shape import TERMS
from penstock.adapters.qdrant.slices import slices
from penstock.core.terms import rarity

Id = models.ExtendedPointId

ALL = 1 << 30
"""Points of a page, where all are wanted."""

SPARE = 10
"""Points looked at beyond those wanted, in the hope that no more are filtered out."""

PAGE = 256
"""Points whose payload is read at once."""


class LocalIndex:
    """Of one collection: the points of each document, and those that have a term, with its weight."""

    def __init__(self, client: QdrantClient, collection: str) -> None:
        """Looks through the whole collection, once."""
        self._client, self._collection = client, collection
        self._documents: dict[str, set[Id]] = {}
        self._postings: dict[int, dict[Id, float]] = {}
        self._terms: dict[Id, Sequence[int]] = {}
        self._has_terms = TERMS in (client.get_collection(collection).config.params.sparse_vectors or {})
        there = client.scroll(collection, limit=ALL, with_payload=["document"])[0]
        self._changed: set[Id] = set()
        self._corpora: dict[bytes, set[Id]] = {}
        self.note(there)

    def note(self, points: Iterable[models.PointStruct | models.Record]) -> None:
        """These were written, or may have been."""
        for point in points:
            self._documents.setdefault(str((point.payload or {}).get("document", "")), set()).add(point.id)
            self._changed.add(point.id)

    def forget(self, ids: Iterable[Id]) -> None:
        """These were deleted."""
        self._changed.update(ids)

    def of(self, documents: Iterable[str]) -> list[Id]:
        """Every point that one of these ever had."""
        return [point_id for name in dict.fromkeys(documents) for point_id in self._documents.get(name, ())]

    def best(self, part: Any) -> list[tuple[Id, float]]:
        """What a query or a prefetch finds, best first."""
        where = GrpcToRest.convert_filter(part.filter) if part.HasField("filter") else None
        among = {point_id for each in part.prefetch for point_id, _ in self.best(each)} if part.prefetch else None
        nearest = part.query.nearest
        if nearest.HasField("sparse"):
            scores = self._by_terms(nearest.sparse, part.params.idf)
            chosen = scores if among is None else {at: scores[at] for at in among & scores.keys()}
            return self._passing(sorted(chosen.items(), key=lambda pair: -pair[1]), where, part.limit)
        if among is not None:
            return self._passing(self._near_among(list(among), part), where, part.limit)
        return [(point.id, point.score) for point in self.nearest(part, where, with_payload=False)]

    def nearest(self, part: Any, where: models.Filter | None, **include: Any) -> list[models.ScoredPoint]:
        """By a dense vector: the nearest are found first and the filter tried on these; where too few pass, on all."""
        asked = {"query": GrpcToRest.convert_query(part.query), "using": part.using}
        wide = include | {"with_payload": True}
        near = self._client.query_points(self._collection, limit=part.limit + SPARE, **asked, **wide).points
        passed = [at for at in near if where is None or check_filter(where, at.payload or {}, at.id, {})]
        if len(passed) >= part.limit:
            return passed[: part.limit]
        return self._client.query_points(
            self._collection, limit=part.limit, query_filter=where, **asked, **include
        ).points

    def _by_terms(self, query: grpc.SparseVector, idf: grpc.IdfParams) -> dict[Id, float]:
        """The dot product with each point that has one of the terms, each times its rarity, as the server has it."""
        self._refresh()
        corpus = self._matching(idf.corpus) if idf.HasField("corpus") else self._terms.keys()
        scores: dict[Id, float] = {}
        for term, weight in zip(query.indices, query.values, strict=True):
            held = self._postings.get(term, {})
            rare = weight * rarity(len(corpus), len(held.keys() & corpus))
            for point_id, stored in held.items():
                scores[point_id] = scores.get(point_id, 0.0) + stored * rare
        return scores

    def _matching(self, where: grpc.Filter) -> set[Id]:
        """Remembered until something is written: every query of a request asks for the same."""
        key = where.SerializeToString()
        if key not in self._corpora:
            wanted = GrpcToRest.convert_filter(where)
            found, _ = self._client.scroll(self._collection, wanted, limit=ALL, with_payload=False)
            self._corpora[key] = {point.id for point in found} & self._terms.keys()
        return self._corpora[key]

    def _near_among(self, ids: Sequence[Id], part: Any) -> list[tuple[Id, float]]:
        query = np.array(part.query.nearest.dense.data)
        near = []
        for point in self._client.retrieve(self._collection, ids, with_payload=False, with_vectors=[part.using]):
            vector = np.array(_named(point).get(part.using, np.zeros(len(query))))
            length = float(np.linalg.norm(vector) * np.linalg.norm(query)) or 1.0
            near.append((point.id, float(vector @ query) / length))
        return sorted(near, key=lambda pair: -pair[1])

    def _passing(
        self, ranked: Sequence[tuple[Id, float]], where: models.Filter | None, limit: int
    ) -> list[tuple[Id, float]]:
        """The first ``limit`` that a filter accepts."""
        passed: list[tuple[Id, float]] = []
        for page in slices(ranked, max(PAGE, limit)):
            if len(passed) < limit:
                accepted = {point.id for point in self._payloads([at for at, _ in page], where)}
                passed += [pair for pair in page if pair[0] in accepted]
        return passed[:limit]

    def _payloads(self, ids: list[Id], where: models.Filter | None) -> Iterator[models.Record]:
        for point in self._client.retrieve(self._collection, ids, with_payload=where is not None):
            if where is None or check_filter(where, point.payload or {}, point.id, {}):
                yield point

    def _refresh(self) -> None:
        """A guard may have kept a point as it was, so what was written is read again."""
        changed, self._changed = list(self._changed), set()
        if not self._has_terms or not changed:
            return
        self._corpora.clear()
        for point_id in changed:
            for term in self._terms.pop(point_id, ()):
                del self._postings[term][point_id]
        for point in self._client.retrieve(self._collection, changed, with_payload=False, with_vectors=[TERMS]):
            sparse = _named(point).get(TERMS)
            if sparse is not None and sparse.indices:
                self._terms[point.id] = sparse.indices
                for term, weight in zip(sparse.indices, sparse.values, strict=True):
                    self._postings.setdefault(term, {})[point.id] = weight


def _named(point: models.Record) -> dict[str, Any]:
    """The vectors of a point by name."""
    return point.vector if isinstance(point.vector, dict) else {}
