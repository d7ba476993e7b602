"""What records would become, said in words: nothing is written. Pure."""

from dataclasses import asdict, dataclass

from penstock.core.documents import Event, Op
from penstock.core.errors import InvalidEvent, Unforeseen
from penstock.core.records import Record
from penstock.events.document import decode
from penstock.events.envelope import NAMES
from penstock.events.rules import DocumentRules

SHOWN = 60


@dataclass(frozen=True, slots=True)
class Checked:
    """A record, and what it is: ``became`` is indexed, deleted or dead letter, ``said`` tells more of it."""

    record: str
    key: str | None
    became: str
    document: str | None
    said: str

    def as_json(self) -> dict[str, str | None]:
        """By its names."""
        return asdict(self)


def check(record: Record, rules: DocumentRules) -> Checked:
    """What a worker with these rules makes of it, before it has looked into the store."""
    place = f"{record.partition.topic}/{record.partition.number}/{record.offset}"
    key = None if record.key is None else _short(record.key.decode(errors="replace"))
    try:
        event = decode(record, rules)
    except (InvalidEvent, Unforeseen) as error:
        return Checked(place, key, "dead letter", None, str(error))
    became = "indexed" if event.op is Op.UPSERT else "deleted"
    name = f"{event.key.tenant}: {event.key.document}" if event.key.tenant else event.key.document
    return Checked(place, key, became, name, _told(event))


def _told(event: Event) -> str:
    told = [f"out of {NAMES[step]}" for step in event.through]
    if event.op is Op.UPSERT:
        told += [f"title {_short(event.title)!r}"] if event.title else []
        told += [f"{len(event.text)} characters, {_short(event.text)!r}"]
        told += [f"{name} {value}" for name, value in _moments(event) if value]
        told += [f"metadata {', '.join(map(str, event.metadata))[:SHOWN]}"] if event.metadata else []
    elif event.record.value is None:
        told.append("a tombstone")
    if event.unknown:
        told.append(f"not read: {', '.join(event.unknown)[:SHOWN]}")
    return "; ".join(told)


def _moments(event: Event) -> tuple[tuple[str, str | None], ...]:
    return ("language", event.language), ("timestamp", event.timestamp), ("expires_at", event.expires_at)


def _short(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= SHOWN else one_line[: SHOWN - 1] + "…"
