"""Records with fields of their own, as a mapping reads them: what each becomes, and what is said of a wrong one."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.core.documents import Event, Op, Order
from penstock.core.errors import InvalidEvent
from penstock.core.records import Partition, Record
from penstock.events.document import decode
from penstock.events.keyed import keyed
from penstock.events.mapping import IdMissing, MappingSpec
from penstock.events.rules import DocumentRules

ROW = {
    "_id": {"$oid": "65f1a2b3c4d5e6f708192a3b"},
    "region": "eu",
    "number": 7,
    "headline": "Sluices",
    "body": {"lead": "What a sluice is.", "parts": ["It lets water", "through a gate."]},
    "lang": "en",
    "created": 1714557600000,
    "until": "31.12.2030 18:00",
    "rev": "12",
    "status": "live",
    "author": {"name": "Ada", "mail": None},
    "tags": ["water", "gate"],
}
MAPPING = {"id": "_id", "text": "{body.lead}\n\n{body.parts}", "title": "headline", "language": "lang"}


def read(
    value: Any = ROW,
    key: Any = None,
    headers: tuple[tuple[str, bytes], ...] = (),
    *,
    rules: dict[str, Any] | None = None,
    **mapping: Any,
) -> Event:
    told = key.encode() if isinstance(key, str) else key if isinstance(key, bytes | None) else json.dumps(key).encode()
    body = None if value is None else json.dumps(value).encode()
    record = Record(Partition("articles", 0), 7, told, body, headers, timestamp_ms=1714557600123)
    spec = MappingSpec.model_validate_json(json.dumps(MAPPING | mapping))
    return decode(record, DocumentRules(mapping=spec, keyed=False, **(rules or {})))


def test_fields_are_found_by_path_and_joined_by_template() -> None:
    event = read()
    assert event.key.document == "65f1a2b3c4d5e6f708192a3b"
    assert event.text == "What a sluice is.\n\nIt lets water\nthrough a gate."
    assert (event.title, event.language, event.op) == ("Sluices", "en", Op.UPSERT)


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("number", "7"),
        ("/number", "7"),
        ("tags.1", "gate"),
        ("/author/name", "Ada"),
        ("author.name", "Ada"),
        ("{region}:{number}", "eu:7"),
        ("article-{number}", "article-7"),
        ("{{{number}}}", "{7}"),
        ("@topic", "articles"),
        ("@header.doc", "from a header"),
        ("@key.pk", "19"),
        ("{@topic}/{number}", "articles/7"),
    ],
)
def test_an_id_is_found(path: str, document: str) -> None:
    event = read(key={"pk": 19}, headers=(("doc", b"from a header"),), id=path, rules={"key": "ignore"})
    assert event.key.document == document


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=4, alphabet="a%:/-."), min_size=3, max_size=3, unique=True))
def test_no_two_ids_of_several_fields_are_the_same(parts: list[str]) -> None:
    """("a:b", "c") is not ("a", "b:c"), whatever joins them."""
    first, second, third = parts
    for between in (":", "/", "-", ".", "A-F", "%:"):
        template = f"{{region}}{between}{{number}}"
        rows = [(first, second), (first, third), (first + between + second, third), (first, second + between + third)]
        ids = [read({**ROW, "region": a, "number": b}, id=template).key.document for a, b in rows]
        assert len(set(ids)) == len(set(rows))


@pytest.mark.parametrize(
    ("at", "value", "moment"),
    [
        ("created", "2024-05-01T10:00:00Z", "2024-05-01T10:00:00Z"),
        ({"field": "created", "format": "epoch_s"}, 1714557600, "2024-05-01T10:00:00Z"),
        ({"field": "created", "format": "epoch_s"}, 1714557600.25, "2024-05-01T10:00:00.250000Z"),
        ({"field": "created", "format": "epoch_ms"}, "1714557600000", "2024-05-01T10:00:00Z"),
        ({"field": "created", "format": "epoch_us"}, 1714557600000001, "2024-05-01T10:00:00.000001Z"),
        ({"field": "created", "format": "epoch_ns"}, 1714557600123456789, "2024-05-01T10:00:00.123456Z"),
        ({"field": "created", "format": "date"}, "2024-05-01", "2024-05-01T00:00:00Z"),
        (
            {"field": "created", "format": "rfc3339", "zone": "Europe/Berlin"},
            "2024-05-01T12:00:00",
            "2024-05-01T10:00:00Z",
        ),
        (
            {"field": "created", "format": "rfc3339", "zone": "Europe/Berlin"},
            "2024-05-01T10:00:00Z",
            "2024-05-01T10:00:00Z",
        ),
        ({"field": "created", "format": "date", "zone": "Europe/Berlin"}, "2024-05-01", "2024-04-30T22:00:00Z"),
        ({"field": "created", "format": "%d.%m.%Y %H:%M"}, "01.05.2024 10:00", "2024-05-01T10:00:00Z"),
        ({"field": "created", "format": "%Y-%m-%d %H:%M:%S%z"}, "2024-05-01 12:00:00+0200", "2024-05-01T10:00:00Z"),
        ({"field": "/made/at", "format": "epoch_s"}, 5, None),
    ],
)
def test_moments_are_read_by_their_format(at: Any, value: Any, moment: str | None) -> None:
    assert read({**ROW, "created": value}, timestamp=at).timestamp == moment
    assert read({**ROW, "created": value}, timestamp="", expires_at=at).expires_at == moment


def test_time_to_live_counts_from_the_timestamp_or_from_the_record() -> None:
    stamp = {"field": "created", "format": "epoch_ms"}
    assert read(timestamp=stamp, ttl="2d").expires_at == "2024-05-03T10:00:00Z"
    assert read(ttl="90s").expires_at == "2024-05-01T10:01:30.123000Z"


@pytest.mark.parametrize(
    ("version", "value", "order"),
    [
        ("rev", "12", 12),
        ("rev", 12, 12),
        ({"field": "rev", "format": "rfc3339"}, "2024-05-01T10:00:00.5Z", 1714557600500000),
        ({"field": "rev", "format": "epoch_ms"}, 1714557600001, 1714557600001000),
        ({"field": "rev", "format": "epoch_ns"}, 1714557600123456789, 1714557600123456),
    ],
)
def test_versions_are_numbers_or_moments(version: Any, value: Any, order: int) -> None:
    assert read({**ROW, "rev": value}, version=version, rules={"order": "event"}).order == Order(order, (1 << 48) + 7)


@pytest.mark.parametrize(
    ("metadata", "made"),
    [
        ("author", {"name": "Ada", "mail": None}),
        ("", {}),
        ({"include": ["status", "author.name"]}, {"status": "live", "name": "Ada"}),
        ({"include": ["author"], "flatten": True}, {"author_name": "Ada"}),
        (
            {"include": [], "rename": {"author.name": "by", "tags": "labels"}},
            {"by": "Ada", "labels": ["water", "gate"]},
        ),
        ({"include": ["@topic", "@header.source"]}, {"topic": "articles", "source": "cms"}),
        (
            {"exclude": ["rev", "until", "region", "created"], "rename": {"status": "state"}},
            {"number": 7, "author": ROW["author"], "tags": ["water", "gate"], "state": "live"},
        ),
    ],
)
def test_metadata_is_made_of_what_is_asked_for(metadata: Any, made: dict[str, Any]) -> None:
    event = read(metadata=metadata, version="", headers=(("source", b"cms"),), rules={"unknown_fields": "ignore"})
    assert event.metadata == made


@pytest.mark.parametrize(
    ("when", "change", "gone"),
    [
        ({"field": "status", "equals": ["archived", "deleted"]}, {"status": "deleted"}, True),
        ({"field": "status", "equals": ["archived", "deleted"]}, {}, False),
        ({"field": "hidden"}, {"hidden": True}, True),
        ({"field": "hidden"}, {"hidden": "2024-05-01"}, True),
        ({"field": "hidden"}, {"hidden": 0}, False),
        ({"field": "hidden"}, {"hidden": 0.0}, False),
        ({"field": "hidden"}, {"hidden": "No"}, False),
        ({"field": "hidden"}, {"hidden": []}, False),
        ({"field": "hidden", "equals": [1]}, {"hidden": 1.0}, True),
        ({"field": "status", "equals": ["LIVE"]}, {}, True),
        ({"field": "hidden"}, {"hidden": None}, False),
        ({"field": "hidden", "equals": [True]}, {"hidden": "true"}, True),
        ({"field": "author.left", "equals": [3]}, {"author": {"left": 3}}, True),
    ],
)
def test_a_value_can_mean_a_delete(when: Any, change: Any, *, gone: bool) -> None:
    event = read({**ROW, **change}, delete_when=when)
    assert (event.op is Op.DELETE) == gone
    assert event.key.document == ROW["_id"]["$oid"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("key", "id_at", "style", "document"),
    [
        ("eu:7", "{region}:{number}", "text", "eu:7"),
        ({"region": "eu", "number": 7}, "{region}:{number}", "text", "eu:7"),
        ({"schema": {}, "payload": {"region": "eu", "number": 7}}, "{region}:{number}", "text", "eu:7"),
        ({"number": 7}, "article-{number}", "text", "article-7"),
        ("7", "article-{number}", "text", "article-7"),
        ('"7"', "number", "json", "7"),
        ("7", "number", "json", "7"),
        ((7).to_bytes(8), "number", "long", "7"),
        ((7).to_bytes(4), "number", "integer", "7"),
        ((-7).to_bytes(8, signed=True), "number", "long", "-7"),
        ({"id": '{"$oid": "65f1a2b3c4d5e6f708192a3b"}'}, "_id", "text", "65f1a2b3c4d5e6f708192a3b"),
    ],
)
def test_a_key_names_the_document_that_the_mapping_finds(key: Any, id_at: str, style: Any, document: str) -> None:
    """The tombstone and the value are of one document."""
    row = {**ROW, "number": int(document)} if document == "-7" else ROW
    rules = {"key_format": style}
    assert read(row, key, id=id_at, rules=rules).key.document == document
    gone = read(None, key, id=id_at, rules=rules)
    assert (gone.key.document, gone.op) == (document, Op.DELETE)


def test_a_field_can_name_the_tenant() -> None:
    rules = {"tenant_from": "field"}
    assert read(tenant="region", id="number", rules=rules).key == ("eu", "7")
    key = {"region": "eu", "number": 7}
    assert read(None, key, tenant="region", id="number", rules=rules).key == ("eu", "7")
    for value in (["eu"], True, 1.5):
        with pytest.raises(InvalidEvent, match=r"mapping\.tenant: 'region' is "):
            read({**ROW, "region": value}, tenant="region", id="number", rules=rules)
    twice = (("t", b"eu"), ("t", b"us"))
    with pytest.raises(InvalidEvent, match=r"mapping\.tenant: the record has several headers 't'"):
        read(headers=twice, tenant="@header.t", rules=rules)
    with pytest.raises(InvalidEvent, match=r"no tenant: index\.tenant_from = field"):
        read(None, "7", tenant="region", id="number", rules=rules)


def test_a_key_that_lacks_a_part_of_the_id_names_no_document() -> None:
    with pytest.raises(InvalidEvent, match=r"the key has no 'region', a part of mapping\.id; it has: number"):
        read(None, {"number": 7}, id="{region}:{number}")


def test_a_key_of_tenant_and_id_is_read_part_by_part() -> None:
    rules = {"tenant_from": "key"}
    for value in (ROW, None):
        assert read(value, "acme/7", id="article-{number}", rules=rules).key == ("acme", "article-7")
        assert read(value, '"acme/7"', id="number", rules={**rules, "key_format": "json"}).key == ("acme", "7")


@pytest.mark.parametrize(
    ("style", "id_at", "key"),
    [("text", "article-{number}", b"7"), ("json", "number", b'"7"'), ("long", "number", (7).to_bytes(8))],
)
def test_what_produce_sends_is_read_again(style: Any, id_at: str, key: bytes) -> None:
    spec = MappingSpec.model_validate_json(json.dumps(MAPPING | {"id": id_at}))
    rules = DocumentRules(mapping=spec, key_format=style)
    record = Record(Partition("articles", 0), 7, None, json.dumps(ROW).encode())
    message = keyed(record, "articles", replace(rules, keyed=False), "none")
    assert message.key == key
    assert decode(replace(record, key=message.key), rules).key.document == ("article-7" if style == "text" else "7")


def test_a_change_without_its_place_in_the_log_does_not_take_the_rows_own_version() -> None:
    change = {"before": None, "after": {**ROW, "version": 3}, "op": "u", "source": {}, "ts_ms": 1}
    with pytest.raises(InvalidEvent, match=r"there is no lsn, which index\.version_from takes"):
        read(change, version="version", rules={"order": "event", "version_from": "lsn"})


def test_where_offsets_cannot_be_compared_a_delete_says_its_version() -> None:
    scattered = {"order": "event", "scattered": True}
    with pytest.raises(InvalidEvent, match="a delete without a version: with several topics"):
        read(None, "7", id="number", rules=scattered)
    behind = read(None, "7", id="number", rules={**scattered, "version_from": "lsn"})
    assert (behind.order.version, behind.unversioned) == (0, False)


def test_debezium_with_a_mapping() -> None:
    change = {"before": None, "after": ROW, "op": "u", "ts_ms": 1, "source": {"table": "articles", "lsn": 99}}
    event = read(change, metadata={"include": ["@envelope.source.table"]})
    assert (event.key.document, event.metadata) == ("65f1a2b3c4d5e6f708192a3b", {"table": "articles"})
    assert event.through == ("debezium",)
    stored_as_text: dict[str, Any] = {"before": None, "after": json.dumps(ROW), "op": "c", "source": {}}
    assert read(stored_as_text).key.document == "65f1a2b3c4d5e6f708192a3b"
    gone = {"before": {"_id": ROW["_id"]}, "after": None, "op": "d", "source": {"lsn": 100}}
    assert read(gone).op is Op.DELETE


@pytest.mark.parametrize(
    ("row", "mapping", "said"),
    [
        ({"region": "eu"}, {}, "^mapping.id: there is no '_id'; the record has: region$"),
        ({**ROW, "_id": ["a"]}, {}, "mapping.id: '_id' is a list, and an id is a text or a whole number"),
        ({**ROW, "_id": 1.5}, {}, "mapping.id: '_id' is a fraction"),
        ({"_id": 1, "region": "eu"}, {"id": "{region}:{number}"}, "mapping.id: there is no 'number', and every part"),
        ({**ROW, "body": None}, {}, "^mapping.text: there is no '{body.lead}.*; the record has: _id, region"),
        (ROW, {"text": "author"}, "mapping.text: text is an object, no text"),
        (ROW, {"timestamp": "created"}, "mapping.timestamp: not RFC 3339"),
        (ROW, {"timestamp": {"field": "until", "format": "epoch_s"}}, "'31.12.2030 18:00' is no moment as epoch_s"),
        (ROW, {"timestamp": {"field": "until", "format": "date"}}, r"'31.12.2030 18:00' is not like %Y-%m-%d"),
        (ROW, {"timestamp": {"field": "created", "format": "epoch_s"}}, "'1714557600000' is no moment as epoch_s"),
        (ROW, {"metadata": "tags"}, r"metadata: Input should be (an object|a valid dictionary)"),
        (ROW, {"metadata": {"include": ["tags", "author.name"], "rename": {"region": "tags"}}}, "both called 'tags'"),
        ({**ROW, "deleted": True}, {}, "'deleted' is no field and sounds like a delete"),
        ({**ROW, "deleted": True}, {"metadata": {}}, "'deleted' is no field and sounds like a delete"),
        ({**ROW, "expiresAt": "2030"}, {}, "'expiresAt' is no field; did you mean expires_at"),
    ],
)
def test_a_record_that_does_not_fit_says_which_field(row: Any, mapping: Any, said: str) -> None:
    with pytest.raises(InvalidEvent, match=said):
        read(row, **mapping)


def test_only_a_missing_id_is_a_sign_of_a_wrong_mapping() -> None:
    with pytest.raises(IdMissing):
        read({"other": 1})
    with pytest.raises(InvalidEvent) as caught:
        read({**ROW, "_id": ["a"]})
    assert not isinstance(caught.value, IdMissing)


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"id": ""}, "at least 1 character"),
        ({"id": "a..b"}, "has an empty name in it"),
        ({"id": "{}"}, "an empty path"),
        ({"id": "{a"}, "is no template"),
        ({"id": "{a}{b}"}, "ids run together"),
        ({"id": "{a}%{b}"}, "ids run together"),
        ({"id": "{a}2F{b}"}, "ids run together"),
        ({"tenant": "{a}-{b}"}, "tenants run together"),
        ({"timestamp": {"field": "a", "format": "%Q"}}, "'%Q' is none of rfc3339"),
        ({"ttl": "999999999w"}, "longer than time"),
        ({"text": "@nowhere"}, "@key, @key.name"),
        ({"text": "@header"}, "@key, @key.name"),
        ({"timestamp": {"field": "a", "format": "epoch"}}, "'epoch' is none of rfc3339"),
        ({"timestamp": {"field": "a", "format": "date", "zone": "Mars/Base"}}, "no time zone"),
        ({"ttl": "soon"}, "no length of time"),
        ({"ttl": "1d", "expires_at": "until"}, "one of the two"),
        ({"metadata": {"include": ["{a}{b}"]}}, "is a template"),
        ({"metadat": "a"}, "Extra inputs"),
        ({"delete_when": {"field": "a..b"}}, "has an empty name in it"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_at_once(mapping: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MappingSpec.model_validate_json(json.dumps(mapping))


def test_a_mapping_that_says_nothing_changes_nothing() -> None:
    event = {
        "id": "a",
        "text": "A weir.",
        "title": "Weir",
        "metadata": {"year": 1},
        "timestamp": "2024-05-01T10:00:00Z",
    }
    record = Record(Partition("t", 0), 1, b"a", json.dumps(event).encode())
    plain, mapped = decode(record, DocumentRules()), decode(record, DocumentRules(mapping=MappingSpec()))
    assert plain == mapped


def test_headers_and_the_time_of_the_record() -> None:
    headers = (("source", b"cms"), ("year", b"1900"), ("other", b"x"))
    value = json.dumps({"id": "a", "text": "A weir.", "metadata": {"year": 1}}).encode()
    record = Record(Partition("t", 0), 1, b"a", value, headers, timestamp_ms=1714557600123)
    event = decode(record, DocumentRules(headers=("source", "year"), record_timestamp=True))
    assert event.metadata == {"source": "cms", "year": 1}
    assert event.timestamp == "2024-05-01T10:00:00.123000Z"
    with pytest.raises(InvalidEvent, match="header 'source' is not UTF-8"):
        decode(Record(Partition("t", 0), 1, b"a", value, (("source", b"\xff"),)), DocumentRules(headers=("source",)))
