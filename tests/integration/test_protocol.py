"""The write protocol under crashes, zombies and overlap: the real planner, on the fake and on the real store.

Random schedules of owners that crash and are followed by others, zombies that go on writing, batches recalled while
the one before is still being written, and workers that cut documents by different rules. However it went, readers
end with what the last event says.
"""

import random
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import numpy as np
import pytest

from penstock.adapters.qdrant.collection import open_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.core.documents import Chunk, ChunkKey, DocumentKey, Event, Op, Order, Stored
from penstock.core.identity import ModelIdentity
from penstock.core.ports import VectorStore
from penstock.core.queries import owned
from penstock.core.records import Outcome, Partition, Record
from penstock.fakes import MemoryStore
from penstock.index.plan import Step, Write, collapse, decide, kept, text_hash
from penstock.index.write import steps
from penstock.settings import QdrantSettings

DOCUMENT = DocumentKey("", "a")
ANCHOR = ChunkKey("", "a", 0)
Protocol = Generator[None, None, dict[DocumentKey, Outcome]]
IDENTITY = ModelIdentity("model", "1", "mean", "", "", 2)
VECTORS = {
    text: np.array(vector, dtype=np.float32) for text, vector in zip("abc", ((1, 0), (0, 1), (1, 1)), strict=True)
}


def complete(writes: Sequence[Write]) -> list[Write]:
    return [
        Write(w.event, w.recipe, w.chunks, frozenset(), {i: VECTORS[c.text] for i, c in enumerate(w.chunks)})
        for w in writes
    ]


def chunks_of(event: Event) -> tuple[Chunk, ...]:
    return tuple(Chunk(text, i, i + 1, text_hash(text)) for i, text in enumerate(event.text))


def process(store: VectorStore, events: Sequence[Event], recipe: int, busy: Callable[[], list[Order]]) -> Protocol:
    """What a worker does with a batch of one document, pausing after every call of the store."""
    in_flight = busy()
    anchor = store.read([ANCHOR]).get(ANCHOR)
    yield
    known = [*in_flight, *([anchor.order] if anchor else [])]
    (event,), _ = collapse(events, {DOCUMENT: max(known)} if known else {})
    if anchor and decide(event, anchor, recipe) in (Step.STALE, Step.REPEATED):
        return (yield from steps(store, [], complete, {DOCUMENT: anchor}))
    chunks = chunks_of(event) if event.op is Op.UPSERT else ()
    keep = kept(chunks, None if in_flight else anchor, recipe)
    vectors = {i: VECTORS[c.text] for i, c in enumerate(chunks) if i not in keep}
    return (yield from steps(store, [Write(event, recipe, chunks, keep, vectors)], complete, {}))


def history(chance: random.Random, *, versions: bool) -> list[Event]:
    """A document's events in a partition: a quarter deletes, up to three chunks of three possible texts."""
    events = []
    for sequence in range(1, chance.randint(3, 6)):
        delete = chance.random() < 0.25
        version = chance.randint(1, 3) if versions else sequence
        text = "" if delete else "".join(chance.choice("abc") for _ in range(chance.randint(1, 3)))
        record = Record(Partition("t", 0), sequence, b"a", b"")
        order = Order(0 if versions and delete else version, sequence)
        op = Op.DELETE if delete else Op.UPSERT
        events.append(Event(record, DOCUMENT, order, op, text=text, unversioned=versions and delete))
    return events


