"""The envelopes that other tools put a document into, opened: Debezium's, Kafka Connect's, CloudEvents'. Pure.

Each is known by its fields, which no document event has together. What an envelope holds is the document's fields as
they are now, or that it is gone.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from penstock.core.errors import InvalidEvent
from penstock.core.formats import without_bom
from penstock.core.records import Headers
from penstock.events.frame import envelope_of, enveloped, json_object

Envelope = Literal["auto", "none", "debezium", "connect", "cloudevents"]
VersionFrom = Literal["", "ts_ms", "lsn"]
EmptyData = Literal["refuse", "delete"]

EMPTY = "to delete its document then, set index.empty_data = delete"

NAMES: Mapping[str, str] = {
    "avro": "Avro",
    "json": "a registry's JSON",
    "protobuf": "Protobuf",
    "debezium": "Debezium's envelope",
    "connect": "Kafka Connect's envelope",
    "cloudevents": "CloudEvents' envelope",
}

DELETED, ADDED = "__deleted", "__"
"""What Debezium's flattening transform (ExtractNewRecordState) adds to a row."""

TELLING = frozenset({DELETED, "specversion"})
"""Fields of envelopes that look like documents otherwise."""

ATTRIBUTE, BINARY = "ce_", "ce_specversion"
"""How headers of CloudEvents' binary mode begin, whose value is the document itself; and one that each event has."""

DATA, JSON, JSON_TYPE = "data", "application/json", re.compile(r"[/+]json\b", re.IGNORECASE)
"""What an event's data that is no JSON is called as a field, and how types of JSON are told."""

Fields = dict[str, Any]


class Opened(NamedTuple):
    """What lay in the envelope of that ``name``: the document's fields, or ``gone`` with those that name it.

    ``versions`` are numbers that grow with each change, by what ``index.version_from`` calls them; ``around`` is all of
    the envelope.
    """

    name: str
    fields: Fields
    gone: bool = False
    versions: Mapping[str, Any] = {}
    around: Mapping[str, Any] = {}


def opened(fields: Fields, wanted: Envelope, empty_data: EmptyData = "refuse") -> Opened | None:
    """What an envelope of the ``wanted`` kind holds; None where the fields are in none.

    Raises InvalidEvent for one that holds nothing that can be indexed or deleted.
    """
    if wanted == "none":
        return None
    kind = envelope_of(fields)
    if kind == "connect":
        return _of_connect(fields, wanted, empty_data)
    if wanted in ("auto", "debezium"):
        if kind == "debezium":
            return _of_debezium(fields)
        if DELETED in fields:
            return _flattened(fields)
    if wanted in ("auto", "cloudevents") and kind == "cloudevents":
        return _of_cloudevents(fields, empty_data)
    return None


def without_data(headers: Headers) -> bool:
    """Whether a null value is an event of CloudEvents' binary mode that has no data, hence no tombstone."""
    return any(name == BINARY for name, _ in headers)


def in_binary_mode(headers: Headers, value: bytes, fields: Fields | None) -> Opened | None:
    """An event of CloudEvents' binary mode: its attributes are headers; None for any other record."""
    told = {name: (given or b"").decode(errors="replace") for name, given in headers}
    if BINARY not in told:
        return None
    around = {name.removeprefix(ATTRIBUTE): given for name, given in told.items() if name.startswith(ATTRIBUTE)}
    if fields is None:
        style = told.get("content-type", JSON)
        if JSON_TYPE.search(style):
            return None
        try:
            fields, around["datacontenttype"] = {DATA: without_bom(value).decode()}, style
        except UnicodeDecodeError:
            return None
    return Opened("cloudevents", fields, around=around)


def _of_connect(fields: Fields, wanted: Envelope, empty_data: EmptyData) -> Opened | None:
    payload = fields["payload"]
    if payload is None:
        raise InvalidEvent(f"the value is {enveloped(fields)}")
    if not isinstance(payload, dict):
        raise InvalidEvent(f"the payload in {NAMES['connect']} is {type(payload).__name__}, no object")
    inner = opened(payload, wanted, empty_data) if envelope_of(payload) != "connect" else None
    return inner or (Opened("connect", payload) if wanted in ("auto", "connect") else None)


def _of_debezium(fields: Fields) -> Opened:
    op, source = fields["op"], fields.get("source")
    versions = {"ts_ms": fields.get("ts_ms"), "lsn": source.get("lsn") if isinstance(source, dict) else None}
    if op in ("c", "r", "u"):
        return Opened("debezium", _row(fields.get("after"), "after"), versions=versions, around=fields)
    if op == "d":
        before = {} if fields.get("before") is None else _row(fields["before"], "before")
        return Opened("debezium", before, gone=True, versions=versions, around=fields)
    if op == "t":
        raise InvalidEvent(
            "Debezium tells that the table was truncated, and not which rows it had: delete their documents, "
            "or index into a new collection"
        )
    raise InvalidEvent(f"op {str(op)[:20]!r} in {NAMES['debezium']} is none of c, r, u, d and t")


def _flattened(fields: Fields) -> Opened:
    row = {name: value for name, value in fields.items() if not name.startswith(ADDED)}
    versions = {"ts_ms": fields.get("__ts_ms", fields.get("__source_ts_ms")), "lsn": fields.get("__lsn")}
    said = str(fields[DELETED]).lower()
    if said not in ("true", "false"):
        raise InvalidEvent(f"{DELETED} is {str(fields[DELETED])[:20]!r}, neither true nor false")
    return Opened("debezium", row, gone=said == "true", versions=versions, around=fields)


def _of_cloudevents(fields: Fields, empty_data: EmptyData) -> Opened:
    data, style = fields.get("data"), str(fields.get("datacontenttype") or JSON)
    if "data_base64" in fields:
        try:
            data = base64.b64decode(fields["data_base64"], validate=True).decode()
        except (TypeError, binascii.Error, UnicodeDecodeError):
            raise InvalidEvent(f"data_base64 in {NAMES['cloudevents']} is no UTF-8 text in Base64") from None
    if isinstance(data, str) and not JSON_TYPE.search(style):
        data = {DATA: data}
    elif isinstance(data, str):
        try:
            data = json.loads(data)
        except (ValueError, RecursionError):
            raise InvalidEvent(f"data in {NAMES['cloudevents']} is no JSON") from None
    if data is None and empty_data == "delete":
        return Opened("cloudevents", {}, gone=True, around=fields)
    if data is None:
        raise InvalidEvent(f"there is no data in {NAMES['cloudevents']}: {EMPTY}")
    return Opened("cloudevents", _row(data, DATA), around=fields)


def _row(value: Any, name: str) -> Fields:
    """An object, which of MongoDB's documents is one as JSON in a text."""
    if isinstance(value, str):
        value = json_object(value.encode()) or value
    if not isinstance(value, dict):
        raise InvalidEvent(f"{name} is {type(value).__name__}, no object")
    return value
