"""Records become events, or dead letters that say why."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.documents import DocumentKey, Op, Order, epoch_base
from penstock.core.errors import InvalidEvent
from penstock.core.records import Partition, Record
from penstock.events.document import decode
from penstock.events.keys import TenantFrom
from penstock.events.rules import DocumentRules

OFFSET = DocumentRules()
EVENT = DocumentRules(order="event")
TOPIC = Partition("documents", 3)


def record(value: object, key: bytes | None = b"1", offset: int = 7, headers: Any = ()) -> Record:
    encoded = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    return Record(TOPIC, offset, key, encoded, headers)


def test_with_order_offset_version_and_sequence_are_epoch_and_offset() -> None:
    event = decode(record({"id": "1", "text": "x", "version": 99}), DocumentRules(sequence_base=epoch_base(2)))
    assert event.order == Order((2 << 48) + 7, (2 << 48) + 7)


def test_the_largest_epoch_and_offset_stay_below_2_to_the_53() -> None:
    assert epoch_base(31) + (1 << 48) - 1 < 2**53
    with pytest.raises(ValueError, match="31"):
        epoch_base(32)


def test_with_order_event_the_version_comes_first() -> None:
    assert decode(record({"id": "1", "text": "x", "version": 5}), EVENT).order == Order(5, (1 << 48) + 7)


def test_with_order_event_an_upsert_needs_a_version_and_a_delete_does_not() -> None:
    with pytest.raises(InvalidEvent, match="version is missing"):
        decode(record({"id": "1", "text": "x"}), EVENT)
    assert decode(record({"id": "1", "op": "delete"}), EVENT).unversioned
    assert decode(record(None), EVENT).unversioned
    assert not decode(record({"id": "1", "op": "delete", "version": 3}), EVENT).unversioned


def test_a_null_value_deletes_the_document_of_its_key() -> None:
    event = decode(record(None, key=b"wiki/1"), OFFSET)
    assert (event.op, event.key) == (Op.DELETE, DocumentKey("", "wiki/1"))


def test_a_tombstone_in_a_topic_of_tenants_names_the_tenant_in_its_key() -> None:
    event = decode(record(None, key=b"acme/wiki/1"), DocumentRules(tenant_from="key"))
    assert event.key == DocumentKey("acme", "wiki/1")


def test_the_tenant_comes_from_where_the_setting_says() -> None:
    body = {"id": "1", "text": "x"}
    header = (("tenant", b"acme"),)
    assert decode(record(body, key=b"acme/1"), DocumentRules(tenant_from="key")).key.tenant == "acme"
    assert decode(record(body, headers=header), DocumentRules(tenant_from="header")).key.tenant == "acme"
    assert decode(record(body), DocumentRules(tenant_from="fixed", tenant="acme")).key.tenant == "acme"
    assert decode(record(body), OFFSET).key.tenant == ""


@pytest.mark.parametrize(
    ("changes", "rules", "said"),
    [
        ({"key": None}, OFFSET, "no key"),
        ({"key": b"2"}, OFFSET, "contradicts"),
        ({"key": b"\xff"}, OFFSET, "not UTF-8"),
        ({"value": {"id": "\ufeff1", "text": "x"}, "key": b"\xef\xbb\xbf1"}, OFFSET, "contradicts"),
        ({"key": b"1"}, DocumentRules(tenant_from="key"), "not tenant/id"),
        ({"key": b"a b/1"}, DocumentRules(tenant_from="key"), "not tenant/id"),
        ({"key": b"acme/2"}, DocumentRules(tenant_from="key"), "contradicts"),
        ({}, DocumentRules(tenant_from="header"), "0 headers"),
        ({"headers": (("tenant", b"a"), ("tenant", b"b"))}, DocumentRules(tenant_from="header"), "2 headers"),
        ({"headers": (("tenant", b"a/b"),)}, DocumentRules(tenant_from="header"), "no tenant"),
        ({"value": None, "key": None}, OFFSET, "neither key nor value"),
        ({"value": None, "key": b""}, OFFSET, "key is empty"),
        ({"value": None, "key": b"1"}, DocumentRules(tenant_from="key"), "not tenant/id"),
        ({"value": {"id": "1", "tenant": "acme", "text": "x"}}, OFFSET, "tenant_from = none"),
        (
            {"value": {"id": "1", "tenant": "b", "text": "x"}},
            DocumentRules(tenant_from="fixed", tenant="a"),
            "says 'a'",
        ),
        ({"value": b"nope"}, OFFSET, "no JSON object: it begins with 'nope'"),
        ({"value": b'{"id": "1", "text": "\xff"}'}, OFFSET, "not UTF-8: byte 0xff"),
        ({"value": b'{"id": "1", "text": "\\ud800"}'}, OFFSET, "Invalid JSON"),
        ({"value": b'{"id":"1","text":"x","metadata":{"a":' + b"[" * 9999 + b"]" * 9999 + b"}}"}, OFFSET, "recursion"),
        ({"value": b'{"id":"1","text":"x","metadata":{"a":' + b"[" * 20 + b"]" * 20 + b"}}"}, OFFSET, "deeper"),
        ({"value": b'{"id":"1","text":"x","metadata":{"a":[NaN]}}'}, OFFSET, "metadata.a.0 is nan"),
        ({"value": b'{"id":"1","text":"x","metadata":{"a":1e999}}'}, OFFSET, "metadata.a is inf"),
        ({"value": b'{"id":"1","text":"x","metadata":{"a":99999999999999999999}}'}, OFFSET, "64 bits"),
        ({"value": {"id": "1", "text": "x" * 5_000_000}}, OFFSET, "max_event_bytes is 4000000"),
        ({"value": {"id": "1", "text": "x", "version": 2**53}}, OFFSET, "version: Input should be less"),
        ({"value": {"id": "1", "text": "x", "timestamp": "0001-01-01T00:00:00+05:00"}}, OFFSET, "years 1 to 9999"),
        ({"value": {"id": "1", "text": "x", "expires_at": "9999-12-31T23:59:59-05:00"}}, OFFSET, "years 1 to 9999"),
    ],
)
def test_what_cannot_be_indexed_says_why(changes: dict[str, Any], rules: DocumentRules, said: str) -> None:
    fields: dict[str, Any] = {"value": {"id": "1", "text": "x"}} | changes
    with pytest.raises(InvalidEvent, match=said):
        decode(record(**fields), rules)


def test_without_keys_the_body_says_whose_document_it_is() -> None:
    body = {"id": "1", "text": "x", "version": 1}
    assert decode(record(body, key=None), DocumentRules(keyed=False)).key.document == "1"
    assert decode(record(body, key=None), EVENT).key.document == "1"


def test_moments_are_kept_in_utc() -> None:
    event = decode(record({"id": "1", "text": "x", "expires_at": "2027-01-31T12:00:00+01:00"}), OFFSET)
    assert event.expires_at == "2027-01-31T11:00:00Z"


CANNOT_BE_IDS = [
    (b'"memo/3"', "the key is JSON in quotes"),
    (b'{"id": 3}', "the key is a JSON object"),
    (b'{"schema": {"type": "string"}, "payload": "memo/3"}', "the key is a JSON object"),
    (b'["memo", 3]', "the key is a JSON list"),
    (b"\0\0\0\0\x09memo/3", r"the key is in a schema registry's frame \(schema 9"),
    (b"\0\0\0\0\0\0\0\x03", "control character .0x00 at .*number in binary"),
    (b"\0\0\0\x03", "control character"),
    ("memo/3".encode("utf-16-le"), "control character .0x00 at .*UTF-16"),
    (b"memo/3\n", "control character .0x0a at .*a whole line"),
    (b"memo\x7f", "control character .0x7f at "),
    (b"\xac\xed\0\x05t\0\x06memo/3", "not UTF-8"),
    (b"m" * 1030, "has 10.. characters, at most 1024"),
]


@pytest.mark.parametrize(("key", "said"), CANNOT_BE_IDS)
@pytest.mark.parametrize("tenant_from", ["none", "key", "fixed"])
def test_a_tombstone_whose_key_cannot_be_an_id_deletes_nothing_and_says_so(
    key: bytes, said: str, tenant_from: TenantFrom
) -> None:
    tenant = "acme" if tenant_from == "fixed" else ""
    rules = DocumentRules(tenant_from=tenant_from, tenant=tenant, envelope="none")
    named = b"acme/" + key if tenant_from == "key" and key.startswith(b"m") else key
    with pytest.raises(InvalidEvent, match=said):
        decode(record(None, key=named), rules)


@pytest.mark.parametrize("name", ["memo\n3", "memo\x00", '"memo/3"', '{"id":3}'])
def test_an_id_that_no_tombstone_could_name_is_refused_in_a_body_too(name: str) -> None:
    with pytest.raises(InvalidEvent, match=r"the id (is JSON|is a JSON|holds a control)"):
        decode(record({"id": name, "text": "x"}, key=None), DocumentRules(keyed=False))


@pytest.mark.parametrize("name", ["17", "null", "[draft] memo", '"3" memos', "{3}", "memo 3", "größe/ñ", "a" * 1024])
def test_what_may_be_an_id_is_deleted_by_its_key(name: str) -> None:
    assert decode(record(None, key=name.encode()), OFFSET).key.document == name


def test_a_byte_order_mark_before_a_key_is_harmless() -> None:
    key = b"\xef\xbb\xbfmemo/3"
    assert decode(record(None, key=key), OFFSET).key.document == "memo/3"
    assert decode(record({"id": "memo/3", "text": "x"}, key=key), OFFSET).key.document == "memo/3"


@pytest.mark.parametrize("field", ["timestamp", "expires_at"])
@pytest.mark.parametrize(
    ("moment", "said"),
    [
        ("20301231", "not RFC 3339, like .*; this is '20301231'"),
        ("1767225600", "not RFC 3339"),
        ("1767225600000", "not RFC 3339"),
        (1767225600, "not RFC 3339, a string"),
        ("2026-01-01", "needs a time and a zone"),
        ("2026-01-01T10:00:00", "needs a zone"),
        ("2026-01-01T10:00Z", "not RFC 3339"),
        ("2026-01-01T10:00:00+0100", "not RFC 3339"),
        ("2026-01-01_10:00:00Z", "not RFC 3339"),
        ("Thu, 01 Jan 2026 10:00:00 GMT", "not RFC 3339"),
        ("2026-02-30T10:00:00Z", "no moment of the calendar"),
        ("", "not RFC 3339"),
    ],
)
def test_a_moment_is_rfc_3339_and_nothing_is_guessed(field: str, moment: object, said: str) -> None:
    with pytest.raises(InvalidEvent, match=f"{field}: .*{said}"):
        decode(record({"id": "1", "text": "x", field: moment}), OFFSET)


@pytest.mark.parametrize(
    ("moment", "kept"),
    [
        ("2026-01-01T10:00:00.123456789Z", "2026-01-01T10:00:00.123456Z"),
        ("2026-01-01T10:00:00.5+05:30", "2026-01-01T04:30:00.500000Z"),
        ("2026-01-01t10:00:00z", "2026-01-01T10:00:00Z"),
        ("2026-01-01 10:00:00-00:00", "2026-01-01T10:00:00Z"),
    ],
)
def test_all_that_rfc_3339_allows_is_read_to_the_microsecond(moment: str, kept: str) -> None:
    assert decode(record({"id": "1", "text": "x", "timestamp": moment}), OFFSET).timestamp == kept


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(value=st.binary(max_size=200) | JSON.map(lambda body: json.dumps(body).encode()), key=st.binary(max_size=12))
def test_any_bytes_become_an_event_or_an_invalid_event(value: bytes, key: bytes) -> None:
    for rules in (OFFSET, EVENT, DocumentRules(tenant_from="key"), DocumentRules(tenant_from="header")):
        with contextlib.suppress(InvalidEvent):
            decode(record(value, key=key), rules)


NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20).filter(
    lambda name: name[0] not in '"{[\ufeff'
)


@given(
    body=st.fixed_dictionaries(
        {"id": NAMES, "text": st.text(min_size=1).filter(str.strip)},
        optional={
            "title": st.text(),
            "version": st.integers(0, 2**53 - 1),
            "metadata": st.just({"a": [1, {"b": 2.5}]}),
        },
    )
)
def test_a_valid_body_keeps_its_content(body: dict[str, Any]) -> None:
    event = decode(record(body, key=body["id"].encode()), OFFSET)
    assert (event.key.document, event.text, event.title) == (body["id"], body["text"], body.get("title", ""))
    assert dict(event.metadata) == body.get("metadata", {})