class Schedule:
    """One random run: owners take over where the last commit is, zombies go on, two batches overlap."""

    def __init__(self, seed: int, store: VectorStore, *, versions: bool) -> None:
        self.chance = random.Random(seed)
        self.store = store
        self.events = history(self.chance, versions=versions)
        self.recipes = [1] if self.chance.random() < 0.7 else [1, 2]
        self.committed = 0
        self.pipe: list[tuple[int, Protocol, Order]] = []
        self.zombies: list[Protocol] = []

    def run(self) -> None:
        for _ in range(4000):
            if self.committed == len(self.events) and not self.zombies:
                return
            if self.committed < len(self.events) and (not self.zombies or self.chance.random() < 0.7):
                self._own()
            elif self.zombies:
                self._haunt()
        raise AssertionError("the protocol does not come to an end")

    def _own(self) -> None:
        if not self.pipe:
            self._start(self.committed)
        fate = self.chance.random()
        end = self.pipe[-1][0]
        if fate < 0.06:
            self.pipe.clear()
        elif fate < 0.14:
            self.zombies += [protocol for _, protocol, _ in self.pipe]
            self.pipe.clear()
        elif len(self.pipe) == 1 and end < len(self.events) and self.chance.random() < 0.3:
            self._start(end)
            next(self.pipe[-1][1])
        elif self._ended(self.pipe[0][1]):
            self.committed = max(self.committed, self.pipe.pop(0)[0])

    def _start(self, position: int) -> None:
        count = self.chance.randint(1, len(self.events) - position) if self.chance.random() < 0.4 else 1
        batch = self.events[position : position + count]
        orders = [order for _, _, order in self.pipe]
        protocol = process(self.store, batch, self.chance.choice(self.recipes), lambda: orders)
        self.pipe.append((position + count, protocol, max(event.order for event in batch)))

    def _haunt(self) -> None:
        zombie = self.chance.choice(self.zombies)
        if self.chance.random() < 0.15 or self._ended(zombie):
            self.zombies.remove(zombie)

    @staticmethod
    def _ended(protocol: Protocol) -> bool:
        try:
            next(protocol)
        except StopIteration:
            return True
        return False


def expected(events: Sequence[Event]) -> dict[int, str]:
    held: tuple[int, int, str] = (-1, -1, "")
    for event in events:
        version = max(held[0], 0) if event.unversioned else event.order.version
        if (version, event.order.sequence) > held[:2]:
            held = (version, event.order.sequence, event.text)
    return dict(enumerate(held[2]))


def in_memory(store: MemoryStore) -> dict[int, str]:
    points = store.points.values()
    anchor = store.read([ANCHOR]).get(ANCHOR)
    if anchor is None or anchor.deleted:
        return {}
    stored = {p.index: (p, store.read([p.key])[p.key]) for p in points}
    return {i: p.chunk.text for i, (p, s) in stored.items() if p.chunk and not s.older(anchor.order, anchor.recipe)}


@pytest.mark.parametrize("versions", [False, True], ids=["by offset", "by version"])
@pytest.mark.parametrize("block", range(4))
def test_readers_end_with_the_last_event_on_the_fake(versions: bool, block: int) -> None:
    for seed in range(block * 2500, (block + 1) * 2500):
        store = MemoryStore()
        schedule = Schedule(seed, store, versions=versions)
        schedule.run()
        assert in_memory(store) == expected(schedule.events), f"seed {seed}"


@pytest.mark.parametrize("versions", [False, True], ids=["by offset", "by version"])
def test_readers_end_with_the_last_event_on_qdrant(versions: bool) -> None:
    for seed in range(300):
        connection = Connection(QdrantSettings(path=Path(":memory:")))
        store = connection.store(open_collection(connection, "documents", IDENTITY))
        schedule = Schedule(seed, store, versions=versions)
        schedule.run()
        found = {hit.key.chunk: hit.text for hit in store.living()}
        assert found == expected(schedule.events), f"seed {seed}"
        connection.close()


def test_without_verifying_kept_chunks_the_simulation_finds_wrong_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulation that cannot fail proves nothing."""
    monkeypatch.setattr("penstock.index.write._KeptChunk.holds", lambda _self, _stored: True)
    wrong = 0
    for seed in range(4000):
        store = MemoryStore()
        schedule = Schedule(seed, store, versions=False)
        schedule.run()
        wrong += in_memory(store) != expected(schedule.events)
    assert wrong > 0


def test_readers_drop_what_its_anchor_disowns() -> None:
    from penstock.core.queries import Hit

    def hit(chunk: int, version: int) -> Hit:
        return Hit(ChunkKey("", "a", chunk), 1.0, Stored(Order(version, version), 1), "", "", {})

    anchors = {ANCHOR: Stored(Order(2, 2), 1)}
    assert [h.key.chunk for h in owned([hit(1, 1), hit(2, 2), hit(3, 3)], anchors)] == [2, 3]
    assert owned([hit(1, 2)], {}) == []
    assert owned([hit(1, 2)], {ANCHOR: Stored(Order(2, 2), 1, deleted=True)}) == []
