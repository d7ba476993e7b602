"""The loop over the shipped fakes: nothing is lost, whatever fails on the way."""

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.assembly import stream as assembly
from penstock.assembly.index import IndexWorker
from penstock.assembly.membership import Stream
from penstock.core.documents import ChunkKey, DocumentKey, Order, Point, Stored
from penstock.core.errors import InvalidEvent, NotFinite, Refused, Unavailable
from penstock.core.identity import Origin
from penstock.core.records import Batch, Outcome, Partition, Position, Record
from penstock.core.vectors import Vector
from penstock.events.rules import DocumentRules
from penstock.fakes import HashEmbedder, MemoryDeadLetters, MemorySource, MemoryStore, WordTokenizer, unchanging
from penstock.index.chunking import Chunker, ChunkRules
from penstock.index.in_flight import InFlight
from penstock.index.stages import IndexWork, Prepare, completer
from penstock.observe.live import Reporter
from penstock.settings import IndexSettings
from penstock.stream.pipeline import StageFailed
from penstock.stream.worker import first_of

CHUNKS = Chunker(WordTokenizer(), ChunkRules(16, 4, title=True, prompt="", most=6))
SMALL = IndexSettings(batch_bytes=200, drain_timeout_s=5.0)


def body(name: str, text: str) -> bytes:
    return json.dumps({"id": name, "text": text}).encode()


class Flaky:
    """A store that is away in some calls, before or after its work, and refuses some documents."""

    def __init__(self, store: MemoryStore, plan: Sequence[str]) -> None:
        self.store = store
        self.plan = list(plan)
        self.full = False

    def _call(self, work: object) -> None:
        fate = self.plan.pop(0) if self.plan else "well"
        if fate == "before":
            raise Unavailable("before")
        work()  # type: ignore[operator]
        if fate == "after":
            raise Unavailable("after")

    def read(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
        self._call(lambda: None)
        return self.store.read(keys)

    def upsert(self, points: Sequence[Point]) -> None:
        if any("poison" in point.event.text for point in points):
            raise Refused("the request is wrong")
        self._call(lambda: self.store.upsert(points))

    def patch(self, points: Sequence[Point]) -> None:
        self._call(lambda: self.store.patch(points))

    def sweep(self, anchors: Mapping[DocumentKey, Stored]) -> None:
        self._call(lambda: self.store.sweep(anchors))

    def retract(self, points: Sequence[Point]) -> None:
        self._call(lambda: self.store.retract(points))

    def probe(self) -> None:
        if self.full:
            raise Refused("nothing is taken")
        self._call(self.store.probe)


def run(source: MemorySource, store: object, letters: MemoryDeadLetters | None = None) -> Reporter:
    stream = Stream(source, letters or MemoryDeadLetters(), DocumentRules())
    return IndexWorker(SMALL, stream, unchanging, store, CHUNKS, 1, HashEmbedder()).run(threading.Event())  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "backoff", lambda _failures, _spread: 0.001)


def texts(store: MemoryStore) -> dict[str, str]:
    """Text per document, as readers see it; chunks joined where they do not overlap."""
    anchors = {key.document: store.read([key])[key] for key in store.points if key.chunk == 0}
    found: dict[str, str] = {}
    for key in sorted(store.points):
        point, anchor = store.points[key], anchors[key.document]
        assert not store.read([key])[key].older(anchor.order, anchor.recipe), "a left-over was not swept"
        if point.chunk is not None:
            known = found.get(key.document, "")
            found[key.document] = known + point.chunk.text[max(0, len(known) - point.chunk.start) :]
            gap = point.chunk.start - len(known)
            if known and gap > 0:
                found[key.document] = known + point.event.text[len(known) : point.chunk.start] + point.chunk.text
    return found


