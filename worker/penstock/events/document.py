"""Bytes to events: the models that mirror ``schemas/``, and the rules that keys, tenants and versions obey."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from penstock.core.bodies import Body
from penstock.core.documents import LARGEST_INTEGER, TENANT, DocumentKey, Event, Op, Order
from penstock.core.errors import InvalidEvent, Unforeseen
from penstock.core.formats import without_bom
from penstock.core.moments import Moment, written
from penstock.core.records import Record
from penstock.events.envelope import EMPTY, NAMES, TELLING, without_data
from penstock.events.foreign import Unpacked, Within, as_json, key_name, key_tenant, unpack
from penstock.events.frame import enveloped, json_object, misread
from penstock.events.keys import LONGEST_ID, check_id, check_key, header_tenant, key_text, split_key
from penstock.events.limits import LONGEST_TITLE, check_metadata, check_size, check_title
from penstock.events.near_miss import near_miss
from penstock.events.redriven import first_sequence, refuse_shortened
from penstock.events.rules import BodyFormat, DocumentRules
from penstock.events.timestamps import since_1970
from penstock.events.validation import parse, untrusted

FORMATS: Mapping[str, BodyFormat] = {
    "text": "text",
    "markdown": "markdown",
    "html": "html",
    "text/plain": "text",
    "text/markdown": "markdown",
    "text/html": "html",
    "application/xhtml+xml": "html",
}
"""What a text can be, by its name or its media type."""


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
    format: str | None = None


KNOWN = tuple(DocumentEvent.model_fields)


@untrusted
def decode(record: Record, rules: DocumentRules) -> Event:
    """The event that a record holds; raises InvalidEvent that says what is wrong with it.

    Raises Unavailable where a registry is needed for it, and is away.
    """
    if rules.own:
        rules = rules.of(record.partition.topic)
    if record.damage:
        raise InvalidEvent(record.damage)
    refuse_shortened(record)
    sequence = first_sequence(record, rules.sequence_base + record.offset)
    if record.value is None:
        return _tombstone(record, rules, sequence)
    if len(record.value) > rules.max_bytes:
        raise InvalidEvent(f"the value has {len(record.value)} bytes; index.max_event_bytes is {rules.max_bytes}")
    event = _event(record, rules, record.value, sequence) if rules.direct else _unpacked(record, rules, sequence)
    return _completed(event, rules) if rules.completes else event


def _event(record: Record, rules: DocumentRules, value: bytes, sequence: int) -> Event:
    """Read as a document event first, which most records are."""
    found = None
    try:
        body = parse(DocumentEvent, value)
        if body.model_extra and not TELLING.isdisjoint(body.model_extra):
            found = unpack(record, rules)
        if found is None:
            return _read(record, rules, body, record.key, sequence)
    except Unforeseen:
        raise
    except InvalidEvent as error:
        if (found := unpack(record, rules)) is None:
            raise InvalidEvent(_fault(value, str(error))) from None
    return _of_unpacked(record, rules, found, sequence)


def _unpacked(record: Record, rules: DocumentRules, sequence: int) -> Event:
    if (found := unpack(record, rules)) is None:
        raise InvalidEvent(_fault(record.value or b"", f"the value is {misread(record.value or b'') or 'no JSON'}"))
    return _of_unpacked(record, rules, found, sequence)


def _of_unpacked(record: Record, rules: DocumentRules, found: Unpacked, sequence: int) -> Event:
    """The event that was made of a foreign record."""
    try:
        _refuse_unread(rules, found)
        key = None if found.key is None else found.key.encode()
        body = parse(DocumentEvent, as_json(found.fields))
        event = _read(record, rules, body, key, sequence)
    except InvalidEvent as error:
        raise Within(found.through).told(error) from None
    unknown = event.unknown if found.kept else (*event.unknown, *found.unread)
    return replace(event, through=found.through, unknown=unknown)


def _refuse_unread(rules: DocumentRules, found: Unpacked) -> None:
    """Fields that a mapping passes over: where they are metadata, one can still sound like a delete."""
    if rules.unknown_fields == "ignore" or not found.unread:
        return
    given = KNOWN if found.kept else [name for name in KNOWN if found.fields.get(name) is not None]
    if told := near_miss(found.unread, given, KNOWN, delete=found.fields.get("op") == "delete"):
        raise InvalidEvent(f"{told} (index.mapping does not read it)")


def _completed(event: Event, rules: DocumentRules) -> Event:
    """With what the record says beside its value, where the event itself does not."""
    if event.op is Op.DELETE:
        return event
    headers: dict[str, Any] = {}
    for name, value in event.record.headers:
        if name in rules.headers and value is not None:
            try:
                headers[name] = value.decode()
            except UnicodeDecodeError:
                raise InvalidEvent(f"header {name!r} is not UTF-8, and index.headers makes metadata of it") from None
    timestamp = event.timestamp
    if timestamp is None and rules.record_timestamp and event.record.timestamp_ms is not None:
        timestamp = written(since_1970(event.record.timestamp_ms))
    metadata = {**headers, **event.metadata}
    if headers:
        check_size(metadata, rules.max_metadata_bytes)
    return replace(event, metadata=metadata, timestamp=timestamp)


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


def _read(record: Record, rules: DocumentRules, body: DocumentEvent, given: bytes | None, sequence: int) -> Event:
    """The event that a body tells; ``given`` is the key that it has to agree with."""
    check_id(body.id)
    unknown = tuple(body.model_extra or ())
    if unknown and rules.unknown_fields == "refuse_similar" and (told := _near_miss(dict(body))):
        raise InvalidEvent(told)
    key = DocumentKey(_tenant(record, rules, body.tenant, given), body.id)
    if given is not None:
        check_key(given, key, rules.tenant_from)
    elif rules.keyed and rules.order == "offset" and rules.key == "id":
        raise InvalidEvent("the record has no key; keyed by id, all events of a document share a partition")
    if body.op == "delete":
        order, unversioned = _order(rules, body.version, sequence)
        return Event(record, key, order, Op.DELETE, unversioned=unversioned, unknown=unknown)
    return _upsert(record, rules, body, key, sequence)


def _near_miss(fields: Mapping[str, Any]) -> str | None:
    unknown = {name: value for name, value in fields.items() if name not in KNOWN}
    given = {name for name in KNOWN if fields.get(name) is not None}
    return near_miss(unknown, given, KNOWN, delete=fields.get("op") == "delete")


def _upsert(record: Record, rules: DocumentRules, body: DocumentEvent, key: DocumentKey, sequence: int) -> Event:
    if body.text is None:
        raise InvalidEvent("text is missing")
    plain = body.format is None and rules.format == "text"
    text, headings, title = (body.text, (), "") if plain else _body(rules, body.text, body.format)
    if not text.strip():
        raise InvalidEvent('text is empty; to remove a document send "op": "delete" or a null value')
    if rules.order == "event" and body.version is None:
        raise InvalidEvent("version is missing, and index.order = event needs one in every upsert")
    check_title(body.title or "")
    if body.metadata:
        check_metadata(body.metadata)
        if rules.registry is not None or len(record.value or b"") > rules.max_metadata_bytes:  # else none can be larger
            check_size(body.metadata, rules.max_metadata_bytes)
    order, _ = _order(rules, body.version, sequence)
    return Event(
        record,
        key,
        order,
        Op.UPSERT,
        body.title or title[:LONGEST_TITLE],
        text,
        body.language,
        written(body.timestamp),
        written(body.expires_at),
        body.metadata or {},
        unknown=tuple(body.model_extra or ()),
        headings=headings,
    )


def _body(rules: DocumentRules, text: str, told: str | None) -> Body:
    """The text as it is, or what is in a page."""
    style = FORMATS.get((told or rules.format).partition(";")[0].strip().lower())
    if style is None:
        raise InvalidEvent(f"format is {str(told)[:40]!r}, none of {', '.join(FORMATS)}")
    if style == "text":
        return Body(text)
    read = rules.bodies[style](text)
    if text.strip() and not read.text.strip():
        raise InvalidEvent(f"there is no text in this {style}, but for scripts and navigation")
    return read


def _tombstone(record: Record, rules: DocumentRules, sequence: int) -> Event:
    if record.key is None:
        raise InvalidEvent("neither key nor value: a null value deletes the document that its key names")
    if rules.envelope in ("auto", "cloudevents") and rules.empty_data == "refuse" and without_data(record.headers):
        raise InvalidEvent(f"an event in {NAMES['cloudevents']} without data: {EMPTY}")
    if (text := key_name(record, rules)) is None:
        raise InvalidEvent("a null value, and index.key = ignore: nothing says which document it deletes")
    document = split_key(text)[1] if rules.tenant_from == "key" else text
    check_id(document, "the key")
    named = key_tenant(record, rules) if rules.tenant_from == "field" else None
    key = DocumentKey(_tenant(record, rules, named, text.encode()), document)
    order, unversioned = _order(rules, None, sequence)
    return Event(record, key, order, Op.DELETE, unversioned=unversioned)


def _order(rules: DocumentRules, version: int | None, sequence: int) -> tuple[Order, bool]:
    """The event's order, and whether its version is still to be found."""
    if rules.order == "offset":
        return Order(sequence, sequence), False
    if version is None and rules.scattered:
        if rules.version_from:  # the tombstone behind a delete that had one, whose work is done
            return Order(0, sequence), False
        raise InvalidEvent(
            "a delete without a version: with several topics, or index.key = ignore, nothing else says whether it is "
            'the newest; send {"op": "delete", "version": …}'
        )
    return Order(version or 0, sequence), version is None


def _tenant(record: Record, rules: DocumentRules, named: str | None, key: bytes | None) -> str:
    """The tenant that the setting derives, of the ``key`` as it was read; ``named``, the body's, may only agree."""
    match rules.tenant_from:
        case "fixed":
            tenant = rules.tenant
        case "header":
            tenant = header_tenant(record, rules.tenant_header)
        case "key":
            tenant, _ = split_key(key_text(key) if key is not None else "")
        case "field":
            if named is None:
                raise InvalidEvent("no tenant: index.tenant_from = field, and index.mapping.tenant finds none")
            tenant = named
        case "none":
            tenant = ""
            if named is not None:
                raise InvalidEvent(f"the event names tenant {named!r}, and index.tenant_from = none")
    if named is not None and named != tenant:
        raise InvalidEvent(f"the event names tenant {named!r}, its {rules.tenant_from} says {tenant!r}")
    return tenant
