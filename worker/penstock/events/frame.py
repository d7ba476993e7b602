"""What a value looks like that is not the JSON object it should be, and what its producer has to change. Pure."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from penstock.core.formats import foreign, without_bom

MAGIC, FRAME_BYTES = 0, 5
"""Confluent's schema registry: a zero, then the schema's id in four bytes."""

MOST_SCHEMAS = 1 << 24
WIDE_BYTES = 9
"""Apicurio's own: a zero, then the id in eight bytes."""

NO_REGISTRY = "set PENSTOCK_REGISTRY__URL, or use a plain JSON or string serializer"

GLUE, GLUE_BYTES = (b"\x03\x00", b"\x03\x05"), 18
SHOWN = 20
PLAIN_CONNECT = "set the converter's schemas.enable = false"
BEGINNINGS: Mapping[bytes, str] = {
    b"<": "XML or HTML, not JSON",
    b"[": "a list: send what is in it one by one",
    b'"': "a JSON string, not an object",
    b"null": "the JSON text null",
    b"eyJ": "JSON in Base64: send it plain",
}
OBJECTS = re.compile(rb"\}\s*\n\s*\{")
"""No JSON value holds that: strings have no line ends."""


def misread(value: bytes) -> str | None:
    """What bytes are that no reader takes for a JSON object; None where they look like one, be it a wrong one."""
    if told := foreign(value) or framed(value):
        return told
    text = without_bom(value).strip()
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte {text[error.start]:#04x} at position {error.start}; Latin-1 or Windows-1252, perhaps"
    if not text.startswith(b"{"):
        return _no_object(text)
    if text.startswith((b"{'", b"{u'")):
        return "written with single quotes, like Python's dictionaries: JSON has double ones"
    if OBJECTS.search(text):
        return "several JSON objects: send them one by one"
    return None


def framed(value: bytes) -> str | None:
    """The frame that a schema registry's serializer puts before a key or a value; None where there is none."""
    if (number := schema_id(value)) is not None:
        form = (
            "JSON Schema" if without_bom(value[FRAME_BYTES:]).lstrip().startswith((b"{", b'"')) else "Avro or Protobuf"
        )
        return f"in a schema registry's frame (schema {number}, {form}): {NO_REGISTRY}"
    if len(value) > WIDE_BYTES and value.startswith(bytes(FRAME_BYTES)) and int.from_bytes(value[1:WIDE_BYTES]) > 0:
        return "in Apicurio's frame of eight bytes: set the serializer's id-handler to Legacy4ByteIdHandler"
    if len(value) > GLUE_BYTES and value.startswith(GLUE):
        return "in the frame of AWS Glue's schema registry: use a plain JSON or string serializer"
    return None


def schema_id(value: bytes) -> int | None:
    """The schema that Confluent's frame names; None where there is no frame."""
    number = int.from_bytes(value[1:FRAME_BYTES])
    return number if len(value) >= FRAME_BYTES and value[0] == MAGIC and 0 < number < MOST_SCHEMAS else None


def _no_object(text: bytes) -> str:
    if not text:
        return "empty"
    if text.startswith(b'"'):
        with suppress(ValueError, RecursionError):
            if json.loads(text).lstrip().startswith(("{", "[")):
                return "JSON inside a JSON string, encoded twice: encode it once"
    begin = f"no JSON object: it begins with {text[:SHOWN].decode(errors='ignore')!r}"
    return next((told for first, told in BEGINNINGS.items() if text.startswith(first)), begin)


def json_object(value: bytes) -> dict[str, Any] | None:
    """The fields of a JSON object; None where the value is none."""
    try:
        fields = json.loads(without_bom(value))
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def batch_of_one(value: bytes) -> dict[str, Any] | None:
    """The one CloudEvent of a batch; None for several, since a record is one event, and for all else."""
    if not without_bom(value).lstrip().startswith(b"["):
        return None
    try:
        found = json.loads(without_bom(value))
    except (ValueError, RecursionError):
        return None
    alone = isinstance(found, list) and len(found) == 1 and isinstance(found[0], dict)
    return found[0] if alone and envelope_of(found[0]) == "cloudevents" else None


def envelope_of(fields: Mapping[str, Any]) -> Literal["connect", "debezium", "cloudevents"] | None:
    """Which envelope these fields are, that no document event has together; None where they are none."""
    names = fields.keys()
    if names == {"schema", "payload"}:
        return "connect"
    if "op" in names and names & {"before", "after"}:
        return "debezium"
    return "cloudevents" if {"specversion", "type", "source"} <= names else None


def enveloped(fields: Mapping[str, Any]) -> str | None:
    """The envelope that a document lies in, which is not read here; None where there is none."""
    kind = envelope_of(fields)
    if kind == "connect":
        if fields["payload"] is None:
            return f"Kafka Connect's envelope with nothing in it, where a tombstone is a null value: {PLAIN_CONNECT}"
        return f"in Kafka Connect's envelope (schema, payload): {PLAIN_CONNECT}"
    if kind == "debezium":
        return "in Debezium's envelope (before, after, op): unwrap it with its transform ExtractNewRecordState"
    if kind == "cloudevents":
        return "in CloudEvents' envelope: send what is in data, or use the binary mode"
    return None