EVENT = st.tuples(
    st.sampled_from("abcd"),
    st.one_of(
        st.none(),
        st.just("not json"),
        st.integers(1, 40).map(lambda n: " ".join(f"w{i}" for i in range(n))),
        st.just(" ".join(["word"] * 200)),
        st.just("poison"),
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENT, max_size=25), st.lists(st.sampled_from(["well", "before", "after"]), max_size=30))
def test_the_store_ends_as_a_replay_of_the_topic_and_every_record_is_counted(
    events: list[tuple[str, str | None]], plan: list[str]
) -> None:
    """Tombstones, records that are no JSON, documents of too many chunks, and a store that comes and goes."""
    source, store, letters = MemorySource(most=7), MemoryStore(), MemoryDeadLetters()
    expected: dict[str, str] = {}
    invalid = []
    for n, (drawn, text) in enumerate(events):
        name = f"poisoned {n}" if text == "poison" else drawn  # what it would have superseded is not brought back
        value = None if text is None else text.encode() if text == "not json" else body(name, text)
        record = source.append(name.encode(), value)
        if text is None:
            expected.pop(name, None)
        elif text in ("not json", "poison") or len(text.split()) > 90:
            invalid.append(record)
        else:
            expected[name] = text
    report = run(source, Flaky(store, plan), letters)
    assert texts(store) == expected
    assert sorted(letter.record.offset for letter in letters.letters) == [record.offset for record in invalid]
    assert report.totals.total() == len(events)
    assert report.totals[Outcome.DEAD_LETTERED] == len(invalid)
    assert source.committed.get(Partition("documents", 0), 0) == len(events)
    assert source.closed


@pytest.mark.parametrize("most", [1, 50])
def test_a_delete_of_a_document_that_nobody_knows_is_counted_apart_and_its_tombstone_written(most: int) -> None:
    """Known is what the store holds, a tombstone among it, and what came just before, in the pipe or the same batch."""
    source, store = MemorySource(most=most), MemoryStore()
    source.append(b"known", body("known", "word"))
    for key in (b"known", b"known", b"unknown", b"unknown"):
        source.append(key, None)
    together = {Outcome.SUPERSEDED: 3, Outcome.DELETED: 1, Outcome.DELETED_UNKNOWN: 1}
    one_by_one = {Outcome.INDEXED: 1, Outcome.DELETED: 3, Outcome.DELETED_UNKNOWN: 1}
    assert +run(source, store).totals == (one_by_one if most == 1 else together)
    source.append(b"other", None)
    assert +run(source, store).totals == {Outcome.DELETED_UNKNOWN: 1}
    for name in ("known", "unknown", "other"):
        assert store.read([ChunkKey("", name, 0)])[ChunkKey("", name, 0)].deleted


def test_what_the_store_refuses_becomes_a_dead_letter_and_its_neighbours_are_indexed() -> None:
    source, store, letters = MemorySource(), MemoryStore(), MemoryDeadLetters()
    for n in range(20):
        source.append(str(n).encode(), body(str(n), "poison" if n in (3, 17) else f"text {n}"))
    stream = Stream(source, letters, DocumentRules())
    index = IndexSettings()
    report = IndexWorker(index, stream, unchanging, Flaky(store, []), CHUNKS, 1, HashEmbedder()).run(threading.Event())
    assert {letter.record.offset for letter in letters.letters} == {3, 17}
    assert {letter.stage for letter in letters.letters} == {"write"}
    assert len(texts(store)) == 18
    assert report.totals == Counter({Outcome.INDEXED: 18, Outcome.DEAD_LETTERED: 2})


@pytest.mark.parametrize("most", [1, 500])
def test_a_store_that_takes_nothing_ends_the_worker_however_small_the_polls_are(most: int) -> None:
    source, letters = MemorySource(most=most), MemoryDeadLetters()
    for n in range(12):
        source.append(str(n).encode(), body(str(n), "poison"))
    store: Any = Flaky(MemoryStore(), [])
    store.full = True
    stream = Stream(source, letters, DocumentRules())
    with pytest.raises(StageFailed, match="the store takes no document at all: nothing is taken"):
        IndexWorker(IndexSettings(), stream, unchanging, store, CHUNKS, 1, HashEmbedder()).run(threading.Event())
    assert letters.letters == []
    assert source.committed == {}


