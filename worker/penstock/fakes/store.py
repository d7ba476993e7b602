"""A store in memory: what the guards and filters mean, in a few lines."""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain

import numpy as np
from typing_extensions import override

from penstock.core.documents import ChunkKey, DocumentKey, Op, Point, Stored, titled
from penstock.core.filters import matches
from penstock.core.identity import CollectionState, Origin
from penstock.core.inventory import Held, Sought
from penstock.core.paths import reached
from penstock.core.ports import Inventory, Ledger, Searcher, VectorStore
from penstock.core.queries import FacetCounts, Hit, Lookup, Side
from penstock.core.records import Partition
from penstock.core.terms import Terms, Weighting, rarity, reach
from penstock.core.vectors import Vector


class MemoryStore(VectorStore, Searcher, Inventory):
    """``VectorStore``, ``Searcher`` and ``Inventory`` over a dictionary: what the guards mean, in a few lines.

    ``weighting`` says how texts become terms, None for a store without.
    """

    def __init__(
        self, weighting: Weighting | None = None, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._weighting = weighting
        self._now = now
        self._lock = threading.Lock()
        self.points: dict[ChunkKey, Point] = {}
        self.indexed_at: dict[ChunkKey, str] = {}

    @override
    def read(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
        with self._lock:
            return {key: stored_form(self.points[key]) for key in keys if key in self.points}

    @override
    def upsert(self, points: Sequence[Point]) -> None:
        with self._lock:
            for point in points:
                there = self.points.get(point.key)
                if there is None or stored_form(there).older(point.event.order, point.recipe):
                    self.points[point.key] = point
                    self.indexed_at[point.key] = self._now().isoformat()

    @override
    def patch(self, points: Sequence[Point]) -> None:
        with self._lock:
            for point in points:
                there = self.points.get(point.key)
                if there is None or there.chunk is None or point.chunk is None or there.chunk.hash != point.chunk.hash:
                    continue
                if stored_form(there).older(point.event.order, point.recipe):
                    same = (point.event, point.index, point.recipe, point.hashes, point.chunk)
                    self.points[point.key] = Point(*same, there.vector)
                    self.indexed_at[point.key] = self._now().isoformat()

    @override
    def retract(self, points: Sequence[Point]) -> None:
        with self._lock:
            for point in points:
                there = self.points.get(point.key)
                if there is not None and stored_form(there).same(point.event.order, point.recipe):
                    del self.points[point.key]

    @override
    def sweep(self, anchors: Mapping[DocumentKey, Stored]) -> None:
        with self._lock:
            for key, point in list(self.points.items()):
                anchor = anchors.get(point.event.key)
                if anchor is not None and stored_form(point).older(anchor.order, anchor.recipe):
                    del self.points[key]

    @override
    def probe(self) -> None:
        """It takes everything."""

    @property
    @override
    def has_terms(self) -> bool:
        return self._weighting is not None

    @override
    def search(self, lookups: Sequence[Lookup]) -> list[list[Hit]]:
        return [self._search(lookup) for lookup in lookups]

    @override
    def documents(self, tenant: str, now: datetime) -> int:
        nothing = Lookup(None, tenant, 0, now)
        with self._lock:
            return sum(_readable(point, nothing) for key, point in self.points.items() if key.chunk == 0)

    @override
    def facet(self, tenant: str, now: datetime, field: str, most: int) -> FacetCounts:
        nothing, found = Lookup(None, tenant, 0, now), Counter[str | int | bool]()
        with self._lock:
            anchors = [point for key, point in self.points.items() if key.chunk == 0 and _readable(point, nothing)]
        for point in anchors:
            values = reached({"metadata": point.event.metadata}, field)
            each = chain.from_iterable(value if isinstance(value, list) else [value] for value in values)
            found.update({value for value in each if isinstance(value, str | int)})
        return dict(sorted(found.items(), key=lambda one: (-one[1], str(one[0])))[:most])

    @override
    def scan(self, sought: Sought, part: int = 0, parts: int = 1) -> Iterator[Held]:
        if part:
            return
        with self._lock:
            found = [_held(point, self.indexed_at[key]) for key, point in self.points.items() if _is(sought, point)]
        yield from found

    @override
    def count(self, sought: Sought) -> int:
        return sum(1 for _ in self.scan(sought))

    @override
    def remove(self, found: Sequence[Held]) -> None:
        with self._lock:
            for held in found:
                there = self.points.get(held.key)
                if there is not None and stored_form(there).same(held.stored.order, held.stored.recipe):
                    del self.points[held.key]

    @override
    def bury(self, anchors: Sequence[Held]) -> None:
        with self._lock:
            for held in anchors:
                there = self.points.get(held.key)
                if there is not None and stored_form(there).same(held.stored.order, held.stored.recipe):
                    event = replace(there.event, op=Op.DELETE, text="", title="", metadata={}, expires_at=None)
                    self.points[held.key] = Point(event, 0, there.recipe)
                    self.indexed_at[held.key] = self._now().isoformat()

    def _search(self, lookup: Lookup) -> list[Hit]:
        with self._lock:
            seen = [point for point in self.points.values() if _readable(point, lookup) and point.vector is not None]
            corpus = [point for point in self.points.values() if point.key.tenant == lookup.tenant and point.chunk]
        near = {} if lookup.vector is None else _similarities(seen, lookup.vector)
        shares = {} if self._weighting is None else _shares(seen, corpus, self._weighting, lookup.text)
        dense, sparse = _sides(near, lookup.limit), _sides(shares, lookup.limit)
        chosen = {key for sides in (dense, sparse) for key, side in sides.items() if side.rank is not None}
        hits = [
            _hit(point, dense.get(point.key), sparse.get(point.key), with_vector=lookup.with_vectors)
            for point in seen
            if point.key in chosen
        ]
        return sorted(hits, key=lambda hit: -hit.score)


class MemoryLedger(Ledger):
    """Of one collection; ``now`` is what it says of itself."""

    def __init__(self, now: CollectionState | None) -> None:
        self.now = now
        self.sequences: dict[Partition, int] = {}

    @override
    def state(self) -> CollectionState | None:
        return self.now

    @override
    def follow(self, origin: Origin) -> None:
        if self.now is not None:
            self.now = replace(self.now, origin=origin)

    @override
    def read(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        return {partition: self.sequences[partition] for partition in partitions if partition in self.sequences}

    @override
    def advance(self, sequences: Mapping[Partition, int]) -> None:
        for partition, sequence in sequences.items():
            self.sequences[partition] = max(sequence, self.sequences.get(partition, 0))


def stored_form(point: Point) -> Stored:
    """What a store tells of a point."""
    chunk = point.chunk
    deleted = point.index == 0 and chunk is None
    return Stored(point.event.order, point.recipe, chunk.hash if chunk else "", point.hashes, deleted)


def _held(point: Point, indexed_at: str) -> Held:
    partition, offset = point.event.record.partition, point.event.record.offset
    source = f"{partition.topic}/{partition.number}/{offset}"
    return Held(point.key, stored_form(point), indexed_at, (point.chunk and point.event.expires_at) or "", source)


def _is(sought: Sought, point: Point) -> bool:
    if sought.tenant not in (None, point.key.tenant) or (sought.tombstones and point.chunk is not None):
        return False
    if (sought.documents and point.key.document not in sought.documents) or (point.index == 0 and not sought.anchors):
        return False
    return sought.expired is None or _expired(point, sought.expired)


def _expired(point: Point, now: datetime) -> bool:
    event = point.event
    return point.chunk is not None and event.expires_at is not None and datetime.fromisoformat(event.expires_at) <= now


def _readable(point: Point, lookup: Lookup) -> bool:
    event = point.event
    if point.key.tenant != lookup.tenant or point.chunk is None or _expired(point, lookup.now):
        return False
    fields = {
        "document": event.key.document,
        "language": event.language,
        "timestamp": event.timestamp,
        "metadata": event.metadata,
    }
    return lookup.filter is None or matches(lookup.filter, fields)


def _similarities(points: Sequence[Point], vector: Vector) -> dict[ChunkKey, float]:
    return {point.key: float(np.dot(vector, point.vector)) for point in points if point.vector is not None}


def _shares(points: Sequence[Point], corpus: Sequence[Point], weighting: Weighting, text: str) -> dict[ChunkKey, float]:
    """What each point with one of the text's terms has of the most that they reach."""
    weights = {point.key: dict(zip(*_terms(point, weighting), strict=True)) for point in points}
    everyone = [set(_terms(point, weighting).indices) for point in corpus]
    tops: list[float | None] = []
    scores: dict[ChunkKey, float] = {}
    for term in weighting.of_query(text):
        having = sum(term in terms for terms in everyone)
        alone = {key: held[term] * rarity(len(everyone), having) for key, held in weights.items() if term in held}
        tops.append(max(alone.values(), default=None))
        scores |= {key: scores.get(key, 0.0) + score for key, score in alone.items()}
    return {key: score / reach(tops) for key, score in scores.items()}


def _terms(point: Point, weighting: Weighting) -> Terms:
    return weighting.of_document(titled(point.event.title, point.chunk.text) if point.chunk else "")


def _sides(scores: Mapping[ChunkKey, float], limit: int) -> dict[ChunkKey, Side]:
    ranked = sorted(scores, key=lambda key: -scores[key])
    return {key: Side(scores[key], rank if rank <= limit else None) for rank, key in enumerate(ranked, 1)}


def _hit(point: Point, dense: Side | None, sparse: Side | None, *, with_vector: bool) -> Hit:
    text = point.chunk.text if point.chunk else ""
    leading = dense or sparse
    score = leading.score if leading else 0.0
    event = point.event
    said = (stored_form(point), text, event.title, event.metadata)
    place = (point.chunk.start, point.chunk.end) if point.chunk else (0, 0)
    vector = point.vector if with_vector else None
    path = point.chunk.path if point.chunk else ()
    return Hit(point.key, score, *said, dense, sparse, event.timestamp, vector, place=place, headings=path)
