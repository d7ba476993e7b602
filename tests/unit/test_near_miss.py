"""A field that resembles one that is read, or sounds like a delete, is asked about; any other may be there."""

import json
import threading
from typing import Any

import pytest
import structlog

from penstock.assembly.index import IndexWorker
from penstock.assembly.membership import Stream
from penstock.core.documents import Op
from penstock.core.errors import InvalidEvent
from penstock.core.records import Outcome, Partition, Record
from penstock.events.document import decode
from penstock.events.rules import DocumentRules, UnknownFields
from penstock.fakes import HashEmbedder, MemoryDeadLetters, MemorySource, MemoryStore, WordTokenizer, unchanging
from penstock.index.chunking import Chunker, ChunkRules
from penstock.settings import IndexSettings

LOCK: dict[str, Any] = {"id": "lock/2", "text": "The lock lifts ships by nine metres."}


def read(body: dict[str, Any], unknown_fields: UnknownFields = "refuse_similar") -> Op:
    record = Record(Partition("documents", 0), 0, None, json.dumps(body).encode())
    return decode(record, DocumentRules(keyed=False, unknown_fields=unknown_fields, envelope="none")).op


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("expiresAt", "2031-01-01T00:00:00Z", "expires_at"),
        ("ExpiresAt", "2031-01-01T00:00:00Z", "expires_at"),
        ("expires-at", "2031-01-01T00:00:00Z", "expires_at"),
        ("expire_at", "2031-01-01T00:00:00Z", "expires_at"),
        ("expires", 1924992000, "expires_at"),
        ("expiry", "2031-01-01T00:00:00Z", "expires_at"),
        ("Op", "delete", "op"),
        ("OP", "upsert", "op"),
        ("_op", "delete", "op"),
        ("tenantId", "acme", "tenant"),
        ("tenant_id", "acme", "tenant"),
        ("Tenant", "acme", "tenant"),
        ("tenent", "acme", "tenant"),
        ("Version", 4, "version"),
        ("versoin", 4, "version"),
        ("Title", "Lock", "title"),
        ("titel", "Lock", "title"),
        ("langauge", "en", "language"),
        ("lang", "en", "language"),
        ("timeStamp", "2026-03-01T00:00:00Z", "timestamp"),
        ("timestamp_ms", 1772352000000, "timestamp"),
        ("Metadata", {"a": 1}, "metadata"),
        ("meta", {"a": 1}, "metadata"),
        ("ｔｉｔｌｅ", "Lock", "title"),  # noqa: RUF001  # as full-width keyboards write it
    ],
)
def test_a_near_miss_is_asked_about(name: str, value: object, meant: str) -> None:
    with pytest.raises(InvalidEvent, match=f"is no field; did you mean {meant}?"):
        read(LOCK | {name: value})
    assert read(LOCK | {name: value}, "ignore") is Op.UPSERT
    assert read(LOCK | {name: None}) is Op.UPSERT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("deleted", True), ("isDeleted", True), ("is_deleted", 1), ("_deleted", True), ("__deleted", "true"),
        ("__op", "d"),
        ("deleted_at", "2026-03-01T00:00:00Z"), ("deletedAt", 1772352000), ("removed", "yes"), ("tombstone", True),
        ("delete", "true"),
    ],
)  # fmt: skip
def test_what_sounds_like_a_delete_is_never_indexed(name: str, value: object) -> None:
    with pytest.raises(InvalidEvent, match=r"sounds like a delete: send .*a null value"):
        read(LOCK | {name: value})
    with pytest.raises(InvalidEvent, match="sounds like a delete"):
        read({"id": "lock/2", "text": None, name: value})
    assert read(LOCK | {name: value}, "ignore") is Op.UPSERT
    assert read({"id": "lock/2", "op": "delete", name: value}) is Op.DELETE


@pytest.mark.parametrize(
    "fields",
    [
        {"colour": "red"},
        {"tags": ["a"], "url": "https://example.org", "type": "x", "name": "x", "body": "x", "time": "x", "top": 1},
        {"ids": ["1"], "uid": "1", "opt": 1, "ops": 2, "test": True, "next": "x", "content": "x", "conversion": 0.5},
        {"versions": [1, 2], "languages": ["de"], "titles": ["x"]},
        {"deleted": False, "__deleted": "false", "__op": "c", "__source_ts_ms": 5, "deleted_at": None, "removed": 12},
        {"_id": "65f", "ID": "65f", "Text": "another"},
        {"action": "delete", "operation": "delete"},
        {"title": "x", "Title": "y", "timestamp": "2026-03-01T00:00:00Z", "timestamp_ms": 5},
    ],
    ids=",".join,
)
def test_what_resembles_nothing_or_stands_beside_what_it_resembles_may_be_there(fields: dict[str, Any]) -> None:
    assert read(LOCK | fields) is Op.UPSERT


def test_a_delete_is_not_held_up_by_what_means_nothing_to_it() -> None:
    delete = {"id": "lock/2", "op": "delete"}
    assert read(delete | {"expiresAt": "2031-01-01T00:00:00Z", "deleted": True, "Title": "x"}) is Op.DELETE
    with pytest.raises(InvalidEvent, match="did you mean tenant"):
        read(delete | {"tenantId": "acme"})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"_id": "lock/2", "text": "x"}, "id: Field required; '_id' is no field; did you mean id"),
        ({"Id": "lock/2", "text": "x"}, "'Id' is no field; did you mean id"),
        ({"id": "lock/2", "Text": "x"}, "'Text' is no field; did you mean text"),
        ({"id": 2, "text": "x", "titel": "x"}, "id: Input should be a valid string; 'titel' is no field"),
    ],
)
def test_a_field_that_is_missing_is_looked_for(body: dict[str, Any], said: str) -> None:
    settings: tuple[UnknownFields, ...] = ("refuse_similar", "ignore")
    for setting in settings:
        with pytest.raises(InvalidEvent, match=said) as caught:
            read(body, setting)
        assert str(caught.value).count("is no field") == 1


def test_a_field_that_nobody_reads_is_named_once_in_the_log() -> None:
    source, letters = MemorySource(), MemoryDeadLetters()
    for n in range(5):
        more: dict[str, Any] = {"colour": "red", "tags": []} if n else {"expiresAt": "soon"}
        source.append(b"lock/2", json.dumps(LOCK | more).encode())
    chunks = Chunker(WordTokenizer(), ChunkRules(16, 4, title=True, prompt="", most=6))
    stream = Stream(source, letters, DocumentRules())
    worker = IndexWorker(IndexSettings(), stream, unchanging, MemoryStore(), chunks, 1, HashEmbedder())
    with structlog.testing.capture_logs() as logged:
        report = worker.run(threading.Event())
    assert +report.totals == {Outcome.INDEXED: 1, Outcome.SUPERSEDED: 3, Outcome.DEAD_LETTERED: 1}
    assert [line["name"] for line in logged if line["event"] == "unknown_field"] == ["colour", "tags"]
    assert "did you mean expires_at" in str(letters.letters[0].error)
