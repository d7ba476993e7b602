"""Bytes to events: the models that mirror ``schemas/``, and the rules that keys, tenants and versions obey."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from penstock.core.documents import EPOCH_SHIFT, LARGEST_INTEGER, TENANT, DocumentKey, Event, Op, Order
from penstock.core.errors import InvalidEvent, Unforeseen
from penstock.core.formats import without_bom
from penstock.core.moments import Moment, written
from penstock.core.records import Record
from penstock.events.envelope import (
    EMPTY,
    NAMES,
    TELLING,
    EmptyData,
    Envelope,
    Opened,
    VersionFrom,
    identifier,
    named_by,
    opened,
    without_data,
)
from penstock.events.frame import enveloped, json_object
from penstock.events.keys import LONGEST_ID, TenantFrom, check_id, check_key, header_tenant, key_text, split_key
from penstock.events.near_miss import near_miss
from penstock.events.redriven import first_sequence, refuse_shortened
from penstock.events.validation import parse, untrusted

OrderBy = Literal["offset", "event"]
UnknownFields = Literal["refuse_similar", "ignore"]

LONGEST_TITLE = 2000
DEEPEST_METADATA = 16
"""Levels; protobuf readers refuse messages nested deeper than 100, and one level of JSON takes up to three."""

_INT64 = range(-(2**63), 2**63)


class DocumentEvent(BaseModel):
    """The body of a document event, version 1 (``schemas/document.v1.schema.json``). Unknown fields are kept apart."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    id: str = Field(min_length=1, max_length=LONGEST_ID)
    tenant: str | None = Field(default=None, pattern=f"^{TENANT.pattern}$")
    version: int | None = Field(default=None, ge=0, le=LARGEST_INTEGER)
    op: Literal["upsert", "delete"] | None = None
    title: str | None = None
    text: str | None = None
    language: str | None = None
    timestamp: Moment | None = None
    expires_at: Moment | None = None
    metadata: dict[str, JsonValue] | None = None


@dataclass(frozen=True, slots=True)
class DocumentRules:
    """How records of one source are read.

    ``sequence_base`` is added to a record's offset to make its sequence: ``epoch << 48`` for a topic; for a
    file, which has no offsets of its own, the time of the run in ticks of 100 µs, so that a later run wins
    over an earlier one and both lose to any topic.
    """

    tenant_from: TenantFrom = "none"
    tenant: str = ""
    tenant_header: str = "tenant"
    order: OrderBy = "offset"
    sequence_base: int = 1 << EPOCH_SHIFT
    max_bytes: int = 4_000_000
    max_metadata_bytes: int = 65_536
    keyed: bool = True
    unknown_fields: UnknownFields = "refuse_similar"
    envelope: Envelope = "auto"
    version_from: VersionFrom = ""
    empty_data: EmptyData = "refuse"


@untrusted
def decode(record: Record, rules: DocumentRules) -> Event:
    """The event that a record holds; raises InvalidEvent that says what is wrong with it."""
    if record.damage:
        raise InvalidEvent(record.damage)
    refuse_shortened(record)
    sequence = first_sequence(record, rules.sequence_base + record.offset)
    if record.value is None:
        return _tombstone(record, rules, sequence)
    if len(record.value) > rules.max_bytes:
        raise InvalidEvent(f"the value has {len(record.value)} bytes; index.max_event_bytes is {rules.max_bytes}")
    try:
        return _event(record, rules, record.value, sequence)
    except Unforeseen:
        raise
    except InvalidEvent as error:
        if (found := _opened(record.value, rules)) is not None:
            return _unwrapped(record, rules, found, sequence)
        raise InvalidEvent(_fault(record.value, str(error))) from None


def _opened(value: bytes, rules: DocumentRules) -> Opened | None:
    fields = json_object(value) if rules.envelope != "none" else None
    return None if fields is None else opened(fields, rules.envelope, rules.empty_data)


def _unwrapped(record: Record, rules: DocumentRules, found: Opened, sequence: int) -> Event:
    """The event that lay in an envelope; its record's key may be a struct, too."""
    try:
        named = None if record.key is None else named_by(record.key)
        key = record.key if named is None else named.encode()
        told = found.fields.get("id")
        name = identifier(told) if told is not None else key_text(key) if key is not None else None
        row = {**found.fields, "id": name} if name is not None else dict(found.fields)
        if found.gone:
            row = {field: row[field] for field in ("id", "tenant") if row.get(field) is not None} | {"op": "delete"}
        if rules.version_from and (version := found.versions.get(rules.version_from)) is not None:
            row["version"] = version
        event = _read(record, rules, parse(DocumentEvent, json.dumps(row).encode()), key, sequence)
    except InvalidEvent as error:
        raise InvalidEvent(f"in {NAMES[found.name]}: {error}") from None
    return replace(event, through=found.name)


def _fault(value: bytes, said: str) -> str:
    """What is wrong with a value, better than what was ``said`` where it is known for what it is."""
    if without_bom(value).strip() in (b"", b"null"):
        looks = "the text null" if b"null" in value else "empty"
        return f"the value is {looks}: a tombstone is a null value, which is none at all"
    if (fields := json_object(value)) is None:
        return said
    if told := enveloped(fields):
        return f"the value is {told}"
    told = _near_miss(fields)
    return f"{said}; {told}" if told and told not in said else said


def _event(record: Record, rules: DocumentRules, value: bytes, sequence: int) -> Event:
    body = parse(DocumentEvent, value)
    if body.model_extra and not TELLING.isdisjoint(body.model_extra) and (found := _opened(value, rules)) is not None:
        return _unwrapped(record, rules, found, sequence)
    return _read(record, rules, body, record.key, sequence)


