"""Records that are no document events as they are, step by step: frame, envelope, mapping. Only a registry is asked."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from penstock.core.errors import InvalidEvent
from penstock.core.records import Record
from penstock.events.envelope import NAMES, Opened, in_binary_mode, opened
from penstock.events.frame import batch_of_one, json_object, schema_id
from penstock.events.keys import BINARY, key_value, split_key
from penstock.events.rules import DocumentRules
from penstock.events.selectors import Seen, identifier


class Unpacked(NamedTuple):
    """A document event's fields, made of a record.

    ``key`` is what the record's key names; ``through`` what the fields lay in, the outermost first; ``unread`` what is
    left of the record's own fields, which with ``kept`` are metadata.
    """

    fields: dict[str, Any]
    key: str | None
    through: tuple[str, ...]
    unread: Mapping[str, Any] = {}
    kept: bool = False


class Within(NamedTuple):
    """What a record went through so far."""

    steps: tuple[str, ...] = ()

    def told(self, error: InvalidEvent) -> InvalidEvent:
        """The error with what came before it."""
        where = ", ".join(f"in {NAMES[step]}" for step in self.steps)
        return type(error)(f"{where}: {error}") if where else error


def unpack(record: Record, rules: DocumentRules) -> Unpacked | None:
    """What a record with a value holds; None for one that can only be a document event as it is.

    Raises InvalidEvent that says in which step, and Unavailable where the registry is away.
    """
    steps: tuple[str, ...] = ()
    value = record.value or b""
    if rules.registry is not None and schema_id(value) is not None:
        read = rules.registry.read(value)
        steps, fields = (read.form,), read.value
        if not isinstance(fields, dict):
            raise Within(steps).told(InvalidEvent(f"the value is {type(fields).__name__}, no record of fields"))
    else:
        fields = batch_of_one(value) if (found := json_object(value)) is None else found
    try:
        held = None if fields is None else opened(fields, rules.envelope, rules.empty_data)
        if held is None and rules.envelope in ("auto", "cloudevents"):
            held = in_binary_mode(record.headers, value, fields)
        if held is None and (fields is None or (not steps and rules.direct)):
            return None
        held = held or Opened("", fields or {})
        steps += (held.name,) if held.name else ()
        return _document(record, rules, held, steps)
    except InvalidEvent as error:
        raise Within(steps).told(error) from None


def key_name(record: Record, rules: DocumentRules) -> str | None:
    """The document (or tenant/document) that a record's key names; None where there is none, or it does not count."""
    key = None if rules.key == "ignore" else read_key(record, rules)
    if key is None:
        return None
    if rules.mapping is not None and rules.tenant_from == "key" and not isinstance(key, Mapping):
        tenant, document = split_key(identifier(key, "the key"))
        return f"{tenant}/{rules.mapping.id_of_key(document, record) or document}"
    if rules.mapping is not None and (told := rules.mapping.id_of_key(key, record)) is not None:
        return told
    if isinstance(key, Mapping):
        if len(key) != 1:
            raise InvalidEvent(
                f"the key has {len(key)} fields ({', '.join(map(str, key))[:80]}): one names an id, or "
                "index.mapping.id joins them"
            )
        (key,) = key.values()
    return identifier(key, "the key")


def key_tenant(record: Record, rules: DocumentRules) -> str | None:
    """The tenant that a field of the key names, for a record without a value."""
    if rules.mapping is None:
        return None
    key = read_key(record, rules)
    return rules.mapping.tenant_of(Seen(key, key, {}, record))


def read_key(record: Record, rules: DocumentRules) -> Any:
    """The key by its format: a text, a number, an object; None where there is none. Raises as ``unpack`` does."""
    if record.key is None:
        return None
    if rules.registry is not None and rules.key_format not in BINARY and schema_id(record.key) is not None:
        return rules.registry.read(record.key).value
    structs = rules.envelope != "none" or rules.mapping is not None
    return key_value(record.key, rules.key_format, structs=structs)


def _document(record: Record, rules: DocumentRules, held: Opened, steps: tuple[str, ...]) -> Unpacked:
    name = key_name(record, rules)
    changes = bool(rules.version_from) and held.name == "debezium"
    added = {"version": held.versions.get(rules.version_from)} if changes else {}
    if changes and rules.order == "event" and added["version"] is None:
        raise InvalidEvent(f"there is no {rules.version_from}, which index.version_from takes as the version")
    document = split_key(name)[1] if name is not None and rules.tenant_from == "key" else name
    if rules.mapping is None:
        return Unpacked(_row(held, document) | added, name, steps)
    key = None if rules.key == "ignore" and "@key" not in rules.mapping.origins else read_key(record, rules)
    seen = Seen(held.fields, key, held.around, record)
    fields = rules.mapping.document(seen, document, gone=held.gone)
    unread = {field: value for field, value in held.fields.items() if field not in rules.mapping.used}
    return Unpacked(fields | added, name, steps, unread, rules.mapping.keeps_all)


def _row(held: Opened, key: str | None) -> dict[str, Any]:
    """The fields of a row whose columns are called like those of a document event."""
    told = held.fields.get("id")
    name = identifier(told) if told is not None else key
    row = {**held.fields, "id": name} if name is not None else dict(held.fields)
    if not held.gone:
        return row
    return {field: row[field] for field in ("id", "tenant") if row.get(field) is not None} | {"op": "delete"}


def as_json(fields: Mapping[str, Any]) -> bytes:
    """Fields as a body that is read like any other; raises InvalidEvent for what is no JSON."""
    try:
        return json.dumps(fields).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent(f"a field is no JSON: {str(error)[:80]}") from None
