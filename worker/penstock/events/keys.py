"""Which document a record is about: what its key, its tenant and its id have to be."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from penstock.core.documents import TENANT, DocumentKey
from penstock.core.errors import InvalidEvent
from penstock.core.formats import BOM, without_bom
from penstock.core.records import Record
from penstock.events.frame import framed

TenantFrom = Literal["key", "header", "field", "fixed", "none"]
KeyFormat = Literal["text", "json", "long", "integer"]
BINARY: Mapping[KeyFormat, int] = {"long": 8, "integer": 4}
"""How many bytes Kafka's serializers write."""

LONGEST_ID = 1024
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
JSON = {'"': "JSON in quotes", "{": "a JSON object", "[": "a JSON list"}
"""Which a string serializer would not have written; as keys they can be read."""

SHOWN = 80


def key_text(key: bytes) -> str:
    """A record's key, which names a document; raises InvalidEvent for one that cannot."""
    if told := framed(key):
        raise InvalidEvent(f"the key is {told}")
    try:
        text = without_bom(key).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidEvent(f"the key is not UTF-8: {error.reason} at byte {error.start}") from None
    _check(text, "the key")
    return text


def key_value(key: bytes, style: KeyFormat, *, structs: bool) -> Any:
    """What a key holds: a text, a number, or where ``structs`` may be keys or JSON is, an object.

    Raises InvalidEvent for a key of another format.
    """
    if size := BINARY.get(style):
        if len(key) != size:
            raise InvalidEvent(f"the key has {len(key)} bytes, and index.key_format = {style} means {size}")
        return int.from_bytes(key, signed=True)
    if style == "json" or (structs and without_bom(key).lstrip().startswith(b"{")):
        try:
            value = json.loads(without_bom(key))
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, str | int | dict):
            return value["payload"] if isinstance(value, dict) and value.keys() == {"schema", "payload"} else value
        if style == "json":
            raise InvalidEvent(f"the key is no text, number or object as JSON: {key[:SHOWN]!r}")
    return key_text(key)


def written_key(name: str, style: KeyFormat) -> bytes:
    """A key as ``key_value`` reads it; raises InvalidEvent for an id that is no number where keys are."""
    if size := BINARY.get(style):
        try:
            return int(name).to_bytes(size, signed=True)
        except (ValueError, OverflowError):
            raise InvalidEvent(f"the id {name[:SHOWN]!r} is no number, and index.key_format = {style}") from None
    return json.dumps(name, ensure_ascii=False).encode() if style == "json" else name.encode()


def check_id(text: str, what: str = "the id") -> None:
    """Raises InvalidEvent for what cannot be a document's id: no tombstone could ever name it."""
    if not text:
        raise InvalidEvent(f"{what} is empty")
    if len(text) > LONGEST_ID:
        raise InvalidEvent(f"{what} has {len(text)} characters, at most {LONGEST_ID} are allowed")
    _check(text, what)


def _check(text: str, what: str) -> None:
    if control := CONTROL.search(text):
        place = f"{ord(control[0]):#04x} at {control.start()}"
        raise InvalidEvent(
            f"{what} holds a control character ({place}), and an id has none: is it a number in binary (for "
            f"keys index.key_format = long), UTF-16, a whole line? {text[:SHOWN]!r}"
        )
    if kind := JSON.get(text[:1]):
        with suppress(ValueError, RecursionError):
            json.loads(text)
            raise InvalidEvent(
                f"{what} is {kind}, not a plain id (of keys index.key_format = json reads it): {text[:SHOWN]!r}"
            )


def split_key(text: str) -> tuple[str, str]:
    """Tenant and id of a key that is tenant/id; raises InvalidEvent for one that is not."""
    tenant, slash, document = text.partition("/")
    if not slash or not TENANT.fullmatch(tenant):
        raise InvalidEvent(f"key {text[:SHOWN]!r} is not tenant/id, as index.tenant_from = key asks")
    return tenant, document


def header_tenant(record: Record, name: str) -> str:
    """The tenant that a record's header names; raises InvalidEvent where it names none."""
    values = [value for header, value in record.headers if header == name]
    if len(values) != 1 or values[0] is None:
        raise InvalidEvent(f"tenant_from = header, and the record has {len(values)} headers {name!r}, not one")
    tenant = values[0].decode("utf-8", "replace")
    if not TENANT.fullmatch(tenant):
        raise InvalidEvent(f"header {name!r} holds {tenant[:40]!r}, no tenant (letters, digits, . _ -; up to 128)")
    return tenant


def check_key(given: bytes, key: DocumentKey, tenant_from: TenantFrom) -> None:
    """Raises InvalidEvent for a record's key that contradicts what the body says, whose id was checked."""
    expected = f"{key.tenant}/{key.document}" if tenant_from == "key" else key.document
    if (given != expected.encode() or given.startswith(BOM)) and (text := key_text(given)) != expected:
        raise InvalidEvent(f"key {text[:SHOWN]!r} contradicts the body, which says {expected[:SHOWN]!r}")