@pytest.mark.parametrize(
    ("limits", "events", "ends"),
    [
        ({"stop_after_invalid": 20}, [b"no json"] * 30, True),
        ({"stop_after_invalid": 20}, ([b"no json"] * 19 + [body("a", "words")]) * 5, False),
        ({"stop_after_invalid": 0}, [b"no json"] * 3000, False),
        ({"stop_after_invalid": 0, "stop_at_invalid_share": 0.5}, [b"no json", body("a", "words")] * 600, True),
        ({"stop_after_invalid": 0, "stop_at_invalid_share": 0.6}, [b"no json", body("a", "words")] * 600, False),
        ({}, [b"no json"] * 999 + [body("a", "words")], False),
        ({}, [b"no json"] * 1000, True),
    ],
)
def test_a_flood_of_records_that_cannot_be_decoded_ends_the_worker_before_they_are_all_letters(
    limits: dict[str, float], events: list[bytes], *, ends: bool
) -> None:
    source, letters = MemorySource(most=7), MemoryDeadLetters()
    for value in events:
        source.append(b"a", value)
    of_topic = Stream(source, letters, DocumentRules(), Origin("documents", "id", 1, 1))
    index = IndexSettings.model_validate(limits)
    worker = IndexWorker(index, of_topic, unchanging, MemoryStore(), CHUNKS, 1, HashEmbedder())
    if ends:
        with pytest.raises(StageFailed, match="could not be decoded, the last one: the value is no JSON object"):
            worker.run(threading.Event())
        assert source.committed.get(Partition("documents", 0), 0) < len(events)
        assert len(letters.letters) < len(events)
    else:
        worker.run(threading.Event())
        assert len(letters.letters) == events.count(b"no json")


class Overflowing(HashEmbedder):
    """Half precision, which some texts overflow: the word "huge", or all there are."""

    def __init__(self, *, whole: bool = False) -> None:
        super().__init__()
        self.huge = set(WordTokenizer().encode(["huge"])[0]) - set(WordTokenizer().encode([""])[0])
        self.whole = whole

    def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
        values = super().embed(texts)
        rows = [row for row, text in enumerate(texts) if self.whole or self.huge & set(text)]
        values[rows, 0] = np.nan
        if rows:
            raise NotFinite(rows, values)
        return values


@pytest.mark.parametrize("most", [1, 500])
def test_a_text_of_which_the_model_makes_no_number_is_a_letter_and_its_neighbours_are_indexed(most: int) -> None:
    """On a server a point of NaN would rank first."""
    source, store, letters = MemorySource(most=most), MemoryStore(), MemoryDeadLetters()
    long = " ".join(f"w{n}" for n in range(40))
    for name, text in (("a", "huge"), ("b", "small"), ("c", f"{long} huge"), ("d", long), ("a", "small again")):
        source.append(name.encode(), body(name, text))
    source.append(b"e", body("e", "huge"))
    stream = Stream(source, letters, DocumentRules())
    report = IndexWorker(SMALL, stream, unchanging, store, CHUNKS, 1, Overflowing()).run(threading.Event())
    assert report.totals[Outcome.DEAD_LETTERED] == len(letters.letters) >= 2
    assert {letter.stage for letter in letters.letters} == {"embed"}
    assert "made no finite vector of chunk" in str(letters.letters[0].error)
    assert set(texts(store)) == {"a", "b", "d"}
    assert all(np.isfinite(point.vector).all() for point in store.points.values() if point.vector is not None)


def test_a_model_that_makes_no_number_of_anything_ends_the_worker() -> None:
    source, letters = MemorySource(), MemoryDeadLetters()
    source.append(b"a", body("a", "words"))
    stream = Stream(source, letters, DocumentRules())
    worker = IndexWorker(SMALL, stream, unchanging, MemoryStore(), CHUNKS, 1, Overflowing(whole=True))
    with pytest.raises(StageFailed, match="it makes none of any other text, either"):
        worker.run(threading.Event())
    assert letters.letters == []
    assert source.committed == {}


def test_a_file_is_read_to_its_end_however_many_of_its_lines_are_bad() -> None:
    source, letters = MemorySource(), MemoryDeadLetters()
    for _ in range(1500):
        source.append(b"a", b"no json")
    run(source, MemoryStore(), letters)
    assert len(letters.letters) == 1500


def test_unchanged_text_is_not_embedded_again_and_its_order_advances() -> None:
    source, store = MemorySource(), MemoryStore()
    long = " ".join(f"w{n}" for n in range(40))
    for text in ("short", long):
        source.append(text[:1].encode(), body(text[:1], text))
    run(source, store)
    for text in ("short", long):
        source.append(text[:1].encode(), json.dumps({"id": text[:1], "text": text, "metadata": {"n": 2}}).encode())
    report = run(source, store)
    assert report.totals == Counter({Outcome.UNCHANGED: 2})
    assert report.tokens == 0
    assert {point.event.order.sequence - (1 << 48) for point in store.points.values()} == {2, 3}
    assert {point.event.metadata["n"] for point in store.points.values()} == {2}


