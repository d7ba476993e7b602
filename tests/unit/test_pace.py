"""Batches by seconds of work."""

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.records import Batch, Partition, Position, Record
from penstock.core.work import Interval, Work
from penstock.stream.pace import Pace
from penstock.stream.worker import first_of

TOPIC = Partition("documents", 0)


def records(sizes: list[int]) -> Batch:
    made = [Record(TOPIC, offset, b"", b"x" * size) for offset, size in enumerate(sizes)]
    return Batch(tuple(made), {TOPIC: Position(len(made), 1)})


def done(batch: Batch, token_s: float, tokens_per_byte: float, record_s: float) -> Work:
    """As a machine of that speed would have done it."""
    size = sum(len(record.value or b"") for record in batch.records)
    work = Work(batch, tokens=int(size * tokens_per_byte))
    work.timed("prepare", Interval(0, int(1e9 * record_s * len(batch.records))))
    work.timed("embed", Interval(0, int(1e9 * token_s * work.tokens)))
    return work


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-6, 1e-2), st.floats(0.1, 0.5), st.floats(0, 0.01))
def test_batches_grow_to_what_the_machine_does_in_the_time_and_never_beyond(
    token_s: float, tokens_per_byte: float, record_s: float
) -> None:
    pace, most_s, took_s, rest = Pace(), 3.5, 0.0, None
    polled = records([2000] * 500)
    for turn in range(50):
        batch, rest = first_of(polled, 2_000_000, pace.seconds, most_s)
        work = done(batch, token_s, tokens_per_byte, record_s)
        took_s = work.tokens * token_s + len(batch.records) * record_s
        if len(batch.records) > 1 and turn > 0:
            assert took_s <= most_s * 1.01
        pace = pace.after(work)
    one_s = 2000 * tokens_per_byte * token_s + record_s
    assert rest is None or took_s + one_s > most_s * 0.8


def test_documents_that_were_there_already_do_not_make_the_next_batch_one_that_outlasts_a_drain() -> None:
    pace = Pace(token_s=0.001, tokens_per_byte=0.25)
    for _ in range(100):
        pace = pace.after(done(records([2000] * 100), 0.001, 0.0, 0.0001))
    batch, _ = first_of(records([2000] * 1000), 2_000_000, pace.seconds, 3.5)
    assert len(batch.records) * 2000 * 0.25 * 0.001 < 17.5


def test_an_outage_is_not_taken_for_slowness_for_long() -> None:
    pace = Pace(token_s=0.0001).after(done(records([100]), 0.0001, 0.25, 3600.0))
    for _ in range(30):
        pace = pace.after(done(records([100]), 0.0001, 0.25, 0.001))
    assert pace.record_s < 0.01


def test_an_empty_batch_changes_nothing() -> None:
    assert Pace().after(Work(Batch((), {}))) == Pace()
