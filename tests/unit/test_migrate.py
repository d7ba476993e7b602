"""How far a migration is, when readers may be sent over, and what a copied document is."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.bodies import Heading, sections
from penstock.core.copies import Piece, Whole
from penstock.core.documents import DocumentKey, Op, Order
from penstock.core.identity import ModelIdentity
from penstock.core.members import PARTS, Member
from penstock.core.records import Partition, Record
from penstock.events.copied import headings_of, read, text_of, written
from penstock.events.rules import DocumentRules
from penstock.operate.migrate import Progress, Seen, Status, overlap, rate

FIRST, SECOND = Partition("documents", 0), Partition("documents", 1)
MODEL = ModelIdentity("model", "1", "mean", "", "", 4)


def status(current: int, other: int, *, left: int = 0, speed: float = 0.0, copied: int | None = None) -> Status:
    old = Member("old", "group", MODEL, current=True)
    new = Member("new", "next", MODEL, False, "2026", copied is not None, tuple(range(copied or 0)))
    return Status(
        "documents",
        [Progress(old, 5, {FIRST: current}, 0, 1), Progress(new, 5, {FIRST: other}, left, 1)],
        speed,
    )


def test_readers_may_go_where_nothing_is_lacking() -> None:
    assert status(10, 10).unready == ""
    assert status(10, 12).unready == ""
    assert status(10, 7).unready == "new lacks 3 records that old has"
    assert status(10, 10, copied=3).unready == f"3 of {PARTS} parts are copied of what the topic holds no more"
    assert status(10, 10, copied=PARTS).unready == ""


def test_the_time_that_is_left_is_told_only_where_something_moves() -> None:
    assert status(10, 7, left=30, speed=2.0).eta_s == 15
    assert status(10, 7, left=30).eta_s is None
    assert status(10, 10, speed=2.0).eta_s is None


def test_under_a_stream_it_counts_what_readers_had_a_moment_ago() -> None:
    seen = Seen(5.0)
    assert seen.lacking(0.0, status(10, 4)) == 6
    assert seen.lacking(2.0, status(20, 10)) == 0
    late = Seen(5.0)
    assert late.lacking(0.0, status(10, 4)) == 6
    assert late.lacking(6.0, status(30, 10)) == 20, "one that never comes nearer is not ready"


def test_a_rate_is_of_all_partitions_and_never_below_nothing() -> None:
    assert rate({FIRST: 10, SECOND: 5}, {FIRST: 30, SECOND: 5}, 4.0) == 5
    assert rate({FIRST: 10}, {FIRST: 4, SECOND: 9}, 1.0) == 0


def test_what_two_answers_share() -> None:
    assert overlap(["a", "b"], ["b", "a"]) == 1
    assert overlap(["a", "b", "c", "d"], ["a"]) == 0.25
    assert overlap([], []) == 1
    assert overlap(["a"] * 3, []) == 0


TEXTS = st.text(st.sampled_from("ab ž\n."), min_size=1, max_size=60)


@given(TEXTS, st.lists(st.integers(0, 60), max_size=6), st.integers(0, 5))
def test_a_text_comes_back_from_chunks_that_overlap(text: str, cuts: list[int], overlap: int) -> None:
    ends = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    starts = [0, *(max(0, end - overlap) for end in ends[:-1])]
    pieces = [Piece(text[start:end], start) for start, end in zip(starts, ends, strict=True)]
    assert text_of(reversed(pieces)) == text


def test_what_lay_between_chunks_keeps_its_length() -> None:
    assert text_of([Piece("one", 0), Piece("two", 5)]) == "one  two"


PATHS = st.lists(st.sampled_from([(), ("A",), ("A", "B"), ("A", "C"), ("D",), ("D", "E", "F")]), min_size=1, max_size=8)


@given(PATHS)
def test_each_chunk_lies_under_the_headings_that_it_had(paths: list[tuple[str, ...]]) -> None:
    pieces = [Piece(f"chunk {n} ", n * 8, path) for n, path in enumerate(paths)]
    text = text_of(pieces)
    cut = sections(text, headings_of(pieces, "Title"), "Title")
    for piece in pieces:
        (around,) = (one for one in cut if one.start <= piece.start < one.end)
        assert around.path == piece.path


def test_a_text_without_headings_gets_none() -> None:
    assert headings_of([Piece("a", 0), Piece("b", 1)]) == []
    assert headings_of([Piece("a", 0, ("A", "B"))]) == [Heading(0, 1, "A"), Heading(0, 2, "B")]


def test_a_document_and_a_tombstone_are_read_as_they_were_held() -> None:
    key, order = DocumentKey("acme", "a/b"), Order(7, 9)
    held = Whole(
        key, order, "topic.x/3/41", [Piece("text", 0)], "Title", "cs", "2026-11-30T00:00:00Z", None, {"n": [1]}
    )
    event = read(Record(Partition("documents-1234", 0), 5, None, written(held)), DocumentRules())
    assert (event.key, event.order, event.op, event.title, event.text) == (key, order, Op.UPSERT, "Title", "text")
    assert (event.record.partition, event.record.offset) == (Partition("topic.x", 3), 41)
    assert (event.language, event.timestamp, event.expires_at) == ("cs", "2026-11-30T00:00:00Z", None)
    assert event.metadata == {"n": [1]}
    dead = read(Record(Partition("c", 0), 5, None, written(Whole(key, order, "t/0/1"))), DocumentRules())
    assert (dead.op, dead.order) == (Op.DELETE, order)