def _read(record: Record, rules: DocumentRules, body: DocumentEvent, given: bytes | None, sequence: int) -> Event:
    """The event that a body tells; ``given`` is the key that it has to agree with."""
    check_id(body.id)
    unknown = tuple(body.model_extra or ())
    if unknown and rules.unknown_fields == "refuse_similar" and (told := _near_miss(dict(body))):
        raise InvalidEvent(told)
    key = DocumentKey(_tenant(record, rules, body.tenant), body.id)
    if given is not None:
        check_key(given, key, rules.tenant_from)
    elif rules.keyed and rules.order == "offset":
        raise InvalidEvent("the record has no key; keyed by id, all events of a document share a partition")
    if body.op == "delete":
        order, unversioned = _order(rules, body.version, sequence)
        return Event(record, key, order, Op.DELETE, unversioned=unversioned, unknown=unknown)
    return _upsert(record, rules, body, key, sequence)


def _near_miss(fields: Mapping[str, Any]) -> str | None:
    known = DocumentEvent.model_fields
    unknown = {name: value for name, value in fields.items() if name not in known}
    given = {name for name in known if fields.get(name) is not None}
    return near_miss(unknown, given, known, delete=fields.get("op") == "delete")


def _upsert(record: Record, rules: DocumentRules, body: DocumentEvent, key: DocumentKey, sequence: int) -> Event:
    if body.text is None:
        raise InvalidEvent("text is missing")
    if not body.text.strip():
        raise InvalidEvent('text is empty; to remove a document send "op": "delete" or a null value')
    if rules.order == "event" and body.version is None:
        raise InvalidEvent("version is missing, and index.order = event needs one in every upsert")
    if body.metadata:
        _check_metadata(body.metadata)
    _check_sizes(rules, body, len(record.value or b""))
    order, _ = _order(rules, body.version, sequence)
    return Event(
        record,
        key,
        order,
        Op.UPSERT,
        body.title or "",
        body.text,
        body.language,
        written(body.timestamp),
        written(body.expires_at),
        body.metadata or {},
        unknown=tuple(body.model_extra or ()),
    )


def _check_sizes(rules: DocumentRules, body: DocumentEvent, size: int) -> None:
    """Of what every chunk of the document repeats, hence a large event a hundred times; ``size`` is the event's."""
    if len(body.title or "") > LONGEST_TITLE:
        raise InvalidEvent(f"title has {len(body.title or '')} characters; at most {LONGEST_TITLE} are stored")
    if body.metadata and size > rules.max_metadata_bytes:
        measured = len(json.dumps(body.metadata, ensure_ascii=False).encode())
        if measured > rules.max_metadata_bytes:
            raise InvalidEvent(
                f"metadata has {measured} bytes, and every chunk repeats it; index.max_metadata_bytes is "
                f"{rules.max_metadata_bytes}"
            )


def _tombstone(record: Record, rules: DocumentRules, sequence: int) -> Event:
    if record.key is None:
        raise InvalidEvent("neither key nor value: a null value deletes the document that its key names")
    if rules.envelope in ("auto", "cloudevents") and rules.empty_data == "refuse" and without_data(record.headers):
        raise InvalidEvent(f"an event in {NAMES['cloudevents']} without data: {EMPTY}")
    named = None if rules.envelope == "none" else named_by(record.key)
    text = key_text(record.key) if named is None else named
    document = split_key(text)[1] if rules.tenant_from == "key" else text
    check_id(document, "the key")
    key = DocumentKey(_tenant(record, rules, None), document)
    order, unversioned = _order(rules, None, sequence)
    return Event(record, key, order, Op.DELETE, unversioned=unversioned)


def _order(rules: DocumentRules, version: int | None, sequence: int) -> tuple[Order, bool]:
    """The event's order, and whether its version is still to be found."""
    if rules.order == "offset":
        return Order(sequence, sequence), False
    return Order(version or 0, sequence), version is None


def _tenant(record: Record, rules: DocumentRules, named: str | None) -> str:
    """The tenant that the setting derives; ``named``, the one in the body, may only agree."""
    match rules.tenant_from:
        case "fixed":
            tenant = rules.tenant
        case "header":
            tenant = header_tenant(record, rules.tenant_header)
        case "key":
            tenant, _ = split_key(key_text(record.key) if record.key is not None else "")
        case "none":
            tenant = ""
            if named is not None:
                raise InvalidEvent(f"the event names tenant {named!r}, and index.tenant_from = none")
    if named is not None and named != tenant:
        raise InvalidEvent(f"the event names tenant {named!r}, its {rules.tenant_from} says {tenant!r}")
    return tenant


def _check_metadata(value: JsonValue | Mapping[str, Any], path: str = "metadata", depth: int = 1) -> None:
    """Qdrant's payload takes finite doubles and 64-bit integers, and no deep nesting."""
    if isinstance(value, dict | list):
        if depth > DEEPEST_METADATA:
            raise InvalidEvent(f"{path[:80]} nests deeper than {DEEPEST_METADATA} levels")
        children = value.items() if isinstance(value, dict) else enumerate(value)
        for name, child in children:
            if isinstance(child, dict | list | int | float):
                _check_metadata(child, f"{path}.{name}", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidEvent(f"{path[:80]} is {value}, which JSON and Qdrant do not know")
    elif isinstance(value, int) and value not in _INT64:
        raise InvalidEvent(f"{path[:80]} does not fit into 64 bits")
