"""What may go of a collection, and when: the decisions of purge, and what goes wrong in another order."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pydantic import ValidationError

from penstock.adapters.kafka.retention import kept
from penstock.commands.purge import purge_collection
from penstock.core.documents import EPOCH_SHIFT, Chunk, ChunkKey, DocumentKey, Event, Op, Order, Point, Stored
from penstock.core.errors import Misconfigured, Stopped
from penstock.core.inventory import Held, Kind
from penstock.core.records import Partition, Record
from penstock.core.retention import Kept, doubt, duration
from penstock.fakes import MemoryStore
from penstock.operate.purge import Allowance, Limits, Purge, before, expired, left_over, untold, written_out
from penstock.settings import PurgeSettings

NOW = datetime(2026, 11, 30, tzinfo=UTC)
DAY = timedelta(days=1)
P = Partition("documents", 3)
BASE = 1 << EPOCH_SHIFT


def held(source: str = "documents/3/7", sequence: int = BASE + 7, **fields: str) -> Held:
    return Held(ChunkKey("", "a", 1), Stored(Order(sequence, sequence), 1), source=source, **fields)


def test_what_is_older_than_its_anchor_or_not_newer_than_a_tombstone_is_left_over() -> None:
    def over(chunk: tuple[int, int], anchor: tuple[int, int], *, deleted: bool = False) -> bool:
        at = Stored(Order(anchor[0], 1), anchor[1], deleted=deleted)
        return left_over(Held(ChunkKey("", "a", 1), Stored(Order(chunk[0], 1), chunk[1])), at)

    assert over((1, 1), (2, 1))
    assert over((2, 1), (2, 2))
    assert not over((2, 1), (2, 1))
    assert not over((3, 1), (2, 1)), "it is being written"
    assert over((2, 1), (2, 1), deleted=True)
    assert not over((3, 1), (2, 1), deleted=True)


def test_a_record_is_written_out_where_the_collection_says_that_everything_before_is() -> None:
    def out(found: Held, done: Mapping[Partition, int]) -> bool:
        return written_out(found, done, lambda topic: topic == "documents")

    assert out(held(), {P: BASE + 8})
    assert not out(held(), {P: BASE + 7})
    assert not out(held(), {}), "nothing is known of its partition"
    assert not out(held(sequence=2 * BASE + 7), {P: BASE + 9}), "of a later epoch"
    assert out(held(sequence=BASE + 2, source="documents/3/7"), {P: BASE + 8}), "a letter that was sent back"
    assert not out(held(sequence=BASE + 2, source="documents/3/9"), {P: BASE + 8}), "a letter that was sent back"
    assert not out(held(sequence=5007), {P: 5007}), "of a backfill, whose sequences begin at 5000"
    assert out(held(sequence=5007), {P: 5008})
    assert out(held(source="some/file.jsonl/0/5", sequence=5), {}), "a file is not read again"
    assert not out(held(source=""), {P: BASE + 8})


def test_what_has_no_time_is_neither_old_nor_expired() -> None:
    assert before(held(indexed_at="2026-11-29T00:00:00.000Z"), NOW)
    assert not before(held(indexed_at="2026-11-30T00:00:00.000Z"), NOW)
    assert not before(held(), NOW)
    assert expired(held(expires_at="2026-11-30T00:00:00Z"), NOW)
    assert not expired(held(expires_at="2026-11-30T00:00:01Z"), NOW)
    assert not expired(held(), NOW)


def test_so_many_a_second_go_and_a_stop_is_heard() -> None:
    waits, now = [], [0.0]

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        now[0] += seconds
        return now[0] > 4

    allow = Allowance(100, wait, lambda: now[0])
    for _ in range(3):
        allow(100)
    assert waits == [0, 1, 1]
    now[0] += 10
    with pytest.raises(Stopped):
        allow(1)


DELETED = Kept("documents", policy="delete", retention_s=7 * 86400.0, marks_s=86400.0)
COMPACTED = Kept("documents", policy="compact", retention_s=math.inf, marks_s=3 * 86400.0)


@pytest.mark.parametrize(
    ("kept", "days", "never"),
    [
        (DELETED, 7, False),
        (COMPACTED, 3, False),
        (COMPACTED._replace(policy="compact,delete", retention_s=9 * 86400.0), 9, False),
        (COMPACTED._replace(policy="compact, delete"), 3, False),
        (DELETED._replace(retention_s=math.inf), 1e6, True),
        (COMPACTED._replace(letters=True), 1e6, True),
        (COMPACTED._replace(backfill=True), 1e6, True),
        (DELETED._replace(backfill=True), 7, False),
        (DELETED._replace(letters=True), 7, False),
    ],
)
def test_tombstones_stay_as_long_as_something_older_may_come(kept: Kept, days: float, never: bool) -> None:
    told = doubt([kept], (days - 0.5) * 86400, "THE_SETTING")
    assert told.never is never
    assert "topic 'documents'" in told.reason
    if never:
        assert "never" in told.reason
        return
    assert f"for {days} days" in told.reason
    assert f"THE_SETTING to {days * 86400} or more" in told.reason
    assert not doubt([kept], days * 86400, "THE_SETTING").reason


def test_a_backfill_that_is_compacted_holds_for_ever_what_was_deleted_since() -> None:
    assert (
        "empty PENSTOCK_INDEX__BACKFILL once it has ended" in doubt([COMPACTED._replace(backfill=True)], 1, "X").reason
    )


@pytest.mark.parametrize(
    ("retention_ms", "seconds"),
    [("-1", math.inf), ("9223372036854775807", math.inf), ("604800000", 7 * 86400.0), ("", math.inf)],
)
def test_more_than_a_century_is_for_ever(retention_ms: str, seconds: float) -> None:
    assert kept("documents", {"retention.ms": retention_ms}, letters=False).retention_s == seconds


@pytest.mark.parametrize("seconds", [1e12, -1.0, math.nan, math.inf])
def test_nobody_waits_for_more_than_a_century(seconds: float) -> None:
    with pytest.raises(Misconfigured, match="0 to 3153600000, which is a hundred years"):
        purge_collection(older_than_s=seconds)
    for name in ("tombstones_s", "orphans_s"):
        with pytest.raises(ValidationError):
            PurgeSettings.model_validate({name: seconds})


def test_what_kafka_does_not_tell_is_a_doubt() -> None:
    assert "DescribeConfigs" in doubt([DELETED, Kept("documents.dlq", letters=True)], 1e9, "X").reason
    assert not doubt([], 1.0, "X").reason


def test_durations_are_told_in_the_largest_unit() -> None:
    told = [duration(seconds) for seconds in (86400, 7 * 86400, 7200, 60, 1.5)]
    assert told == ["1 day", "7 days", "2 hours", "1 minute", "1.5 s"]


class Done:
    """How far the stream is written."""

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def read(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        return dict.fromkeys(partitions, BASE + self.offset)


def point(version: int, index: int, *, dead: bool = False) -> Point:
    event = Event(
        Record(P, version, b"a", b""), DocumentKey("", "a"), Order(version, BASE + version), Op.UPSERT, text="x"
    )
    if dead:
        return Point(event, 0, 1)
    return Point(event, index, 1, (), Chunk(f"{version}", 0, 1, f"{version}"), np.ones(2, np.float32))


class Dying(MemoryStore):
    """The process ends at the second removal."""

    removals = 0

    def remove(self, found: Sequence[Held]) -> None:
        if found:
            self.removals += 1
            if self.removals == 2:
                raise KeyboardInterrupt
        super().remove(found)


def round_over(store: MemoryStore, done: int = 99) -> Purge:
    limits = Limits(NOW, NOW - DAY, NOW - DAY)
    return Purge(store, store, Done(done), limits, lambda _: True)


def test_a_tombstone_goes_after_its_chunks_so_that_nothing_keeps_out_a_document_that_begins_anew() -> None:
    """Its versions may begin at 1 again once it is forgotten; a chunk of version 3 would be newer."""
    store = Dying(now=lambda: NOW - 2 * DAY)
    store.upsert([point(3, 1)])
    store.upsert([point(4, 0, dead=True)])
    with pytest.raises(KeyboardInterrupt):
        round_over(store).run(untold)
    assert [key.chunk for key in store.points] == [0]
    round_over(store).run(untold)
    assert not store.points


def test_an_orphan_stays_whose_document_may_still_be_delivered_however_old_it_is() -> None:
    store = MemoryStore(now=lambda: NOW - 2 * DAY)
    store.upsert([point(7, 1)])
    waiting = round_over(store, done=7)
    waiting.run(untold)
    assert (waiting.removed.total(), len(store.points)) == (0, 1)
    over = round_over(store, done=8)
    over.run(untold)
    assert (over.removed[Kind.ORPHAN], len(store.points)) == (1, 0)


def test_a_young_orphan_stays() -> None:
    store = MemoryStore(now=lambda: NOW - DAY / 2)
    store.upsert([point(7, 1)])
    round_over(store).run(untold)
    assert store.points


def test_an_anchor_that_was_written_before_the_ledger_was_asked_is_found() -> None:
    """Looked for before, it is missing, and the ledger says that all is done by then."""
    store = MemoryStore(now=lambda: NOW - 2 * DAY)
    store.upsert([point(7, 1)])

    class Late(Done):
        def read(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
            store.upsert([point(7, 0)])
            return super().read(partitions)

    Purge(store, store, Late(8), Limits(NOW, None, NOW - DAY), lambda _: True).run(untold)
    assert len(store.points) == 2


def test_without_a_limit_tombstones_stay() -> None:
    store = MemoryStore(now=lambda: NOW - 99 * DAY)
    store.upsert([point(4, 0, dead=True)])
    Purge(store, store, Done(9), Limits(NOW, None, NOW), lambda _: True).run(untold)
    assert store.points
