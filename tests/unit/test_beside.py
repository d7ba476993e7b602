"""A backfill beside a live stream, over the shipped fakes: live wins, whatever comes when, and goes first."""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.assembly.beside import LOW, PASS_S, Shared, Side, run_both
from penstock.assembly.index import IndexWorker
from penstock.assembly.membership import Stream
from penstock.assembly.stream import Retries
from penstock.core.documents import ChunkKey
from penstock.core.errors import Misconfigured
from penstock.core.records import Partition, Position
from penstock.core.vectors import Vector
from penstock.events.rules import DocumentRules
from penstock.fakes import HashEmbedder, MemoryDeadLetters, MemorySource, MemoryStore, unchanging
from penstock.models.forward import Forward, Turn
from penstock.observe.live import Reporter
from penstock.settings import IndexSettings
from penstock.stream.precedence import Precedence
from tests.conftest import wait_until
from tests.unit.test_worker import CHUNKS, body

SMALL = IndexSettings(batch_bytes=200, drain_timeout_s=5.0)
BASE = 17 * 10**12


class Source(MemorySource):
    """Remembers the commits in their order."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic, 2, most=5)
        self.topic = topic
        self.commits: list[tuple[Partition, int]] = []

    def commit(self, positions: Mapping[Partition, Position]) -> None:
        self.commits += [(owned, at.offset) for owned, at in positions.items()]
        super().commit(positions)


class InTurn(HashEmbedder):
    """A model that takes turns at each call."""

    def __init__(self, turn: Turn, around: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._turn, self._around = turn, around

    def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
        with self._turn():
            self._around()
            return super().embed(texts)


def sides(front: Callable[[], None] = lambda: None, behind: Callable[[], None] = lambda: None) -> tuple[Side, Side]:
    """Which call ``front`` and ``behind`` in each pass of theirs."""
    shared = Shared(Precedence(1))
    made = [Side(shared, lambda turn, _, around=around: InTurn(turn, around)) for around in (front, behind)]  # type: ignore[misc]
    return made[0], Side(shared, made[1].model, behind=True)


def both(live: MemorySource, backfill: MemorySource, store: MemoryStore, two: tuple[Side, Side]) -> list[Reporter]:
    """To the end of both."""
    ends: list[Reporter] = []
    rules = DocumentRules(), DocumentRules(sequence_base=BASE)
    workers = [
        IndexWorker(SMALL, Stream(source, MemoryDeadLetters(), rule), unchanging, store, CHUNKS, 1, HashEmbedder(),
                    side=side)
        for source, rule, side in zip((live, backfill), rules, two, strict=True)
    ]  # fmt: skip
    stop = threading.Event()
    ends.append(run_both(lambda: workers[0].run(stop), lambda: ends.append(workers[1].run(stop)), stop))
    return ends


EVENT = st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(1, 40)))


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENT, max_size=20), st.lists(EVENT, max_size=20))
def test_the_store_ends_as_if_the_whole_backfill_had_been_before_the_live_stream(
    live_events: list[tuple[str, int | None]], earlier: list[tuple[str, int | None]]
) -> None:
    """And each source's commits are in its own order, to its end."""
    live, backfill, store = Source("documents"), Source("before"), MemoryStore()
    expected: dict[str, str] = {}
    for source, events in ((backfill, earlier), (live, live_events)):
        for n, (name, words) in enumerate(events):
            text = None if words is None else f"{source.topic} {n} " + "word " * words
            source.append(name.encode(), None if text is None else body(name, text), ord(name) % 2)
            expected |= {name: text or ""}
    both(live, backfill, store, sides())
    found = {name: _text(store, name) for name in expected}
    assert found == {name: text.strip() for name, text in expected.items()}
    for source, events in ((live, live_events), (backfill, earlier)):
        for number in (0, 1):
            offsets = [offset for owned, offset in source.commits if owned.number == number]
            assert offsets == sorted(offsets)
            assert max(offsets, default=0) == sum(ord(name) % 2 == number for name, _ in events)


def _text(store: MemoryStore, name: str) -> str:
    anchor = store.points[ChunkKey("", name, 0)]
    return anchor.event.text.strip() if anchor.chunk is not None else ""


