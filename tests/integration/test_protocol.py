"""The stages of the index worker under crashes, zombies and overlap, on the fake and on the real store.

Random schedules of owners that crash and are followed by others, zombies that go on writing, batches recalled while
the one before is still being written, workers that cut documents by different rules, and documents that the store
refuses. However it went, readers end with what the last event says, and never see two versions at once.
"""

import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.adapters.qdrant.collection import open_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.core.documents import ChunkKey, Point, Stored
from penstock.core.errors import Refused
from penstock.core.identity import ModelIdentity
from penstock.core.ports import VectorStore
from penstock.core.queries import Hit, owned
from penstock.core.records import Batch, Partition, Record
from penstock.events.rules import DocumentRules
from penstock.fakes import HashEmbedder, MemoryDeadLetters, MemoryStore, WordTokenizer, unchanging
from penstock.index.chunking import Chunker, ChunkRules
from penstock.index.in_flight import InFlight
from penstock.index.stages import Embed, IndexWork, Prepare, WriteOut, completer
from penstock.settings import QdrantSettings
from penstock.stream.retry import Retry
from tests.edge_store import EdgeQdrant

ANCHOR = ChunkKey("", "a", 0)
IDENTITY = ModelIdentity("model", "1", "mean", "", "", HashEmbedder().dimension)
CHUNKER = Chunker(WordTokenizer(), ChunkRules(2, 0, title=False, prompt="", most=10))
"""A word is a chunk."""

REFUSED = "refused"
"""The store takes no chunk of this text."""


class Killed(BaseException):
    """The process is gone, between two calls of the store."""


class Turns:
    """A thread that works only when it is told to, from one call of the store to the next."""

    def __init__(self, work: Callable[["Turns"], None]) -> None:
        self._mine, self._others = threading.Semaphore(0), threading.Semaphore(0)
        self._killed = self.over = False
        self.failure: BaseException | None = None
        self.taken = 0
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def step(self) -> bool:
        """Work until before the next call of the store, or to the end; whether that is reached."""
        self.taken += 1
        self._mine.release()
        self._others.acquire()
        if self.failure is not None:
            raise self.failure
        return self.over

    def kill(self) -> None:
        """At the call that it stands before."""
        self._killed = True
        self._mine.release()
        self._thread.join()

    def wait(self) -> None:
        """Called by the thread: before a call of the store."""
        self._others.release()
        self._mine.acquire()
        if self._killed:
            raise Killed

    def _run(self, work: Callable[["Turns"], None]) -> None:
        self._mine.acquire()
        try:
            if not self._killed:
                work(self)
        except Killed:
            return
        except BaseException as error:  # noqa: BLE001  # raised by step
            self.failure = error
        self.over = True
        self._others.release()


class Stepped:
    """The store as one thread sees it: it waits for its turn before every call. Some texts are refused."""

    def __init__(self, store: VectorStore, turns: Turns) -> None:
        self._store, self._turns = store, turns

    def __getattr__(self, method: str) -> Callable[[Any], Any]:
        def call(*given: Any) -> Any:
            self._turns.wait()
            return (half_way if method == "upsert" else getattr)(self._store, method)(*given)

        return call


def half_way(store: VectorStore, _method: str) -> Callable[[Sequence[Point]], None]:
    """An upsert that is refused at a text, when what stands before it is written."""

    def upsert(points: Sequence[Point]) -> None:
        texts = [point.chunk.text if point.chunk else "" for point in points]
        store.upsert(points[: texts.index(REFUSED)] if REFUSED in texts else points)
        if REFUSED in texts:
            raise Refused("this text")

    return upsert


def history(chance: random.Random, *, versions: bool, refusals: bool) -> list[Record]:
    """A document's events in a partition: a quarter deletes, up to three chunks of three possible texts."""
    records = []
    for offset in range(1, chance.randint(3, 6)):
        if chance.random() < 0.25:
            records.append(Record(Partition("t", 0), offset, b"a", None))
            continue
        words = [chance.choice("xyz") for _ in range(chance.randint(1, 3))]
        if refusals and chance.random() < 0.4:
            words[chance.randrange(len(words))] = REFUSED
        body = {"id": "a", "text": " ".join(words)} | ({"version": chance.randint(1, 3)} if versions else {})
        records.append(Record(Partition("t", 0), offset, b"a", json.dumps(body).encode()))
    return records


