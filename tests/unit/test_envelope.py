"""Documents in the envelopes of other tools: what each becomes, and what is said of one that becomes nothing."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.documents import Event, Op
from penstock.core.errors import InvalidEvent
from penstock.core.records import Partition, Record
from penstock.events.document import decode
from penstock.events.mapping import MappingSpec
from penstock.events.metadata import MetadataFrom
from penstock.events.rules import DocumentRules

ROW = {"id": 19, "title": "Sluice", "text": "A sluice lets water through a gate."}
SOURCE = {"db": "w", "table": "articles", "lsn": 24023128}
STRUCT = {"type": "struct", "fields": [{"type": "int32", "field": "id"}]}
CLOUD = {"specversion": "1.0", "type": "com.example.article", "source": "/articles", "id": "A234-1234-1234"}
KEYS: list[Any] = [
    "19",
    {"id": 19},
    {"schema": STRUCT, "payload": {"id": 19}},
    {"schema": {"type": "int32"}, "payload": 19},
]


def read(value: Any, key: Any = "19", headers: tuple[tuple[str, bytes], ...] = (), **rules: Any) -> Event:
    told = key.encode() if isinstance(key, str) else None if key is None else json.dumps(key).encode()
    body = None if value is None else json.dumps(value).encode()
    return decode(Record(Partition("articles", 0), 7, told, body, headers), DocumentRules(**rules))


def changed(op: str, **sides: Any) -> dict[str, Any]:
    return {"before": None, "after": None, "source": SOURCE, "op": op, "ts_ms": 1714557600000, **sides}


HELD = [
    (changed("c", after=ROW), "debezium"),
    (changed("r", after=ROW), "debezium"),
    (changed("u", before={"id": 19}, after=ROW), "debezium"),
    ({"schema": {}, "payload": changed("c", after=ROW)}, "debezium"),
    ({**ROW, "__deleted": "false", "__op": "c", "__lsn": 24023128}, "debezium"),
    ({"schema": STRUCT, "payload": ROW}, "connect"),
    ({**CLOUD, "datacontenttype": "application/json", "data": ROW}, "cloudevents"),
    ({**CLOUD, "data": json.dumps(ROW)}, "cloudevents"),
    ({**CLOUD, "data_base64": base64.b64encode(json.dumps(ROW).encode()).decode()}, "cloudevents"),
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("value", "name"), HELD)
def test_a_document_in_an_envelope_is_that_document(value: Any, name: str, key: Any) -> None:
    for envelope in ("auto", name):
        event = read(value, key, envelope=envelope)
        assert (event.op, event.key.document, event.title, event.text) == (Op.UPSERT, "19", ROW["title"], ROW["text"])
        assert event.through == (name,)


@pytest.mark.parametrize(("value", "name"), HELD)
def test_an_envelope_that_is_not_to_be_opened_is_refused(value: Any, name: str) -> None:
    others = {"none", "debezium", "connect", "cloudevents"} - {name}
    for envelope in others:
        if "__deleted" in value:
            continue  # flattened rows are documents with fields more
        if "payload" in value and envelope == "connect":
            continue  # what is in it is another envelope, and no document
        with pytest.raises(InvalidEvent):
            read(value, envelope=envelope)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "value",
    [
        changed("d", before={"id": 19, "title": None, "text": None}),
        changed("d"),
        {"schema": {}, "payload": changed("d", before={"id": 19})},
        {**ROW, "__deleted": "true", "__op": "d"},
        {"id": 19, "title": None, "text": None, "__deleted": True},
        None,
    ],
)
def test_a_row_that_is_deleted_and_the_tombstone_that_follows_delete_its_document(value: Any, key: Any) -> None:
    event = read(value, key)
    assert (event.op, event.key.document) == (Op.DELETE, "19")


def test_what_a_flattened_row_says_is_heard_whatever_becomes_of_unknown_fields() -> None:
    row = {"id": "19", "text": "A sluice.", "__deleted": "true"}
    assert read(row, unknown_fields="ignore").op is Op.DELETE
    with pytest.raises(InvalidEvent, match="sounds like a delete"):
        read(row, envelope="cloudevents")
    for envelope in ("auto", "cloudevents", "connect", "none"):
        assert read({**row, "__deleted": "false", "specversion": "1.0"}, envelope=envelope).op is Op.UPSERT


def test_a_key_of_tenant_and_id_names_the_document_of_a_row_that_does_not() -> None:
    for value in (changed("u", after={"text": "A weir."}), changed("d")):
        assert read(value, "acme/19", tenant_from="key").key == ("acme", "19")


@pytest.mark.parametrize("version_from", ["lsn", "ts_ms"])
def test_a_change_is_as_new_as_the_log_says(version_from: str) -> None:
    for op, sides in (("u", {"after": ROW}), ("d", {"before": {"id": 19}})):
        event = read(changed(op, **sides), order="event", version_from=version_from)
        assert event.order.version == (24023128 if version_from == "lsn" else 1714557600000)
    with pytest.raises(InvalidEvent, match=r"in Debezium's envelope: there is no lsn, which index\.version_from takes"):
        read(changed("c", after=ROW, source={}), order="event", version_from="lsn")
    with pytest.raises(InvalidEvent, match="in Debezium's envelope: version: "):
        read(changed("c", after=ROW, source={"lsn": 2**60}), order="event", version_from="lsn")


def test_data_that_is_not_there_deletes_where_a_setting_says_so() -> None:
    binary = (("ce_specversion", b"1.0"), ("ce_id", b"1"))
    for value, headers in ((CLOUD, ()), (None, binary)):
        with pytest.raises(InvalidEvent, match=r"CloudEvents' envelope.*index.empty_data = delete"):
            read(value, headers=headers)
        event = read(value, headers=headers, empty_data="delete")
        assert (event.op, event.key.document) == (Op.DELETE, "19")
    assert read({"id": "19", "text": "In binary mode."}, headers=binary).text == "In binary mode."


@pytest.mark.parametrize(
    ("value", "key", "said"),
    [
        (changed("t"), "19", "the table was truncated"),
        (changed("m"), "19", "op 'm' in Debezium's envelope is none of"),
        (changed("c"), "19", "after is NoneType, no object"),
        (changed("c", after={"id": 19, "title": "Weir"}), "19", "^in Debezium's envelope: text is missing"),
        (
            changed("c", after={**ROW, "id": 1.5}),
            "19",
            "^in Debezium's envelope: id is a fraction, and an id is a text",
        ),
        (changed("c", after={"text": "A weir."}), None, "^in Debezium's envelope: "),
        (changed("c", after=ROW), "20", "^in Debezium's envelope: key '20' contradicts the body, which says '19'"),
        (changed("c", after=ROW), {"a": 1, "b": 2}, r"the key has 2 fields \(a, b\)"),
        ({**ROW, "__deleted": "perhaps"}, "19", "__deleted is 'perhaps', neither true nor false"),
        ({"schema": STRUCT, "payload": None}, "19", "with nothing in it, where a tombstone is a null value"),
        ({"schema": STRUCT, "payload": [1]}, "19", "the payload in Kafka Connect's envelope is list, no object"),
        ({**CLOUD, "data": "<a/>"}, "19", "data in CloudEvents' envelope is no JSON"),
        ({**CLOUD, "data_base64": "?"}, "19", "data_base64 in CloudEvents' envelope is no UTF-8 text in Base64"),
        ({**CLOUD, "data": [ROW]}, "19", "data is list, no object"),
        ([{**CLOUD, "data": ROW}, {**CLOUD, "data": ROW}], "19", "a list: send what is in it one by one"),
        ({**CLOUD, "datacontenttype": "text/plain", "data": "A weir."}, "19", "CloudEvents' envelope: text is missing"),
    ],
)
def test_what_becomes_nothing_says_why(value: Any, key: Any, said: str) -> None:
    with pytest.raises(InvalidEvent, match=said):
        read(value, key)


SPECIFIED = {
    "specversion": "1.0",
    "type": "com.example.someevent",
    "source": "/mycontext",
    "id": "A234-1234-1234",
    "time": "2018-04-05T17:31:00Z",
    "comexampleextension1": "value",
    "comexampleothervalue": 5,
}
XML = '<much wow="xml"/>'
APP = {"appinfoA": "abc", "appinfoB": 123, "appinfoC": True}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({**SPECIFIED, "unsetextension": None, "datacontenttype": "text/xml", "data": XML}, XML),
        (
            {
                **SPECIFIED,
                "datacontenttype": "application/vnd.apache.thrift.binary",
                "data_base64": base64.b64encode(XML.encode()).decode(),
            },
            XML,
        ),
        ({**SPECIFIED, "datacontenttype": "application/json", "data": APP}, "abc"),
        ({**SPECIFIED, "datacontenttype": "application/vnd.x+json", "data": json.dumps(APP)}, "abc"),
        ([{**SPECIFIED, "data": APP}], "abc"),
    ],
)
def test_the_specifications_own_examples_with_a_mapping(value: Any, text: str) -> None:
    """Whose ids and times are around the data."""
    mapping = MappingSpec(
        id="@envelope.id",
        text="{data}{appinfoA}",
        timestamp="@envelope.time",
        metadata=MetadataFrom(include=("@envelope.type",)),
    )
    event = read(value, None, keyed=False, mapping=mapping)
    assert (event.key.document, event.text, event.timestamp) == ("A234-1234-1234", text, "2018-04-05T17:31:00Z")
    assert event.metadata == {"type": "com.example.someevent"}
    assert event.through == ("cloudevents",)


@pytest.mark.parametrize(
    ("style", "body", "text"),
    [
        ("application/json; charset=utf-8", json.dumps(APP).encode(), "abc"),
        ("text/html", "<p>Ein Wéhr.</p>".encode(), "<p>Ein Wéhr.</p>"),
    ],
)
def test_attributes_of_the_binary_mode_are_headers(style: str, body: bytes, text: str) -> None:
    headers = tuple((f"ce_{name}", str(given).encode()) for name, given in SPECIFIED.items())
    record = Record(Partition("t", 0), 1, None, body, (*headers, ("content-type", style.encode())))
    mapping = MappingSpec(id="@envelope.id", text="{data}{appinfoA}", timestamp="@envelope.time")
    event = decode(record, DocumentRules(mapping=mapping, keyed=False))
    assert (event.key.document, event.text, event.timestamp) == ("A234-1234-1234", text, "2018-04-05T17:31:00Z")


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda part: st.dictionaries(
    st.sampled_from(["schema", "payload", "op", "before", "after", "data", "id", "text", "__deleted", "specversion",
                     "type", "source"]), part, max_size=5), max_leaves=12))  # fmt: skip
def test_whatever_lies_in_an_envelope_becomes_an_event_or_is_refused(value: Any) -> None:
    try:
        event = read(value if isinstance(value, dict) else {"payload": value}, None, keyed=False)
    except InvalidEvent:
        return
    assert event.key.document