def test_a_live_document_waits_for_one_pass_of_the_backfill_and_no_more() -> None:
    live, backfill, store = MemorySource(), MemorySource("before"), MemoryStore()
    passes: list[str] = []
    for n in range(30):
        backfill.append(f"b{n}".encode(), body(f"b{n}", f"of the backfill {n}"))
    waiting = threading.Event()

    def behind() -> None:
        passes.append("behind")
        if len(passes) == 3:
            live.append(b"live", body("live", "of now"))
            wait_until(lambda: two[0].shared.model._waiting == 1)
            waiting.set()

    live._once = False
    stop, done = threading.Event(), threading.Event()

    def front() -> None:
        passes.append("front")

    two = sides(front, behind)
    rules = DocumentRules(sequence_base=BASE)
    first = IndexWorker(SMALL, Stream(live, MemoryDeadLetters(), DocumentRules()), unchanging, store, CHUNKS, 1,
                        HashEmbedder(), side=two[0])  # fmt: skip
    second = IndexWorker(SMALL, Stream(backfill, MemoryDeadLetters(), rules), unchanging, store, CHUNKS, 1,
                         HashEmbedder(), side=two[1])  # fmt: skip

    def to_its_end() -> None:
        second.run(done)
        stop.set()

    run_both(lambda: first.run(stop), to_its_end, stop)
    assert waiting.is_set()
    assert passes[:4] == ["behind"] * 3 + ["front"]
    assert passes.count("behind") > 4
    assert len(store.points) == 31


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
@pytest.mark.parametrize("waits", [True, False])
def test_on_processors_threads_that_compute_for_the_backfill_give_way_to_all_others(*, waits: bool) -> None:
    live, backfill, lows = MemorySource(), MemorySource("before"), dict[str, set[int]]()
    for source, name in ((live, "a"), (backfill, "b")):
        source.append(name.encode(), body(name, "words"))

    def noted(side: str) -> Callable[[], None]:
        return lambda: lows.setdefault(side, set()).add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    shared = Shared(Precedence(1, waits=waits))
    two = [Side(shared, lambda turn, _, on=on: InTurn(turn, noted(on)), behind=on == "behind")  # type: ignore[misc]
           for on in ("front", "behind")]  # fmt: skip
    own = os.getpriority(os.PRIO_PROCESS, os.getpid())
    both(live, backfill, MemoryStore(), (two[0], two[1]))
    assert lows == {"front": {own}, "behind": {own if waits else min(19, own + LOW)}}


def test_no_call_of_the_store_begins_for_the_backfill_while_live_documents_are_written() -> None:
    front, behind = sides()
    retries, done = Retries(threading.Event()), list[str]()
    stores = {name: side.store(MemoryStore(), retries) for name, side in (("front", front), ("behind", behind))}

    def read(name: str) -> None:
        stores[name].read([])
        done.append(name)

    thread = threading.Thread(target=read, args=("behind",))
    with front.turn(front.shared.stages["write"], retries):
        thread.start()
        read("front")
        thread.join(0.05)
        assert done == ["front"]
    thread.join(20)
    assert done == ["front", "behind"]


def test_what_does_not_fit_about_the_backfill_is_told_at_the_end_and_other_failures_at_once() -> None:
    for failure, goes_on in ((Misconfigured("its topic is gone"), True), (RuntimeError("a bug"), False)):
        stop, seen = threading.Event(), list[bool]()

        def behind(failure: Exception = failure) -> None:
            raise failure

        def front(stop: threading.Event = stop, seen: list[bool] = seen) -> None:
            seen.append(not stop.wait(0.1))

        with pytest.raises(type(failure)):
            run_both(front, behind, stop)
        assert seen == [goes_on]


def test_a_live_worker_that_fails_ends_the_backfill_too() -> None:
    stop = threading.Event()

    def front() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run_both(front, lambda: stop.wait(20), stop)
    assert stop.is_set()


class Session:
    """A graph of which a token takes so many seconds, and that remembers its passes."""

    inputs, width, provider = frozenset({"input_ids", "lengths"}), 4, "cpu"

    def __init__(self, token_s: float) -> None:
        self.token_s, self.passes = token_s, list[int]()

    def run(self, feeds: Mapping[str, Any]) -> Any:
        import numpy as np

        self.passes.append(feeds["input_ids"].size)
        threading.Event().wait(self.token_s * feeds["input_ids"].size)
        return np.ones((len(feeds["input_ids"]), self.width), np.float32)


def test_a_pass_of_a_backfill_takes_as_long_as_it_may_by_the_measured_speed() -> None:
    session, turns = Session(PASS_S / 400), list[int]()
    forward = Forward(session, 16384)

    @contextmanager
    def turn() -> Iterator[None]:
        turns.append(len(session.passes))
        yield

    short = forward.by_turns(turn, PASS_S)
    for _ in range(3):
        short.run([[1] * 20] * 100)
    assert session.passes[0] == 20 * int(PASS_S / 0.0005 / 20)
    assert all(200 <= tokens <= 400 for tokens in session.passes[-4:-1])
    assert turns == list(range(len(session.passes)))
    session.passes.clear()
    forward.run([[1] * 20] * 100)
    assert session.passes == [2000]
