"""What makes a stream or a collection another one: the rules, as pure functions."""

import pytest

from penstock.core.documents import epoch_base
from penstock.core.errors import Misconfigured, OwnershipLost
from penstock.core.identity import CollectionState, Origin, Recipe, TopicIdentity
from penstock.core.records import Batch, Gap, Partition, Position
from penstock.fakes import MemoryLedger, MemoryUpstream
from penstock.stream.doubts import changed_collection, changed_topic, lost_records, unfit_origin
from penstock.stream.joined import OfTopic, join

OURS = Origin("documents", "id", 4, 2)
ZERO = Partition("documents", 0)
STATE = CollectionState("documents-1", "born", "model", OURS, Recipe(3, "cut"))


@pytest.mark.parametrize(
    ("remembered", "said"),
    [
        (None, ""),
        (OURS, ""),
        (Origin("documents", "older id", 1, 1), ""),
        (Origin("documents", "id", 4, 3), "raise PENSTOCK_INDEX__EPOCH to 3"),
        (Origin("documents", "older id", 4, 2), "was deleted and made anew"),
        (Origin("documents", "id", 2, 2), "has 4 partitions, it had 2"),
        (Origin("documents", "id", 0, 2, "event"), "ordered by event, PENSTOCK_INDEX__ORDER is offset"),
        (Origin("documents", "id", 4, 1, "event"), "ordered by event"),
        (Origin("other", "id", 4, 1), "follows topic 'other'"),
    ],
)
def test_a_collection_is_for_one_stream(remembered: Origin | None, said: str) -> None:
    reason = unfit_origin(remembered, OURS)
    assert said in reason
    assert bool(said) == bool(reason)


@pytest.mark.parametrize(
    ("remembered", "ours", "fits"),
    [
        ("a,b", "a,b", True),
        ("a,b", "a,b,c", True),
        ("a,b", "b", True),
        ("a", "a,b", True),
        ("a,b", "c,d", False),
        ("^wiki-.*", "wiki-de", True),
        ("wiki-de,notes", "^wiki-.*", True),
        ("^wiki-.*", "notes", False),
        ("^wiki-.*", "^notes-.*", False),
        ("^wiki-.*", "^wiki-.*", True),
    ],
)
def test_where_versions_order_events_topics_may_come_and_go(remembered: str, ours: str, *, fits: bool) -> None:
    """As long as there is one in common: else the settings are for another collection."""
    before, now = (Origin(topics, "", 0, 2, "event") for topics in (remembered, ours))
    assert (unfit_origin(before, now) == "") == fits
    if remembered != ours:
        by_offset = [Origin(topics, "", 0, 2, "offset") for topics in (remembered, ours)]
        assert unfit_origin(*by_offset)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (TopicIdentity("id", 4), ""),
        (None, "is gone"),
        (TopicIdentity("new", 4), "PENSTOCK_INDEX__EPOCH to 3"),
        (TopicIdentity("id", 8), "has 8 partitions, it had 4"),
    ],
)
def test_a_topic_is_what_it_was(now: TopicIdentity | None, said: str) -> None:
    assert said in changed_topic(OURS, now)
    assert bool(said) == bool(changed_topic(OURS, now))


def test_the_last_epoch_has_no_next_one() -> None:
    said = changed_topic(Origin("documents", "id", 4, 31), TopicIdentity("new", 4))
    assert "PENSTOCK_QDRANT__COLLECTION" in said
    assert "EPOCH" not in said


def test_a_collection_of_before_there_were_progress_points_is_taken_over() -> None:
    ledger = MemoryLedger(CollectionState("documents-1", "", "model", OURS, STATE.recipe))
    join(MemoryUpstream(TopicIdentity("id", 4), {ZERO: 500}), ledger, OURS)
    assert ledger.read([ZERO]) == {ZERO: epoch_base(2) + 500}


def test_where_versions_order_the_events_partitions_may_be_added() -> None:
    assert changed_topic(Origin("documents", "id", 0, 1, "event"), TopicIdentity("id", 8)) == ""


@pytest.mark.parametrize(
    "now",
    [
        None,
        CollectionState("documents-2", "born", "model", OURS, STATE.recipe),
        CollectionState("documents-1", "reborn", "model", OURS, STATE.recipe),
        CollectionState("documents-1", "born", "another", OURS, STATE.recipe),
        CollectionState("documents-1", "born", "model", OURS, None),
        CollectionState("documents-1", "born", "model", OURS, Recipe(2, "cut before")),
        CollectionState("documents-1", "born", "model", OURS, Recipe(3, "cut otherwise")),
    ],
)
def test_a_collection_is_what_it_was(now: CollectionState | None) -> None:
    assert changed_collection(STATE, STATE) == ""
    assert changed_collection(STATE, CollectionState("documents-1", "born", "model", OURS, Recipe(4, "newer"))) == ""
    assert changed_collection(STATE, now)


