"""What an audit finds, without services: any history of events, any damage that is planted, and nothing else."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.adapters.kafka.topics import look_at
from penstock.assembly import audit as assembled
from penstock.assembly.mend import Mend, broken
from penstock.commands import audit as command
from penstock.core.documents import Chunk, ChunkKey, DocumentKey, Event, Op, Order, Point, Stored, epoch_base
from penstock.core.errors import Misconfigured, Unavailable
from penstock.core.identity import ModelIdentity, TopicIdentity
from penstock.core.inventory import Held, Sought
from penstock.core.members import PARTS, Member
from penstock.core.records import Partition, Record
from penstock.events.rules import DocumentRules
from penstock.fakes import MemoryStore, MemoryUpstream
from penstock.index.plan import collapse, text_hash
from penstock.operate.audit.compare import Expected, Situation, suspects
from penstock.operate.audit.expectation import Expectation, Newest, following, seconds
from penstock.operate.audit.holdings import Holdings
from penstock.operate.audit.judge import Kind, Known, Verdict, judge
from penstock.operate.audit.look import Finding
from penstock.operate.audit.report import Example, Report
from penstock.operate.audit.run import Audit, scanned
from penstock.operate.audit.table import LEAST, Rows, Table, key_of
from penstock.operate.audit.topic import Kept, Topics, mixed
from penstock.settings import KafkaSettings

PARTITIONS = [Partition("documents", n) for n in range(3)]
BASE = epoch_base(1)
NOW_S = 1_800_000_000.0
PAST, FUTURE = "2026-11-01T00:00:00Z", "2099-01-01T00:00:00Z"


@dataclass
class World:
    """A topic of which each partition is committed so far, and a collection that workers have written from it."""

    events: list[Event]
    committed: dict[Partition, int]
    points: dict[DocumentKey, list[Held]]
    ends: dict[Partition, int]
    by_offset: bool
    extra: list[Held] = field(default_factory=list)

    @property
    def expected(self) -> Expected:
        expected = Expected(Expectation(), Expectation(), Expectation())
        for event in self.events:
            done = event.record.offset < self.committed[event.record.partition]
            (expected.done if done else expected.coming).add([event])
        return expected

    @property
    def situation(self) -> Situation:
        return Situation(1, self.ends, True, True, self.by_offset, NOW_S, NOW_S)

    def audit(self) -> dict[DocumentKey, tuple[Kind, ...]]:
        """As the whole does it: first by arrays, then one by one, on what was passed on."""
        expected, held = self.expected, Holdings()
        held.add([*(point for points in self.points.values() for point in points), *self.extra])
        found = suspects(expected, held, self.situation)
        keys = {key_of(event.key): event.key for event in self.events} | {key_of(key): key for key in self.points}
        return {keys[key]: kinds for key in found.keys if (kinds := self.verdict(keys[key], expected))}

    def verdict(self, key: DocumentKey, expected: Expected) -> tuple[Kind, ...]:
        done, coming, _ = (one.find(key_of(key)) for one in expected)
        flight = coming is not None
        extra = [point for point in self.extra if (point.key.tenant, point.key.document) == key]
        known = Known(following(done, coming), None, flight)
        return judge(known, [*self.points.get(key, ()), *extra], self.situation).kinds

    def settled(self) -> list[DocumentKey]:
        """Documents whose every record is committed."""
        open_ones = {e.key for e in self.events if e.record.offset >= self.committed[e.record.partition]}
        return sorted({event.key for event in self.events} - open_ones)


def history(chance: random.Random, *, by_offset: bool) -> list[Event]:
    names = [f"d{n}" for n in range(chance.randrange(2, 30))]
    offsets = dict.fromkeys(PARTITIONS, 10)
    events = []
    for _ in range(chance.randrange(1, 120)):
        name = chance.choice(names)
        partition = PARTITIONS[int(name[1:]) % len(PARTITIONS)]
        offset = offsets[partition]
        offsets[partition] += chance.choice((1, 1, 1, 5))
        sequence = BASE + offset
        delete = chance.random() < 0.3
        unversioned = delete and not by_offset and chance.random() < 0.7
        version = sequence if by_offset else 0 if unversioned else chance.randrange(6)
        expires = None if delete else chance.choice((None, None, FUTURE))
        record = Record(partition, offset, name.encode(), b"")
        op = Op.DELETE if delete else Op.UPSERT
        key = DocumentKey(chance.choice(("", "acme")), name)
        events.append(Event(record, key, Order(version, sequence), op, expires_at=expires, unversioned=unversioned))
    return events


def points_of(event: Event, chunks: int) -> list[Held]:
    """As a worker writes them."""
    source = f"{event.record.partition.topic}/{event.record.partition.number}/{event.record.offset}"
    if event.op is Op.DELETE:
        return [Held(ChunkKey(*event.key, 0), Stored(event.order, 1, deleted=True), "", "", source)]
    hashes = tuple(text_hash(f"{event.key} {event.order} {n}") for n in range(chunks))
    return [
        Held(ChunkKey(*event.key, n), Stored(event.order, 1, text, hashes if n == 0 else ()), "",
             event.expires_at or "", source)
        for n, text in enumerate(hashes)
    ]  # fmt: skip


def world(seed: int) -> tuple[World, random.Random]:
    """Workers have committed some of it, and have written that and some more, batch by batch."""
    chance = random.Random(seed)
    by_offset = chance.random() < 0.5
    events = history(chance, by_offset=by_offset)
    ends = {owned: max((e.record.offset + 1 for e in events if e.record.partition == owned), default=0)
            for owned in PARTITIONS}  # fmt: skip
    whole = chance.random() < 0.4
    committed = {owned: end if whole else chance.randrange(end + 1) for owned, end in ends.items()}
    written = {owned: chance.randrange(committed[owned], end + 1) for owned, end in ends.items()}
    anchors: dict[DocumentKey, Event] = {}
    left = [event for event in events if event.record.offset < written[event.record.partition]]
    while left:
        size = chance.randrange(1, 10)
        batch, left = left[:size], left[size:]
        newest, _ = collapse(batch, {key: anchor.order for key, anchor in anchors.items()})
        for event in newest:
            if event.key not in anchors or event.order > anchors[event.key].order:
                anchors[event.key] = event
    points = {key: points_of(event, chance.randrange(1, 5)) for key, event in anchors.items()}
    return World(events, committed, points, ends, by_offset), chance


def moved(point: Held, order: Order) -> Held:
    return point._replace(stored=Stored(order, 1, point.stored.hash, point.stored.hashes, point.stored.deleted))


def before(order: Order) -> Order:
    return Order(max(0, order.version - 1), order.sequence - 1) if order.version else Order(0, order.sequence - 1)


def alive(points: Sequence[Held]) -> bool:
    return bool(points) and not points[0].tombstone


def remove_all(points: list[Held], _: random.Random) -> list[Held] | None:
    return [] if alive(points) else None


def remove_anchor(points: list[Held], _: random.Random) -> list[Held] | None:
    return points[1:] if alive(points) else None


def make_older(points: list[Held], _: random.Random) -> list[Held] | None:
    return [moved(point, before(point.stored.order)) for point in points] if alive(points) else None


def revive(points: list[Held], chance: random.Random) -> list[Held] | None:
    if not points or alive(points):
        return None
    key, source, order = points[0].key, points[0].source, before(points[0].stored.order)
    record = Record(Partition(source.split("/")[0], int(source.split("/")[1])), int(source.split("/")[2]), b"", b"")
    return points_of(Event(record, DocumentKey(*key[:2]), order, Op.UPSERT), chance.randrange(1, 4))


def drop_chunk(points: list[Held], chance: random.Random) -> list[Held] | None:
    if not alive(points) or len(points) < 2:
        return None
    doomed = chance.randrange(1, len(points))
    return [point for point in points if point.key.chunk != doomed]


def another_text(points: list[Held], chance: random.Random) -> list[Held] | None:
    if not alive(points):
        return None
    at = chance.randrange(len(points))
    stored = points[at].stored
    other = points[at]._replace(stored=Stored(stored.order, 1, text_hash("other"), stored.hashes))
    return [other if point.key.chunk == at else point for point in points]


def older_chunk(points: list[Held], chance: random.Random) -> list[Held] | None:
    if not alive(points) or len(points) < 2:
        return None
    at = chance.randrange(1, len(points))
    return [moved(p, before(p.stored.order)) if p.key.chunk == at else p for p in points]


def leave_behind(points: list[Held], _: random.Random) -> list[Held] | None:
    if not points:
        return None
    last = points[-1]
    key = ChunkKey(last.key.tenant, last.key.document, last.key.chunk + 3)
    chunk = Stored(before(last.stored.order), 1, text_hash("old"))
    return [*points, Held(key, chunk, "", "", last.source)]


def make_newer(points: list[Held], _: random.Random) -> list[Held] | None:
    if not alive(points):
        return None
    return [moved(point, Order(point.stored.order.version + 1, epoch_base(2))) for point in points]


def double(points: list[Held], _: random.Random) -> list[Held] | None:
    return [*points, points[-1]] if points else None


DAMAGE: Mapping[str, tuple[Callable[[list[Held], random.Random], list[Held] | None], tuple[Kind, ...]]] = {
    "all points": (remove_all, (Kind.MISSING,)),
    "the anchor": (remove_anchor, (Kind.MISSING,)),
    "an older version": (make_older, (Kind.STALE,)),
    "a delete undone": (revive, (Kind.UNDEAD,)),
    "a chunk": (drop_chunk, (Kind.HALF_WRITTEN,)),
    "another text": (another_text, (Kind.HALF_WRITTEN,)),
    "an older chunk": (older_chunk, (Kind.HALF_WRITTEN, Kind.LEFT_OVER)),
    "a point of an older version": (leave_behind, (Kind.LEFT_OVER,)),
    "another epoch": (make_newer, (Kind.AHEAD,)),
    "a point twice": (double, (Kind.FOREIGN,)),
}


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_where_nothing_is_damaged_nothing_is_found_whatever_workers_are_at(seed: int) -> None:
    here, _ = world(seed)
    assert here.audit() == {}
    expected = here.expected
    for key in {event.key for event in here.events}:  # nor is anything that was passed at first
        assert here.verdict(key, expected) == ()


@given(st.integers(0, 2**32))
@settings(max_examples=120, deadline=None)
def test_just_what_is_planted_is_found(seed: int) -> None:
    here, chance = world(seed)
    planted: dict[DocumentKey, tuple[Kind, ...]] = {}
    for key in here.settled():
        damage, kinds = DAMAGE[chance.choice(list(DAMAGE))]
        if chance.random() < 0.5 and (after := damage(here.points.get(key, []), chance)) is not None:
            here.points[key] = after
            planted[key] = kinds
    orphan = DocumentKey("", "nobody sent this")
    if chance.random() < 0.5:
        event = Event(Record(PARTITIONS[0], 0, b"", b""), orphan, Order(BASE, BASE), Op.UPSERT)
        here.points[orphan] = points_of(event, 2)
        planted[orphan] = (Kind.ORPHAN,)
    assert here.audit() == planted


@pytest.mark.parametrize("name", DAMAGE)
def test_every_damage_is_one_that_some_world_has(name: str) -> None:
    worlds = (world(seed) for seed in range(50))
    assert any(DAMAGE[name][0](here.points.get(key, []), chance) is not None
               for here, chance in worlds for key in here.settled())  # fmt: skip


def one(op: Op = Op.UPSERT, expires: str | None = None) -> tuple[World, Event]:
    record = Record(PARTITIONS[0], 0, b"d", b"")
    event = Event(record, DocumentKey("", "d"), Order(BASE, BASE), op, expires_at=expires)
    here = World([event], dict.fromkeys(PARTITIONS, 1), {}, dict.fromkeys(PARTITIONS, 1), by_offset=True)
    return here, event


def test_what_has_expired_may_be_gone_and_is_told_when_it_stays() -> None:
    here, event = one(expires=PAST)
    assert here.audit() == {}
    here.points[event.key] = points_of(event, 3)
    assert here.audit() == {event.key: (Kind.EXPIRED,)}
    del here.points[event.key][2]  # as while it is purged
    assert here.audit() == {event.key: (Kind.EXPIRED,)}


def test_a_tombstone_that_was_purged_is_no_damage() -> None:
    here, _ = one(Op.DELETE)
    assert here.audit() == {}


def test_what_came_from_elsewhere_is_no_orphan_and_what_is_being_written_from_there_is_left_alone() -> None:
    here, event = one()
    here.points[event.key] = points_of(event, 2)
    other = DocumentKey("", "of a file")
    record = Record(Partition("events.jsonl", 0), 4, b"", b"")
    from_file = Event(record, other, Order(77, 77), Op.UPSERT)
    here.points[other] = points_of(from_file, 3)
    assert here.audit() == {}
    here.points[other] = here.points[other][1:]  # its anchor comes last
    assert here.audit() == {}


def test_documents_that_end_in_a_dead_letter_are_not_judged() -> None:
    here, event = one()
    later = Newest(Order(BASE + 5, BASE + 5), (PARTITIONS[0], 5), deleted=False)
    known = Known(here.expected.done.find(key_of(event.key)), later)
    assert judge(known, [], here.situation).waits == "given up"
    assert judge(known._replace(newest=None), points_of(event, 2), here.situation).kinds == ()


def test_orphans_and_what_is_ahead_are_judged_only_where_the_topic_can_tell() -> None:
    here, event = one()
    there = points_of(event, 1)
    nothing_kept = Situation(1, here.ends, False, False, False, NOW_S, NOW_S)
    assert judge(Known(None), there, here.situation).kinds == (Kind.ORPHAN,)
    assert judge(Known(None), there, nothing_kept).kinds == ()
    newest = here.expected.done.find(key_of(event.key))
    ahead = [moved(there[0], Order(BASE + 9, BASE))]
    assert judge(Known(newest), ahead, nothing_kept).kinds == ()
    assert judge(Known(newest), ahead, here.situation).kinds == (Kind.AHEAD,)


def test_a_delete_without_a_version_counts_as_the_highest_before_it_on_either_side_of_the_commit() -> None:
    before = Newest(Order(5, BASE + 1), (PARTITIONS[0], 1), deleted=False)
    after = Newest(Order(3, BASE + 9), (PARTITIONS[0], 9), deleted=False, tomb=BASE + 8)
    both = following(before, after)
    assert both is not None
    assert (both.order, both.deleted) == (Order(5, BASE + 8), True)
    newer = after._replace(order=Order(7, BASE + 9))
    assert following(before, newer) == newer


def test_a_delete_whose_version_the_topic_has_forgotten_is_judged_by_its_place() -> None:
    here, event = one()
    tomb = Newest(Order(0, BASE + 9), (PARTITIONS[0], 9), deleted=True, unversioned=True, tomb=BASE + 9)
    there = [moved(point, Order(5, BASE)) for point in points_of(event, 1)]
    assert judge(Known(tomb), there, here.situation).kinds == (Kind.UNDEAD,)
    dead = points_of(Event(event.record, event.key, Order(5, BASE + 9), Op.DELETE), 1)
    assert judge(Known(tomb), dead, here.situation).kinds == ()


def test_what_a_file_brought_is_not_ahead_and_what_is_gone_by_now_not_missing() -> None:
    here, event = one()
    newest = here.expected.done.find(key_of(event.key))
    assert newest is not None
    from_file = [moved(point, Order(BASE + 9, 77)) for point in points_of(event, 1)]
    assert judge(Known(newest), from_file, here.situation).kinds == ()
    assert judge(Known(newest), [], here.situation).kinds == (Kind.MISSING,)
    for gone in (newest._replace(deleted=True), newest._replace(expires=int(NOW_S) - 1)):
        assert judge(Known(gone), [], here.situation).kinds == ()


def test_a_table_is_the_same_however_its_rows_come() -> None:
    """Through merges of its parts, and with keys that end in zeros."""
    chance = random.Random(1)
    keys = [chance.randbytes(15 - n % 3).ljust(16, b"\0") for n in range(300)]
    rows = [(chance.choice(keys), n) for n in range(40 * LEAST)]
    largest = Table([("value", "i8")], _largest)
    for begin in range(0, len(rows), 777):
        largest.add(rows[begin : begin + 777])
        if begin % 5 == 0:
            largest.part(chance.randrange(256))
    assert {key: int(largest.find(key)["value"][0]) for key in keys} == dict(rows)
    assert len(largest) == len(keys)


def _largest(rows: Rows) -> Rows:
    rows = rows[np.lexsort((rows["value"], rows["key"]))]
    largest: Rows = rows[np.append(rows["key"][1:] != rows["key"][:-1], [True])]
    return largest


def test_moments_are_rounded_up() -> None:
    assert seconds("2026-11-01T00:00:00.001Z") == seconds("2026-11-01T00:00:01Z")
    assert seconds(None) == seconds("") == 0


def test_a_failure_in_one_part_of_a_scan_ends_it() -> None:
    class Broken(MemoryStore):
        def scan(self, sought: Sought, part: int = 0, parts: int = 1) -> Iterator[Held]:
            if part == 2:
                raise RuntimeError("away")
            yield from super().scan(sought, part, parts)

    with pytest.raises(RuntimeError, match="away"):
        list(scanned(Broken(), 3))
    assert list(scanned(MemoryStore(), 3)) == []


def test_a_report_counts_what_is_left_and_keeps_so_many_examples() -> None:
    report = Report("documents", most=2)
    for n in range(3):
        report.add(Example(Kind.STALE, DocumentKey("acme", f"d{n}"), "the document at version 2", "1 of 1 chunks"))
    report.add(Example(Kind.EXPIRED, DocumentKey("", "old"), "", ""))
    assert report.left == {Kind.STALE: 3}
    assert [example.document.document for example in report.examples] == ["d0", "d1", "old"]
    report.repaired[Kind.STALE] = 2
    assert report.as_json()["left"] == {"stale": 1}
    report.dry_run = True
    assert report.left == {Kind.STALE: 3}
    assert any("acme: d1" in line for line in report.lines())
    assert set(report.as_json()["damaged"]) == set(Kind)


def test_documents_of_an_earlier_epoch_are_no_orphans_and_are_counted() -> None:
    """Their topic was made anew, and they are not sent again yet."""
    here, event = one()
    there, held = points_of(event, 2), Holdings()
    held.add(there)
    nothing = Expected(Expectation(), Expectation(), Expectation())
    later = replace(here.situation, epoch=2)
    assert judge(Known(None), there, later).kinds == ()
    found = suspects(nothing, held, later)
    assert (found.keys, found.earlier, found.unjudged, found.nothing) == ([], 1, 1, 0)
    found = suspects(nothing, held, here.situation)
    assert (found.keys, found.earlier, found.nothing) == ([key_of(event.key)], 0, 1)


def test_where_a_record_names_no_document_those_of_its_partition_are_no_orphans() -> None:
    here, event = one()
    there = points_of(event, 2)
    assert judge(Known(None), there, replace(here.situation, unread={PARTITIONS[0]})) == Verdict(waits="unread")
    assert judge(Known(None), there, replace(here.situation, unread={PARTITIONS[1]})).kinds == (Kind.ORPHAN,)
    known = Known(here.expected.done.find(key_of(event.key)))
    assert judge(known, there, replace(here.situation, unread={PARTITIONS[0]})) == Verdict()


def topics_of(rules: DocumentRules, kept: Kept) -> Topics:
    topics = Topics(KafkaSettings(), rules, MemoryUpstream(TopicIdentity("", 3)))
    topics.kept = kept
    return topics


def test_records_that_name_no_document_are_counted_by_their_partition() -> None:
    topics = topics_of(DocumentRules(tenant_from="header"), Kept())
    damaged = Record(PARTITIONS[0], 1, None, b"?", damage="no batch")
    without_tenant = Record(PARTITIONS[0], 2, b"d", b"no json")
    named = Record(PARTITIONS[1], 3, b"d", b"no json", (("tenant", b"acme"),))
    topics._take([damaged, without_tenant, named])
    assert (topics.invalid, topics.unread) == (3, {PARTITIONS[0]: 2})


def test_where_keys_do_not_tell_the_tenant_a_compacted_topic_has_no_orphans() -> None:
    own = DocumentRules(own={"b": DocumentRules(tenant_from="header")})
    for policy in ({"compact"}, {"compact", "delete"}, set()):
        assert mixed(own, ["a", "b"], {"a": {"compact"}, "b": policy})
    assert mixed(own, ["b"], {})  # no right to ask
    assert not mixed(own, ["a", "b"], {"a": {"compact"}, "b": {"delete"}})
    assert not mixed(DocumentRules(tenant_from="key"), ["a"], {"a": {"compact"}})
    assert Kept(first=True, compacted=True).whole
    assert not Kept(first=True, compacted=True, mixed=True).whole


def audit_of(names: Sequence[str], orphans: Sequence[str], unread: Mapping[Partition, int]) -> Report:
    """With --repair --dry-run, of a collection that holds these, and a topic that knows all but the orphans."""

    class Read(Topics):
        def read(self, _: object) -> None:
            self.kept, self.ends, self.unread = Kept(True, True, True), dict.fromkeys(PARTITIONS, 99), dict(unread)
            self.committed = dict.fromkeys(PARTITIONS, 99)
            known = [point.event for point in store.points.values() if point.event.key.document not in orphans]
            self.expected.done.add(known)

        def catch_up(self) -> None:
            pass

        def records_of(self, _: object) -> Iterator[tuple[bytes, Record]]:
            return iter(())

    store = MemoryStore()
    for n, name in enumerate(names):
        record = Record(PARTITIONS[0], n, name.encode(), b"")
        event = Event(record, DocumentKey("", name), Order(BASE + n, BASE + n), Op.UPSERT)
        store.upsert([Point(event, 0, 1, ("h",), Chunk("text", 0, 4, "h"))])
    topics = Read(KafkaSettings(), DocumentRules(), MemoryUpstream(TopicIdentity("", 3)))
    report = Report(dry_run=True)
    audit = Audit(topics, store, 1, True, 0.0, report, lambda _, __: _passing(), wait=lambda _: None)
    audit.mender = Mend(topics, store, None, audit.situation, wait=lambda _: None)
    audit.run()
    return report


@contextmanager
def _passing() -> Iterator[Callable[[int], None]]:
    yield lambda _: None


def test_orphans_are_removed_only_while_they_are_few_and_all_records_of_their_partition_are_known() -> None:
    names = [f"d{n}" for n in range(10)]
    few, many = audit_of(names, names[:2], {}), audit_of(names, names[:3], {})
    assert (few.damaged[Kind.ORPHAN], few.repaired[Kind.ORPHAN], few.notes) == (2, 2, [])
    assert (many.damaged[Kind.ORPHAN], many.repaired[Kind.ORPHAN]) == (3, 0)
    assert any("too many to be true" in note for note in many.notes)
    unread = audit_of(names, names[:2], {PARTITIONS[0]: 4})
    assert (unread.damaged[Kind.ORPHAN], unread.repaired[Kind.ORPHAN]) == (0, 0)
    assert any("2 documents" in note and "4 records of documents/0" in note for note in unread.notes)
    assert audit_of(names, names[:2], {PARTITIONS[1]: 4}).repaired[Kind.ORPHAN] == 2


def test_where_versions_decide_the_topic_does_not_judge_what_a_file_brought() -> None:
    here, event = one()
    there = [moved(point, Order(5, 77)) for point in points_of(event, 3)]
    place = (PARTITIONS[0], 9)
    tomb = Newest(Order(3, BASE + 9), place, deleted=True, unversioned=True, tomb=BASE + 9)
    newer = Newest(Order(6, BASE + 9), place, deleted=False)
    older = newer._replace(order=Order(4, BASE + 9))
    by_event = replace(here.situation, by_offset=False)
    for newest, points, kind in (
        (tomb, there, Kind.UNDEAD), (newer, there, Kind.STALE), (older, there[:2], Kind.HALF_WRITTEN),
    ):  # fmt: skip
        assert judge(Known(newest), points, by_event).kinds == ()
        assert judge(Known(newest), points, here.situation).kinds == (kind,)
        order = newest.order if kind is Kind.HALF_WRITTEN else Order(5, BASE + 1)
        ours = [moved(point, order) for point in points]
        assert kind in judge(Known(newest), ours, by_event).kinds


def test_of_a_half_written_document_nothing_is_dropped_that_its_record_does_not_write_anew() -> None:
    _, event = one()
    points = points_of(event, 3)[:2]
    at = Newest(event.order, (PARTITIONS[0], 0), deleted=False)
    found = Finding(event.key, Known(at), points, Verdict((Kind.HALF_WRITTEN,)))
    assert broken(found) == points
    lower = at._replace(order=Order(event.order.version - 1, event.order.sequence))
    assert broken(found._replace(known=Known(lower))) == []
    assert broken(found._replace(known=Known(None))) == []


def test_a_document_that_was_buried_before_its_time_is_told_and_left() -> None:
    here, event = one(expires=FUTURE)
    here.points[event.key] = points_of(replace(event, op=Op.DELETE), 1)
    assert here.audit() == {event.key: (Kind.BURIED,)}
    report = Report()
    report.add(Example(Kind.BURIED, event.key, "", ""))
    assert report.left == {}


def test_a_document_that_purge_has_buried_needs_no_second_look() -> None:
    here, event = one(expires=PAST)
    held = Holdings()
    held.add(points_of(replace(event, op=Op.DELETE), 1))
    assert suspects(here.expected, held, here.situation).keys == []
    assert suspects(here.expected, held, replace(here.situation, now_s=0.0)).keys == [key_of(event.key)]


def test_a_collection_that_is_copied_into_is_not_repaired() -> None:
    model = ModelIdentity("", "", "", "", "", 4)
    first, under_way = Member("a-1", "g", model, current=True), Member("a-2", "h", model, current=False, copies=True)
    assert assembled.copying([first, under_way], "a-1") == ""
    assert "migration" in assembled.copying([first, under_way], "a-2")
    done = replace(under_way, copied=tuple(range(PARTS)))
    assert assembled.copying([first, done], "a-2") == ""
    with pytest.raises(Misconfigured):
        assembled.refuse_repair("why")
    assembled.refuse_repair("")


def test_whoever_only_looks_makes_no_topic() -> None:
    class Broker:
        def __init__(self) -> None:
            self.made: list[object] = []

        def describe_topics(self, names: Sequence[str]) -> list[dict[str, Any]]:
            return [{"name": name, "error_code": 3 * (name != "documents"), "partitions": [0]} for name in names]

        def create_topics(self, topics: Sequence[object]) -> None:
            self.made += topics

    for make in (False, True):
        broker = Broker()
        (found,) = look_at(cast("Any", broker), KafkaSettings(topic="documents"), ["documents"], make=make)
        assert (found["name"], len(broker.made)) == ("documents", make)


def run_command(monkeypatch: pytest.MonkeyPatch, textfile: Path | None = None, pushgateway: str = "") -> None:
    report = Report("documents")
    report.add(Example(Kind.EXPIRED, DocumentKey("", "d\x9b2J"), "", ""))
    monkeypatch.setattr(command, "load_settings", lambda: None)
    monkeypatch.setattr(assembled, "run_audit", lambda *_: report)
    command.audit_collection(textfile=textfile, pushgateway=pushgateway, parts=1, per_s=1.0)


def test_the_report_is_printed_before_metrics_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(Unavailable):
        run_command(monkeypatch, pushgateway="http://127.0.0.1:1")
    out = capsys.readouterr().out
    assert "nothing is damaged" in out
    assert "d\\x9b2J" in out  # what would move a terminal's cursor does not get there
    with pytest.raises(Misconfigured, match="no folder"):
        run_command(monkeypatch, textfile=tmp_path / "nowhere" / "audit.prom")
    assert capsys.readouterr().out == ""
    run_command(monkeypatch, textfile=tmp_path / "audit.prom")
    assert 'kind="expired"} 1.0' in (tmp_path / "audit.prom").read_text()