class Schedule:
    """One random run: owners take over where the last commit is, zombies go on, two batches overlap."""

    def __init__(self, seed: int, store: VectorStore, *, versions: bool, refusals: bool = False) -> None:
        self.chance = random.Random(seed)
        self.store = store
        self.records = history(self.chance, versions=versions, refusals=refusals)
        self.rules = DocumentRules(order="event" if versions else "offset")
        self.recipes = [1] if self.chance.random() < 0.7 else [1, 2]
        self.committed = 0
        self.pipe: list[tuple[int, Turns]] = []
        self.in_flight = InFlight()
        self.zombies: list[Turns] = []

    def run(self) -> None:
        for _ in range(4000):
            if self.committed == len(self.records) and not self.zombies:
                return
            if self.committed < len(self.records) and (not self.zombies or self.chance.random() < 0.7):
                self._own()
            elif self.zombies:
                self._haunt()
        raise AssertionError("the protocol does not come to an end")

    def close(self) -> None:
        for turns in [*self.zombies, *(turns for _, turns in self.pipe)]:
            turns.kill()

    def _own(self) -> None:
        if not self.pipe:
            self.in_flight = InFlight()
            self._start(self.committed)
        fate = self.chance.random()
        end, last = self.pipe[-1]
        if fate < 0.06:
            self._crash()
        elif fate < 0.14:
            self.zombies += [turns for _, turns in self.pipe]
            self.pipe.clear()
        elif len(self.pipe) == 1 and last.taken > 1 and end < len(self.records) and self.chance.random() < 0.3:
            self._start(end)  # prepared while the one before is written
            for _ in range(2):
                self.pipe[-1][1].step()
        elif self.pipe[0][1].step():
            self.committed = max(self.committed, self.pipe.pop(0)[0])

    def _crash(self) -> None:
        for _, turns in self.pipe:
            turns.kill()
        self.pipe.clear()

    def _start(self, position: int) -> None:
        count = self.chance.randint(1, len(self.records) - position) if self.chance.random() < 0.4 else 1
        work = IndexWork(Batch(tuple(self.records[position : position + count]), {}))
        recipe, in_flight = self.chance.choice(self.recipes), self.in_flight

        def stages(turns: Turns) -> None:
            store: Any = Stepped(self.store, turns)
            complete = completer(CHUNKER, HashEmbedder())
            retry = Retry(lambda _: 0.0, lambda *_: None)
            Prepare(self.rules, store, CHUNKER, recipe, in_flight)(work)
            Embed(HashEmbedder(), CHUNKER.known, in_flight)(work)
            WriteOut(unchanging(None), store, MemoryDeadLetters(), complete, retry, in_flight)(work)

        self.pipe.append((position + count, Turns(stages)))

    def _haunt(self) -> None:
        zombie = self.chance.choice(self.zombies)
        if self.chance.random() < 0.15:
            zombie.kill()
            self.zombies.remove(zombie)
        elif zombie.step():
            self.zombies.remove(zombie)


@contextmanager
def scheduled(seed: int, store: VectorStore, *, versions: bool, refusals: bool = False) -> Iterator[Schedule]:
    """A schedule that has run to its end."""
    schedule = Schedule(seed, store, versions=versions, refusals=refusals)
    try:
        schedule.run()
        yield schedule
    finally:
        schedule.close()


def words_of(record: Record) -> list[str]:
    return [] if record.value is None else json.loads(record.value)["text"].split()


def expected(records: Sequence[Record]) -> dict[int, str]:
    """What a reader who knows all events sees: the highest version, and the later one among equals."""
    held: tuple[int, int, list[str]] = (-1, -1, [])
    for record in records:
        named = None if record.value is None else json.loads(record.value).get("version", 0)
        version = max(held[0], 0) if named is None else named
        if (version, record.offset) > held[:2]:
            held = (version, record.offset, words_of(record))
    return dict(enumerate(held[2]))


def visible(store: MemoryStore) -> list[Point]:
    """As readers see them, by the rule that they use."""
    anchors = store.read([ANCHOR])
    hits = [Hit(key, 0.0, store.read([key])[key], "", "", {}) for key in sorted(store.points)]
    return [store.points[hit.key] for hit in owned(hits, anchors)]


def in_memory(store: MemoryStore) -> dict[int, str]:
    return {point.index: point.chunk.text for point in visible(store) if point.chunk is not None}