def test_only_changed_chunks_are_embedded_and_surplus_ones_are_removed() -> None:
    source, store = MemorySource(), MemoryStore()
    words = [f"w{n}" for n in range(40)]
    source.append(b"a", body("a", " ".join(words)))
    first = run(source, store)
    chunks = len(store.points)
    source.append(b"a", body("a", " ".join([*words[:-1], "changed"])))
    second = run(source, store)
    assert 0 < second.tokens < first.tokens
    source.append(b"a", body("a", "short"))
    run(source, store)
    assert chunks > 1
    assert len(store.points) == 1


def test_a_delete_without_a_version_is_newer_than_what_is_still_to_be_copied() -> None:
    """Else a copy that comes after it would bring the document back."""
    earlier = {ChunkKey("", "a", 0): Stored(Order(7, 3), 1)}

    def planned(elsewhere: Mapping[ChunkKey, Stored]) -> Order:
        prepare = Prepare(
            DocumentRules(order="event"), MemoryStore(), CHUNKS, 1, InFlight(), elsewhere=lambda _: elsewhere
        )
        place = Partition("documents", 0)
        work = prepare(IndexWork(Batch((Record(place, 9, b"a", None),), {place: Position(10, 1)})))
        return work.writes[0].event.order

    assert planned({}).version == 0
    assert planned(earlier) == Order(7, planned({}).sequence)


def test_a_document_still_in_the_pipe_is_planned_without_reuse() -> None:
    """What the store says of it may change before its write."""
    store, in_flight = MemoryStore(), InFlight()
    prepare = Prepare(DocumentRules(), store, CHUNKS, 1, in_flight)
    long = " ".join(f"w{n}" for n in range(40))
    place = Partition("documents", 0)

    def plan(offset: int, text: str) -> IndexWork:
        return prepare(
            IndexWork(Batch((Record(place, offset, b"a", body("a", text)),), {place: Position(offset + 1, 1)}))
        )

    for n, text in enumerate((long, "short")):
        first = plan(n * 10, text)
        write_out(store, first)
        in_flight.leave(first.writes)
        (alone,) = plan(n * 10 + 1, text).writes
        assert alone.keep == frozenset(range(len(alone.chunks)))
        (behind,) = plan(n * 10 + 2, text).writes
        assert behind.keep == frozenset()
        in_flight.leave([alone, behind])


def write_out(store: MemoryStore, work: IndexWork) -> None:
    (one,) = completer(CHUNKS, HashEmbedder())(work.writes)
    store.upsert([one.point(i) for i in range(len(one.chunks))])


def test_versions_that_follow_each_other_closely_end_in_order() -> None:
    """Every batch holds a version of the same document, and the next is prepared before it is written."""
    source, store = MemorySource(most=1), MemoryStore()
    for n in range(12):
        source.append(b"a", body("a", f"version {n % 2} of the text"))
    run(source, store)
    assert texts(store) == {"a": "version 1 of the text"}


def test_a_bug_in_the_model_ends_the_worker_and_commits_nothing_that_is_not_stored() -> None:
    class Broken(HashEmbedder):
        def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
            raise IndexError(f"a bug in {len(texts)}")

    source = MemorySource()
    source.append(b"a", body("a", "text"))
    stream = Stream(source, MemoryDeadLetters(), DocumentRules())
    with pytest.raises(StageFailed, match="stage embed failed: IndexError: a bug in 1"):
        IndexWorker(SMALL, stream, unchanging, MemoryStore(), CHUNKS, 1, Broken()).run(threading.Event())
    assert source.committed == {}
    assert source.closed


def test_a_stop_finishes_what_is_in_hand() -> None:
    source, store, stop = MemorySource(once=False), MemoryStore(), threading.Event()
    for n in range(50):
        source.append(str(n).encode(), body(str(n), f"text {n}"))

    class Stopping(HashEmbedder):
        def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
            stop.set()
            return super().embed(texts)

    stream = Stream(source, MemoryDeadLetters(), DocumentRules())
    IndexWorker(SMALL, stream, unchanging, store, CHUNKS, 1, Stopping()).run(stop)
    assert len(store.points) == source.committed[Partition("documents", 0)] == 50