@pytest.mark.parametrize(
    ("gap", "on_gap", "said"),
    [
        (Gap(ZERO, 10, 30), "continue", ""),
        (Gap(ZERO, 10, 30), "stop", "offsets 10 to 29 of documents/0"),
        (Gap(ZERO, 30, 10), "continue", "ends before offset 30"),
    ],
)
def test_positions_may_jump_over_what_retention_removed_but_never_back(gap: Gap, on_gap: str, said: str) -> None:
    reason = lost_records([gap], on_gap)  # type: ignore[arg-type]
    assert said in reason
    assert bool(said) == bool(reason)


def joined(held: int | None, committed: int | None) -> OfTopic:
    ledger = MemoryLedger(STATE)
    if held is not None:
        ledger.advance({ZERO: epoch_base(2) + held})
    upstream = MemoryUpstream(TopicIdentity("id", 4), {} if committed is None else {ZERO: committed})
    return OfTopic(upstream, ledger, OURS, join(upstream, ledger, OURS), "continue", lambda _: False)


def batch(offset: int, generation: int = 1) -> Batch:
    return Batch((), {ZERO: Position(offset, generation)})


@pytest.mark.parametrize(("held", "committed"), [(None, None), (None, 0), (5, None), (5, 5), (9, 5), (5, 0)])
def test_a_collection_that_holds_what_was_committed_is_joined(held: int | None, committed: int | None) -> None:
    worker = joined(held, committed)
    worker.verify(batch(12))
    worker.advance(batch(12))
    assert worker.ledger.read([ZERO]) == {ZERO: epoch_base(2) + 12}
    worker.verify(batch(20))


@pytest.mark.parametrize(("held", "committed"), [(None, 1), (4, 5)])
def test_one_that_holds_less_is_not(held: int | None, committed: int) -> None:
    with pytest.raises(Misconfigured, match="index --from-beginning"):
        joined(held, committed)


def test_progress_of_another_epoch_says_nothing_of_the_offsets_of_this_one() -> None:
    ledger = MemoryLedger(CollectionState("documents-1", "born", "model", Origin("documents", "id", 4, 1)))
    ledger.advance({ZERO: epoch_base(1) + 500})
    with pytest.raises(Misconfigured, match="PENSTOCK_INDEX__EPOCH is 2, the collection follows epoch 1"):
        join(MemoryUpstream(TopicIdentity("id", 4), {ZERO: 500}), ledger, OURS)


def test_what_another_worker_committed_is_asked_for_at_each_assignment() -> None:
    worker = joined(5, 5)
    worker.verify(batch(12))
    assert isinstance(worker.upstream, MemoryUpstream)
    worker.upstream.offsets[ZERO] = 40  # by somebody whose writes are not in this collection
    worker.verify(batch(14))
    with pytest.raises(Misconfigured, match="up to offset 5"):
        worker.verify(batch(50, generation=2))


def test_progress_that_goes_back_under_a_worker_ends_it() -> None:
    worker = joined(5, 5)
    worker.verify(batch(12))
    worker.advance(batch(12))
    assert isinstance(worker.ledger, MemoryLedger)
    worker.ledger.sequences[ZERO] = epoch_base(2) + 7
    with pytest.raises(Misconfigured, match="up to offset 7"):
        worker.verify(batch(20))


def test_workers_of_a_lower_epoch_let_go_and_so_does_one_whose_collection_follows_nothing() -> None:
    worker = joined(5, 5)
    worker.ledger.follow(Origin("documents", "new id", 4, 3))
    with pytest.raises(OwnershipLost, match="raise PENSTOCK_INDEX__EPOCH to 3"):
        worker.verify(batch(12))
    assert isinstance(worker.ledger, MemoryLedger)
    worker.ledger.now = CollectionState("documents-1", "born", "model", None, STATE.recipe)
    with pytest.raises(Misconfigured, match="follows no stream"):
        worker.advance(batch(12))


def test_a_doubt_that_goes_away_ends_nobody() -> None:
    """A broker that has just come up may not know the topic yet."""
    worker = joined(5, 5)
    upstream = worker.upstream
    assert isinstance(upstream, MemoryUpstream)
    upstream.now = None

    def later(_seconds: float) -> bool:
        upstream.now = TopicIdentity("id", 4)
        return False

    worker.wait = later
    worker.verify(batch(12))
