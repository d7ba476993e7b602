"""A value that is something else than the JSON of one event says what it is, and its dead letter what to do."""

import bz2
import gzip
import json
import lzma
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.documents import Op
from penstock.core.errors import InvalidEvent, Unforeseen
from penstock.core.records import Partition, Record
from penstock.events.document import decode
from penstock.events.frame import enveloped, json_object, misread
from penstock.events.rules import DocumentRules

BODY = json.dumps({"id": "weir/3", "text": "A weir of stone, moss and fürs Erste kein Holz."}, ensure_ascii=False)
VALUE = BODY.encode()
SNAPPY_FRAME = b"\xff\x06\x00\x00sNaPpY"
BEFORE = {"id": 3, "text": "A weir."}


def js(value: object) -> bytes:
    return json.dumps(value).encode()


def read(value: bytes | None, key: bytes | None = b"weir/3") -> Op:
    return decode(Record(Partition("documents", 0), 0, key, value), DocumentRules(envelope="none")).op


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"\0\0\0\x01\x02" + VALUE, r"schema registry's frame \(schema 258, JSON Schema\)"),
        (b"\0\0\0\0\x07\x0cweir/3\x2aA weir of stone.", r"schema registry's frame \(schema 7, Avro or Protobuf\)"),
        (b"\x03\x00" + bytes(range(16)) + VALUE, "AWS Glue's schema registry"),
        (gzip.compress(VALUE, mtime=0), "compressed .gzip.: unpack"),
        (zlib.compress(VALUE), "compressed .zlib."),
        (bz2.compress(VALUE), "compressed .bzip2."),
        (lzma.compress(VALUE), "compressed .xz."),
        (b"\x28\xb5\x2f\xfd\x04\x00" + VALUE, "compressed .zstd."),
        (SNAPPY_FRAME + VALUE, "compressed .snappy."),
        (BODY.encode("utf-16"), "in UTF-16: write UTF-8"),
        (BODY.encode("utf-16-le"), "in UTF-16"),
        (BODY.encode("utf-16-be"), "in UTF-16"),
        (BODY.encode("utf-32"), "in UTF-32"),
        (b"\0\0\xfe\xff" + BODY.encode("utf-32-be"), "in UTF-32"),
        ('{"id": "weir/3", "text": "Mühle"}'.encode("latin-1"), "not UTF-8: byte 0xfc at position 27; Latin-1"),
        (b"Obj\x01\x04\x14avro.codec", "an Avro file"),
        (b"PK\x03\x04\x14\x00", "a zip archive"),
        (b"<?xml version='1.0'?><weir/>", "XML or HTML"),
        (b"\n  <weir><id>3</id></weir>", "XML or HTML"),
        (js(BODY), "encoded twice: encode it once"),
        (js([BODY]), "a list: send what is in it one by one"),
        (b"[" * 100_000, "a list"),
        (js("weir"), "a JSON string, not an object"),
        (b'"' + b"[" * 100_000, "a JSON string"),
        (b"eyJpZCI6ICJ3ZWlyLzMifQ==", "JSON in Base64"),
        (str(json.loads(BODY)).encode(), "single quotes, like Python's"),
        (VALUE + b"\n" + VALUE, "several JSON objects: send them one by one"),
        (b"weir/3,A weir of stone", "no JSON object: it begins with 'weir/3,A weir of sto'"),
        (b"17", "no JSON object: it begins with '17'"),
        (b"", "empty: a tombstone is a null value"),
        (b" \r\n", "empty: a tombstone is a null value"),
        (b"null", "the text null: a tombstone is a null value"),
        (b"\xef\xbb\xbfnull\n", "the text null: a tombstone is a null value"),
        (js({"schema": None, "payload": None}), "Kafka Connect's envelope with nothing in it.*null value"),
        (js({"schema": {"type": "struct"}, "payload": BEFORE}), "Kafka Connect's envelope .*schemas.enable"),
        (js({"payload": {"op": "d", "before": BEFORE, "after": None}, "schema": {}}), "Kafka Connect's"),
        (js({"before": BEFORE, "after": None, "op": "d", "source": {}}), "Debezium's envelope.*ExtractNew"),
        (js({"after": BEFORE, "op": "c", "ts_ms": 5}), "Debezium's envelope"),
        (
            js({"specversion": "1.0", "id": "weir/3", "type": "t", "source": "s", "data": BEFORE}),
            "CloudEvents' envelope.*data",
        ),
    ],
)  # fmt: skip
def test_a_value_that_is_something_else_says_what(value: bytes, said: str) -> None:
    with pytest.raises(InvalidEvent, match=f"^the value is .*{said}") as caught:
        read(value)
    assert not isinstance(caught.value, Unforeseen)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_harmless() -> None:
    assert read(b"\xef\xbb\xbf" + VALUE) is Op.UPSERT


@pytest.mark.parametrize(
    "value",
    [
        b'{"id": 7, "text": "x"}',
        b'{"id": "weir/3"}',
        b'{"id": "weir/3", "text": "x", "op": "merge"}',
        b'{"id": "weir/3", "text": "x"',
        b'{"id": "weir/3", "text": 1, "schema": {}, "payload": {}}',
    ],
)
def test_an_object_that_is_wrong_is_told_where_it_is_wrong(value: bytes) -> None:
    with pytest.raises(InvalidEvent) as caught:
        read(value)
    assert not str(caught.value).startswith("the value is")


@given(st.binary(max_size=64), st.sampled_from([b"", b"{", b"[", b'"', b"\0\0\0\0\x01", b"\xef\xbb\xbf", b"\xff\xfe"]))
def test_any_bytes_are_looked_at_without_surprise(value: bytes, begin: bytes) -> None:
    for looked in (misread(begin + value), enveloped(json_object(begin + value) or {})):
        assert looked is None or "\n" not in looked


@given(st.text(max_size=40), st.dictionaries(st.text(max_size=5), st.text(max_size=40), max_size=3))
def test_no_event_is_taken_for_something_else(text: str, metadata: dict[str, str]) -> None:
    for indent in (None, 1):
        value = json.dumps({"id": "1", "text": text, "metadata": metadata}, ensure_ascii=False, indent=indent).encode()
        assert misread(value) is None
        assert enveloped(json_object(value) or {"before": 1, "op": "c"}) is None