def test_a_stop_throws_no_work_away_however_slow_the_model_is() -> None:
    source, store, stop = MemorySource(once=False, most=1000), MemoryStore(), threading.Event()
    for n in range(1000):
        source.append(str(n).encode(), body(str(n), " ".join(f"word{i}" for i in range(30))))
    seen = []

    class Slow(HashEmbedder):
        def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
            seen.append(len(texts))
            if len(seen) == 12:
                stop.set()
            time.sleep(0.003 * sum(map(len, texts)))
            return super().embed(texts)

    stream, quick = Stream(source, MemoryDeadLetters(), DocumentRules()), IndexSettings(drain_timeout_s=2.0)
    whole = Chunker(WordTokenizer(), ChunkRules(64, 4, title=True, prompt="", most=6))
    worker = IndexWorker(quick, stream, unchanging, store, whole, 1, Slow())
    stopping = threading.Timer(0, stop.wait)
    stopping.start()
    worker.run(stop)
    assert 0 < sum(seen) < 1000
    assert source.committed[Partition("documents", 0)] == len(store.points) == sum(seen)


def test_while_the_pipe_is_full_the_source_is_held_and_still_asked() -> None:
    source, store, gate = MemorySource(most=1), MemoryStore(), threading.Event()
    for n in range(12):
        source.append(str(n).encode(), body(str(n), f"text {n}"))

    class Slow(HashEmbedder):
        def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
            assert gate.wait(10)
            return super().embed(texts)

    stream = Stream(source, MemoryDeadLetters(), DocumentRules())
    running = threading.Thread(
        target=lambda: IndexWorker(SMALL, stream, unchanging, store, CHUNKS, 1, Slow()).run(threading.Event()),
        daemon=True,
    )
    running.start()
    deadline = time.monotonic() + 10
    while source.polls.count(True) < 5:  # held polls keep the membership
        assert time.monotonic() < deadline
        gate.wait(0.01)
    assert source.polls.count(False) <= 6  # one batch in each of two stages and two queues, one in hand, one empty poll
    gate.set()
    running.join(10)
    assert len(store.points) == 12


def test_a_source_that_is_away_is_asked_again() -> None:
    class Away(MemorySource):
        failures = 3

        def poll(self, timeout_s: float, *, hold: bool = False) -> Batch | None:
            if self.failures:
                self.failures -= 1
                raise Unavailable("away")
            return super().poll(timeout_s, hold=hold)

    source, store = Away(), MemoryStore()
    source.append(b"a", body("a", "text"))
    run(source, store)
    assert texts(store) == {"a": "text"}


def test_a_revoked_partition_is_not_committed() -> None:
    source = MemorySource()
    source.append(b"a", body("a", "text"))
    partition = Partition("documents", 0)
    batch = source.poll(0)
    assert batch is not None
    source.revoke(partition)
    source.commit(batch.positions)
    source.assign(partition)
    source.commit(batch.positions)
    assert source.committed == {}


RECORDS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 50)), max_size=20)


@given(RECORDS, st.integers(1, 100), st.floats(0.1, 10))
def test_slices_keep_the_records_and_each_commits_exactly_what_is_done(
    shape: list[tuple[int, int]], most: int, most_s: float
) -> None:
    counts: Counter[int] = Counter()
    records = []
    for partition, size in shape:
        records.append(Record(Partition("t", partition), counts[partition], b"", b"x" * size))
        counts[partition] += 1
    markers = {Partition("t", 9): Position(4, 1)}
    positions = {Partition("t", p): Position(n + 2, 1) for p, n in counts.items()} | markers
    slices: list[Batch] = []
    rest: Batch | None = Batch(tuple(records), positions)
    while rest is not None:
        one, rest = first_of(rest, most, lambda record: len(record.value or b"") / 10, most_s)
        slices.append(one)
    assert [r for one in slices for r in one.records] == records
    done: dict[Partition, int] = {}
    for one in slices:
        size = sum(len(r.value or b"") for r in one.records)
        assert len(one.records) <= 1 or (size <= most and size / 10 <= most_s + 1e-9)
        done |= {partition: position.offset for partition, position in one.positions.items()}
        left = records[sum(len(s.records) for s in slices[: slices.index(one) + 1]) :]
        assert all(done.get(r.partition, 0) <= r.offset for r in left)
    assert done == {partition: position.offset for partition, position in positions.items()}


def test_letters_say_what_was_wrong() -> None:
    source, letters = MemorySource(), MemoryDeadLetters()
    source.append(b"a", b"nope")
    run(source, MemoryStore(), letters)
    (letter,) = letters.letters
    assert isinstance(letter.error, InvalidEvent)
    assert (letter.stage, letter.record.value) == ("decode", b"nope")
