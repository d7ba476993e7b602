"""A tenant's erasure: counting until nothing comes any more, what topics hold of it, and what the report says."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from penstock.commands.erase import erase_tenant
from penstock.core.documents import Chunk, DocumentKey, Event, Op, Order, Point
from penstock.core.errors import Misconfigured, Stopped
from penstock.core.identity import ModelIdentity
from penstock.core.members import PARTS, Member
from penstock.core.records import Partition, Record
from penstock.core.retention import Kept
from penstock.events.rules import DocumentRules
from penstock.events.whose import deletes, tenant_of
from penstock.fakes import MemoryStore
from penstock.operate.erase import NO_KEY, SHARED, Counted, Search, count, erase, headers_of, refuse_while_copied
from penstock.operate.erased import Erased
from penstock.operate.purge import untold

AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
DOCUMENTS, LETTERS = Partition("documents", 1), Partition("documents.dlq", 0)


def point(tenant: str, name: str, index: int = 0, *, dead: bool = False) -> Point:
    event = Event(Record(DOCUMENTS, 1, b"", b""), DocumentKey(tenant, name), Order(1, 1), Op.UPSERT, text="x")
    if dead:
        return Point(event, 0, 1)
    return Point(event, index, 1, (), Chunk("x", 0, 1, "hash"), np.ones(2, np.float32))


def filled() -> MemoryStore:
    store = MemoryStore()
    store.upsert([point("acme", "a"), point("acme", "a", 1), point("acme", "gone", dead=True), point("other", "b")])
    return store


@pytest.mark.parametrize("bury", [False, True])
def test_it_ends_when_nothing_has_come_for_a_while(bury: bool) -> None:
    store, waits = filled(), [0]

    def wait(_seconds: float) -> bool:
        waits[0] += 1
        if waits[0] == 2:
            store.upsert([point("acme", "late")])
        return False

    gone = erase(store, "acme", bury=bury, spend=lambda _: None, wait=wait, step=untold)
    assert gone == 3
    assert count(store, "acme") == Counted(0, 3 if bury else 1)
    assert count(store, "other") == Counted(1, 0)


def test_where_something_comes_all_the_time_it_ends_nevertheless_and_a_stop_is_heard() -> None:
    store = filled()

    def wait(_seconds: float) -> bool:
        store.upsert([point("acme", "late")])
        return False

    erase(store, "acme", bury=False, spend=lambda _: None, wait=wait, step=untold)
    assert count(store, "acme").texts == 1
    with pytest.raises(Stopped):
        erase(store, "acme", bury=False, spend=lambda _: None, wait=lambda _: True, step=untold)


def record(key: bytes | None, value: bytes | None, *headers: tuple[str, bytes], offset: int = 0) -> Record:
    return Record(DOCUMENTS, offset, key, value, headers, timestamp_ms=int(AT.timestamp() * 1000))


@pytest.mark.parametrize(
    ("rules", "given", "tenant"),
    [
        (DocumentRules(tenant_from="key"), record(b"acme/a", b"{nonsense"), "acme"),
        (DocumentRules(tenant_from="key"), record(b"acme/a", None), "acme"),
        (DocumentRules(tenant_from="key"), record(b"no tenant", b"{}"), None),
        (DocumentRules(tenant_from="key"), record(None, b"{}"), None),
        (DocumentRules(tenant_from="key"), record(b"\xff", b"{}"), None),
        (DocumentRules(tenant_from="header"), record(b"a", b"{nonsense", ("tenant", b"acme")), "acme"),
        (DocumentRules(tenant_from="header"), record(b"a", b"{}"), None),
        (DocumentRules(tenant_from="fixed", tenant="acme"), record(b"a", b"{}"), "acme"),
        (DocumentRules(), record(b"acme/a", b"{}"), ""),
        (
            DocumentRules(own={"documents": DocumentRules(tenant_from="fixed", tenant="acme")}),
            Record(LETTERS, 0, b"a", b"{}", (("__connect.errors.topic", b"documents"),)),
            "acme",
        ),
    ],
)
def test_whose_a_record_is_can_be_told_of_one_that_is_no_event(
    rules: DocumentRules, given: Record, tenant: str | None
) -> None:
    assert tenant_of(given, rules) == tenant


def test_a_null_is_sent_only_where_it_deletes() -> None:
    keyed = DocumentRules(tenant_from="key")
    assert not deletes(record(b"acme/a", b"{nonsense"), keyed)
    assert "index.key = ignore" in deletes(record(b"a", b"{}"), DocumentRules(key="ignore"))
    assert "without a version" in deletes(record(b"a", b"{}"), DocumentRules(order="event", scattered=True))


def search() -> Search:
    found = Search("acme", frozenset({"documents"}), lambda one: tenant_of(one, DocumentRules(tenant_from="key")))
    found.look([record(b"acme/a", b"1", offset=3), record(b"other/b", b"1", offset=4), record(b"??", b"1", offset=5)])
    found.look([record(b"acme/c", b"1", offset=8), record(b"acme/a", None, offset=9)])
    letter = Record(LETTERS, 2, b"acme/a", b"1", (("__connect.errors.topic", b"documents"),), timestamp_ms=0)
    found.look([letter])
    return found


def test_what_the_topics_hold_is_told_by_partition_and_a_null_follows_what_has_a_value_at_last() -> None:
    found = search()
    assert [one.key for one in found.living] == [b"acme/c"]
    assert found.told("documents") == {
        "records": 3,
        "with_a_value": 2,
        "of_unknown_tenant": 1,
        "partitions": [{"partition": 1, "records": 3, "first_offset": 3, "last_offset": 9}],
    }
    assert found.told("documents.dlq")["records"] == 1


def told(
    *topics: Kept, asked: bool = False, texts: int = 0, last: dict[str, int] | None = None, found: Search | None = None
) -> list[str]:
    counts = (Counted(5, 1), Counted(texts, 2), 5)
    newest = "2026-11-30T12:00:00Z"
    erased = Erased(
        "acme", "documents-1", "0.1.0", AT, *counts, newest, 86400.0, topics, found or search(), asked, 0, last or {}
    )
    lines: list[str] = erased.as_json()["to_do"]
    return lines


DELETED = Kept("documents", policy="delete", retention_s=86400.0)
COMPACTED = Kept("documents", policy="compact", retention_s=math.inf)
OF_LETTERS = Kept("documents.dlq", letters=True, policy="delete", retention_s=86400.0)


def test_the_report_says_what_is_left_and_until_when() -> None:
    lines = told(DELETED, OF_LETTERS, asked=True, texts=3, last={"documents/1": 10})
    assert lines[0].startswith("3 points with text have come meanwhile")
    assert lines[1].endswith("penstock purge removes them from 2026-12-01T12:00:00Z on")
    assert "of 1 records of documents nobody can tell the tenant: look at them" in lines
    where = "documents holds 3 records of it (by partition, offsets 1: 3 to 9)"
    ends = "until 2026-12-01T12:00:00Z and the end of their segment (retention.ms)"
    assert f"{where} {ends}, and the nulls that follow them" in lines
    assert lines[-1].startswith(
        "documents.dlq holds 1 records of it (by partition, offsets 0: 2 to 2) until 1970-01-02"
    )


def test_the_report_names_what_would_bring_documents_back() -> None:
    assert any("run it with --tombstones" in line for line in told(DELETED))
    assert any("until the broker compacts it" in line for line in told(COMPACTED, asked=True))
    forever = OF_LETTERS._replace(retention_s=math.inf)
    assert any("for ever: delete them by kafka-delete-records" in line for line in told(forever))
    unknown = Kept("documents")
    assert any("DescribeConfigs" in line for line in told(unknown, asked=True))


def in_headers(*records: Record) -> Search:
    """Of a topic whose keys are ids alone."""
    rules = DocumentRules(tenant_from="header")
    found = Search("acme", frozenset({"documents"}), lambda one: tenant_of(one, rules))
    found.look(replace(one, offset=n) for n, one in enumerate(records))
    return found


ACME, BETA = ("tenant", b"acme"), ("tenant", b"beta")


def test_no_null_goes_after_another_tenants_record_of_the_same_key_where_the_topic_is_compacted() -> None:
    found = in_headers(
        record(b"d1", b"1", ACME),
        record(b"d1", b"1", BETA),
        record(b"d2", b"1", ACME),
        record(b"d2", b"1", BETA),
        record(b"d2", b"1", ACME),
    )
    headers = headers_of("header", "tenant", "acme")
    nulls, unheard = found.nulls({"documents"}, lambda _: headers, lambda _: "")
    assert [(null.key, null.value, null.headers) for null in nulls] == [(b"d2", None, (ACME,))]
    assert unheard == {SHARED: 1}
    assert len(found.nulls(set(), lambda _: headers, lambda _: "")[0]) == 2, "where both records stay"
    assert found.nulls(set(), lambda _: headers, lambda _: "why") == ([], {"why": 2})


def test_of_records_without_a_key_no_null_is_claimed() -> None:
    found = in_headers(record(None, b"1", ACME), record(None, b"1", BETA), record(None, None, ACME))
    assert found.nulls({"documents"}, lambda _: (), lambda _: "") == ([], {NO_KEY: 1})
    assert not [line for line in told(DELETED, asked=True, found=found) if "nulls that follow" in line]
    assert any("none has a key, so no null removes them" in line for line in told(DELETED, found=found))


def test_what_the_backfill_would_bring_back_is_named_whether_or_not_nulls_were_asked_for() -> None:
    for asked in (False, True):
        for behind in (DELETED._replace(backfill=True), COMPACTED._replace(backfill=True)):
            (line,) = (line for line in told(behind, asked=asked) if line.startswith("documents holds"))
            assert "the backfill would bring it back: its records have to go, or PENSTOCK_INDEX__BACKFILL" in line


def test_what_brings_documents_back_names_the_audits_repair() -> None:
    assert any("penstock audit --repair" in line for line in told(DELETED))


def test_records_of_any_time_have_a_report() -> None:
    found = in_headers(replace(record(b"a", b"1", ACME), timestamp_ms=1_800_000_000_000_000_000))
    assert any("until 9999-12-31T23:59:59Z" in line for line in told(DELETED, asked=True, found=found))


def test_beside_a_copy_that_is_under_way_nothing_is_erased() -> None:
    model = ModelIdentity("model", "1", "mean", "", "", 4)
    current = Member("documents-1", "a", model, current=True)
    copied = Member("documents-2", "b", model, current=False, copies=True, copied=tuple(range(PARTS)))
    refuse_while_copied([current, copied])
    with pytest.raises(Misconfigured, match="a migration still copies into documents-2: wait until"):
        refuse_while_copied([current, replace(copied, copied=(1, 2))])


def test_a_report_that_cannot_be_written_is_told_before_anything_is_erased(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "nowhere" / "a.json", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(Misconfigured, match=f"--report {path} cannot be written: {why}"):
            erase_tenant("acme", yes=True, report=path)
