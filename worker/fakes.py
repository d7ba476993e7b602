"""In-memory implementations of the ports, for tests and for trying things out. They keep the same contracts."""

import threading
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np

from worker.types import (
    Batch,
    ChunkKey,
    DocumentKey,
    Hit,
    Letter,
    Partition,
    Point,
    Position,
    Record,
    Stored,
    Vector,
)


class MemorySource:
    """A topic in memory, and its one consumer. ``revoke`` and ``assign`` play the group's coordinator."""

    def __init__(self, topic: str = "documents", partitions: int = 1, *, once: bool = True, most: int = 500) -> None:
        """All partitions are assigned at first; a poll returns at most ``most`` records."""
        self._records: dict[Partition, list[Record]] = {Partition(topic, n): [] for n in range(partitions)}
        self._once = once
        self._most = most
        self._assignments = 0
        self._generations: dict[Partition, int] = {}
        self._next: dict[Partition, int] = {}
        self.committed: dict[Partition, int] = {}
        self.polls: list[bool] = []
        self.closed = False
        self.assign(*self._records)

    def append(self, key: bytes | None, value: bytes | None, partition: int = 0) -> Record:
        """Produce a record."""
        place = list(self._records)[partition]
        record = Record(place, len(self._records[place]), key, value)
        self._records[place].append(record)
        return record

    def assign(self, *partitions: Partition) -> None:
        """Partitions come to this consumer, which goes on where they were committed."""
        for partition in partitions:
            self._assignments += 1
            self._generations[partition] = self._assignments
            self._next[partition] = self.committed.get(partition, 0)

    def revoke(self, *partitions: Partition) -> None:
        """Partitions go to another consumer."""
        for partition in partitions:
            del self._generations[partition]

    def poll(self, timeout_s: float, *, hold: bool = False) -> Batch | None:
        """As the port says; never waits."""
        self.polls.append(hold)
        if hold:
            return None
        records: list[Record] = []
        positions = {}
        for partition, generation in self._generations.items():
            start = self._next[partition]
            found = self._records[partition][start : start + self._most - len(records)]
            if found:
                records += found
                self._next[partition] = start + len(found)
                positions[partition] = Position(self._next[partition], generation)
        if not records:
            threading.Event().wait(min(timeout_s, 0.005))
            return None
        return Batch(tuple(records), positions)

    def commit(self, positions: Mapping[Partition, Position]) -> None:
        """As the port says."""
        for partition, position in positions.items():
            if self._generations.get(partition) == position.generation:
                self.committed[partition] = position.offset

    def remaining(self) -> int | None:
        """As the port says."""
        if not self._once:
            return None
        return sum(len(records) - self.committed.get(p, 0) for p, records in self._records.items())

    def close(self, timeout_s: float) -> None:  # noqa: ARG002  # the port's signature
        """As the port says."""
        self.closed = True


class MemoryDeadLetters:
    """Keeps the letters."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []

    def put(self, letters: Sequence[Letter]) -> None:
        """As the port says."""
        self.letters += letters

    def close(self, timeout_s: float) -> None:
        """As the port says."""


class MemoryStore:
    """``VectorStore`` and ``Searcher`` over a dictionary: what the guards mean, in a few lines."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.points: dict[ChunkKey, Point] = {}

    def read(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
        """As the port says."""
        with self._lock:
            return {key: stored_form(self.points[key]) for key in keys if key in self.points}

    def upsert(self, points: Sequence[Point]) -> None:
        """As the port says."""
        with self._lock:
            for point in points:
                there = self.points.get(point.key)
                if there is None or stored_form(there).older(point.event.order, point.recipe):
                    self.points[point.key] = point

    def patch(self, points: Sequence[Point]) -> None:
        """As the port says."""
        with self._lock:
            for point in points:
                there = self.points.get(point.key)
                if there is None or there.chunk is None or point.chunk is None or there.chunk.hash != point.chunk.hash:
                    continue
                if stored_form(there).older(point.event.order, point.recipe):
                    same = (point.event, point.index, point.recipe, point.hashes, point.chunk)
                    self.points[point.key] = Point(*same, there.vector)

    def sweep(self, anchors: Mapping[DocumentKey, Stored]) -> None:
        """As the port says."""
        with self._lock:
            for key, point in list(self.points.items()):
                anchor = anchors.get(point.event.key)
                if anchor is not None and stored_form(point).older(anchor.order, anchor.recipe):
                    del self.points[key]

    def search(self, vector: Vector, tenant: str, limit: int) -> list[Hit]:
        """As the port says."""
        with self._lock:
            alive = [p for p in self.points.values() if p.key.tenant == tenant and p.vector is not None]
        hits = [_hit(point, float(np.dot(vector, point.vector))) for point in alive if point.vector is not None]
        return sorted(hits, key=lambda hit: -hit.score)[:limit]


def stored_form(point: Point) -> Stored:
    """What a store tells of a point."""
    chunk = point.chunk
    deleted = point.index == 0 and chunk is None
    return Stored(point.event.order, point.recipe, chunk.hash if chunk else "", point.hashes, deleted)


def _hit(point: Point, score: float) -> Hit:
    text = point.chunk.text if point.chunk else ""
    return Hit(point.key, score, stored_form(point), text, point.event.title, point.event.metadata)


class WordTokenizer:
    """A token per word, and one that closes the text."""

    special_tokens = 1

    def encode(self, texts: Sequence[str], limit: int | None = None) -> list[tuple[int, ...]]:
        """As the port says."""
        room = None if limit is None else limit - 1
        return [(*[_digest(word) for word in text.split()[:room]], 0) for text in texts]

    def split(self, texts: Sequence[str], capacity: int, overlap: int) -> list[list[tuple[int, str]]]:
        """As the port says."""
        return [_word_windows(text, capacity, overlap) for text in texts]


def _word_windows(text: str, capacity: int, overlap: int) -> list[tuple[int, str]]:
    words = text.split()
    places = []
    at = 0
    for word in words:
        at = text.index(word, at)
        places.append((at, at + len(word)))
        at += len(word)
    step = max(1, capacity - overlap)
    windows = []
    for first in range(0, len(places), step):
        last = min(first + capacity, len(places)) - 1
        start, end = places[first][0], places[last][1]
        windows.append((start, text[start:end]))
        if last + 1 == len(places):
            break
    return windows


class HashEmbedder:
    """Vectors from hashes of the tokens: equal texts are near, others far, and nothing is learnt."""

    def __init__(self, dimension: int = 8) -> None:
        self.dimension = dimension

    def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
        """As the port says."""
        seeds = [int.from_bytes(blake2b(repr(tuple(text)).encode(), digest_size=8).digest()) for text in texts]
        rows = np.stack([np.random.default_rng(seed).standard_normal(self.dimension) for seed in seeds])
        unit: Vector = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return unit


def _digest(word: str) -> int:
    return 1 + int.from_bytes(blake2b(word.encode(), digest_size=4).digest())
