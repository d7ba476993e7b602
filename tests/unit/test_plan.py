"""Which event counts, and what is to be done for it."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.documents import Chunk, DocumentKey, Event, Op, Order, Stored
from penstock.core.records import Partition, Record
from penstock.index.plan import Step, collapse, decide, kept, text_hash

TOPIC = Partition("documents", 0)


def event(
    sequence: int, version: int | None = None, name: str = "a", *, delete: bool = False, unversioned: bool = False
) -> Event:
    order = Order(sequence if version is None else version, sequence)
    op = Op.DELETE if delete else Op.UPSERT
    record = Record(TOPIC, sequence, name.encode(), b"")
    return Event(record, DocumentKey("", name), order, op, text=f"text {sequence}", unversioned=unversioned)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Events of a few documents as they stand in a partition, deletes without versions among them."""
    drawn = []
    for sequence in range(draw(st.integers(0, 12))):
        name = draw(st.sampled_from("ab"))
        if draw(st.integers(0, 4)) == 0:
            drawn.append(event(sequence, 0, name, delete=True, unversioned=True))
        else:
            drawn.append(event(sequence, draw(st.integers(0, 5)), name))
    return drawn


def replay(events: list[Event]) -> dict[DocumentKey, Event]:
    """The rule, event by event: the highest (version, sequence) wins, a delete takes the highest version so far."""
    state: dict[DocumentKey, Event] = {}
    for one in events:
        held = state.get(one.key)
        version = one.order.version
        if one.unversioned and held is not None:
            version = max(version, held.order.version)
        if held is None or (version, one.order.sequence) > held.order:
            state[one.key] = replace(one, order=Order(version, one.order.sequence))
    return state


@given(histories())
def test_collapse_keeps_what_a_replay_keeps(events: list[Event]) -> None:
    newest, superseded = collapse(events, {})
    assert {one.key: one.record for one in newest} == {key: one.record for key, one in replay(events).items()}
    assert len(newest) + len(superseded) == len(events)


@given(histories(), st.integers(0, 12))
def test_collapsing_in_two_batches_ends_like_one(events: list[Event], at: int) -> None:
    """The second batch knows of the first only the orders that the store holds."""
    first, _ = collapse(events[:at], {})
    known = {one.key: one.order for one in first}
    second, _ = collapse(events[at:], known)
    state = {one.key: one for one in first}
    for one in second:
        if one.key not in state or one.order > state[one.key].order:
            state[one.key] = one
    assert {key: one.record for key, one in state.items()} == {k: e.record for k, e in replay(events).items()}


@given(st.permutations([event(n, v) for n, v in enumerate((3, 1, 2, 3, 0))]))
def test_order_of_arrival_does_not_matter(events: list[Event]) -> None:
    newest, _ = collapse(events, {})
    assert [one.order for one in newest] == [Order(3, 3)]


def test_a_record_delivered_twice_is_superseded_by_itself() -> None:
    newest, superseded = collapse([event(1), event(1)], {})
    assert len(newest) == len(superseded) == 1


def stored(version: int, sequence: int, recipe: int = 1, **more: object) -> Stored:
    return replace(Stored(Order(version, sequence), recipe), **more)  # type: ignore[arg-type]


def test_decisions() -> None:
    upsert, delete = event(5), event(5, delete=True)
    assert decide(upsert, None, 1) is Step.EMBED
    assert decide(delete, None, 1) is Step.DELETE  # a tombstone even for an unknown document
    assert decide(upsert, stored(4, 4), 1) is Step.EMBED
    assert decide(upsert, stored(6, 6), 1) is Step.STALE
    assert decide(upsert, stored(5, 5), 1) is Step.REPEATED
    assert decide(upsert, stored(5, 5, 0), 1) is Step.EMBED


def test_chunks_are_kept_by_place_text_and_recipe() -> None:
    chunks = [Chunk(text, 0, 1, text_hash(text)) for text in "abc"]
    anchor = stored(1, 1, hashes=(text_hash("a"), text_hash("x"), text_hash("c"), text_hash("d")))
    assert kept(chunks, anchor, 1) == {0, 2}
    assert kept(chunks, replace(anchor, recipe=2), 1) == set()
    assert kept(chunks, replace(anchor, deleted=True), 1) == set()
    assert kept(chunks, None, 1) == set()