@pytest.mark.parametrize("versions", [False, True], ids=["by offset", "by version"])
@pytest.mark.parametrize("block", range(2))
def test_readers_end_with_the_last_event_on_the_fake(versions: bool, block: int) -> None:
    for seed in range(block * 2500, (block + 1) * 2500):
        store = MemoryStore()
        with scheduled(seed, store, versions=versions) as schedule:
            assert in_memory(store) == expected(schedule.records), f"seed {seed}"


@pytest.mark.parametrize("versions", [False, True], ids=["by offset", "by version"])
@pytest.mark.parametrize(("engine", "count"), [("local mode", 150), ("Qdrant's own", 25)])
def test_readers_end_with_the_last_event_on_qdrant(versions: bool, engine: str, count: int, tmp_path: Path) -> None:
    for seed in range(count):
        settings, folder = QdrantSettings(path=Path(":memory:")), tmp_path / str(seed)
        connection = Connection(settings, EdgeQdrant(folder) if engine == "Qdrant's own" else None)
        store = connection.store(open_collection(connection, "documents", IDENTITY))
        with scheduled(seed, store, versions=versions) as schedule:
            found = {hit.key.chunk: hit.text for hit in store.living()}
            assert found == expected(schedule.records), f"seed {seed}"
        connection.close()


@pytest.mark.parametrize("versions", [False, True], ids=["by offset", "by version"])
def test_a_document_that_is_given_up_half_way_is_no_mixture_and_nothing_that_follows_it_is(versions: bool) -> None:
    """What it had is partly overwritten; what is left is of one version, and what comes later is whole again."""
    given_up = 0
    for seed in range(1500):
        store = MemoryStore()
        with scheduled(seed, store, versions=versions, refusals=True) as schedule:
            seen = visible(store)
            assert len({point.event.record.offset for point in seen}) <= 1, f"seed {seed}"
            for point in seen:
                assert point.chunk is not None
                assert point.chunk.text == words_of(point.event.record)[point.index], f"seed {seed}"
            given_up += REFUSED in words_of(schedule.records[-1])
            if not versions and REFUSED not in words_of(schedule.records[-1]):
                assert in_memory(store) == expected(schedule.records), f"seed {seed}"
    assert given_up > 100


def test_without_verifying_kept_chunks_the_simulation_finds_wrong_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulation that cannot fail proves nothing."""
    monkeypatch.setattr("penstock.index.write._KeptChunk.holds", lambda _self, _stored: True)
    for seed in range(4000):
        store = MemoryStore()
        with scheduled(seed, store, versions=False) as schedule:
            if in_memory(store) != expected(schedule.records):
                return
    raise AssertionError("nothing was found")


def test_a_version_that_comes_late_is_whole_after_a_newer_one_was_given_up_half_way() -> None:
    """Chunks of the one that was given up would keep those of the other out, being newer."""
    store = MemoryStore()
    told = [(1, "x y z"), (3, f"y {REFUSED} x"), (3, f"y x {REFUSED}"), (2, "z z z")]
    for offset, (version, text) in enumerate(told):
        body = json.dumps({"id": "a", "text": text, "version": version})
        index(store, Record(Partition("t", 0), offset, b"a", body.encode()))
    assert in_memory(store) == {0: "z", 1: "z", 2: "z"}


def index(store: VectorStore, record: Record) -> None:
    """By all stages, at once."""

    def stages(turns: Turns) -> None:
        stepped: Any = Stepped(store, turns)
        work, in_flight = IndexWork(Batch((record,), {})), InFlight()
        Prepare(DocumentRules(order="event"), stepped, CHUNKER, 1, in_flight)(work)
        Embed(HashEmbedder(), CHUNKER.known, in_flight)(work)
        retry, complete = Retry(lambda _: 0.0, lambda *_: None), completer(CHUNKER, HashEmbedder())
        WriteOut(unchanging(None), stepped, MemoryDeadLetters(), complete, retry, in_flight)(work)

    turns = Turns(stages)
    while not turns.step():
        pass


def test_readers_drop_what_its_anchor_disowns() -> None:
    from penstock.core.documents import Order

    def hit(chunk: int, version: int) -> Hit:
        return Hit(ChunkKey("", "a", chunk), 1.0, Stored(Order(version, version), 1), "", "", {})

    anchors = {ANCHOR: Stored(Order(2, 2), 1)}
    assert [h.key.chunk for h in owned([hit(1, 1), hit(2, 2), hit(3, 3)], anchors)] == [2]
    assert owned([hit(1, 2)], {}) == []
    assert owned([hit(1, 2)], {ANCHOR: Stored(Order(2, 2), 1, deleted=True)}) == []
