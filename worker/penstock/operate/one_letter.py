"""One dead letter, whole: what it holds, why it was given up, and what would become of it now. Pure."""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.core.documents import Order
from penstock.core.errors import InvalidEvent, Unavailable
from penstock.core.letters import DeadLetter, first_value, sent_back, theirs
from penstock.core.records import Headers, Partition, Record
from penstock.events.check import check
from penstock.events.document import decode
from penstock.events.rules import DocumentRules
from penstock.operate.letters import key_text, moment, printable, shortened

MOST_SHOWN = 10_000
"""Characters of a value on a terminal."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a letter's record would become by the settings of now, and its order where it has one."""

    said: str = ""
    order: Order | None = None


def outlook(record: Record, letter: DeadLetter, rules: DocumentRules) -> Outlook:
    """Of a letter of a document; nothing is said of one that does not tell where it came from."""
    if letter.origin is None or letter.first is None:
        return Outlook()
    key, value, headers = sent_back(record, letter)
    back = Record(Partition(letter.origin.topic, letter.origin.partition), letter.origin.offset, key, value, headers,
                  timestamp_ms=record.timestamp_ms)  # fmt: skip
    try:
        told = check(back, rules)
        return Outlook(f"{told.became}: {told.said}", decode(back, rules).order)
    except InvalidEvent:
        return Outlook(f"{told.became}: {told.said}")
    except Unavailable as error:
        return Outlook(f"unknown: {error}")


def as_json(record: Record, letter: DeadLetter, now: Outlook) -> dict[str, Any]:
    """All of it; bytes that are not UTF-8 are in base64, by a name of its own."""
    first, origin = letter.first, letter.origin
    return {
        "letter": letter.place._asdict() | {"timestamp": moment(letter.time_ms) or None},
        "origin": None if origin is None else origin._asdict() | {"delivered": moment(letter.delivered_ms) or None},
        "stage": letter.stage,
        "exception": letter.exception,
        "message": letter.message,
        "order": None if first is None else {"sequence": first.sequence, "epoch": first.epoch, "offset": first.offset}
        | ({} if now.order is None else {"version": now.order.version}),
        "left_out": list(letter.dropped),
        "now": now.said or None,
        **_told("key", letter.key),
        **_told("value", first_value(record)),
        "headers": _headers(theirs(record.headers)),
        "error_headers": _headers(tuple(one for one in record.headers if one not in theirs(record.headers))),
    }  # fmt: skip


def _headers(headers: Headers) -> list[Mapping[str, str | None]]:
    return [{"name": name} | _told("value", value) for name, value in headers]


def _told(name: str, content: bytes | None) -> dict[str, str | None]:
    if content is None:
        return {name: None}
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content).decode()}


def lines(record: Record, letter: DeadLetter, now: Outlook) -> Iterator[str]:
    """For a person: what was shortened says so."""
    place, origin, first = letter.place, letter.origin, letter.first
    yield f"letter {place.partition}:{place.offset} of {place.topic}, {moment(letter.time_ms) or 'of no known time'}"
    if origin is not None:
        when = f", delivered at {moment(letter.delivered_ms)}" if letter.delivered_ms is not None else ""
        yield f"from      {printable(origin.topic)}/{origin.partition}/{origin.offset}{when}"
    yield f"key       {shortened(key_text(letter.key), MOST_SHOWN)}"
    yield f"stage     {shortened(letter.stage) or '(none)'}"
    yield f"reason    {shortened(letter.reason, MOST_SHOWN) or '(none)'}"
    if first is not None:
        version = f"version {now.order.version}, then " if now.order and now.order.version != first.sequence else ""
        yield f"order     {version}epoch {first.epoch}, offset {first.offset} (sequence {first.sequence})"
    if letter.dropped:
        yield f"left out  {', '.join(letter.dropped)}: too large for the dead letter topic"
    if now.said:
        yield f"now       {shortened(now.said, MOST_SHOWN)}"
    for name, content in theirs(record.headers):
        yield f"header    {shortened(name)}: {shortened(key_text(content), MOST_SHOWN)}"
    yield from _value_lines(first_value(record))


def _value_lines(value: bytes | None) -> Iterator[str]:
    if value is None:
        yield "value     null: a tombstone"
        return
    kind, text = _readable(value)
    yield f"value     {len(value)} bytes, {kind}"
    yield from text[:MOST_SHOWN].splitlines()
    if len(text) > MOST_SHOWN:
        yield f"… {len(text) - MOST_SHOWN} characters more: --json has all"


def _readable(value: bytes) -> tuple[str, str]:
    """What it is, and how it is written for a person."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return "in hex", value.hex(" ")
    try:
        text, kind = json.dumps(json.loads(text), indent=2, ensure_ascii=False), "JSON"
    except (ValueError, RecursionError):
        kind = "text"
    return kind, "\n".join(map(printable, text.split("\n")))
