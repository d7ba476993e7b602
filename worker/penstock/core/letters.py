"""What a record of a dead letter topic says of the one that it holds, by Kafka Connect's headers and by ours."""

from dataclasses import dataclass
from typing import NamedTuple

from penstock.core.documents import EPOCH_SHIFT
from penstock.core.records import Headers, Place, Record

CONNECT = "__connect.errors."
TOPIC, PARTITION, OFFSET, STAGE = (f"{CONNECT}{name}" for name in ("topic", "partition", "offset", "stage"))
CLASS, MESSAGE = f"{CONNECT}exception.class.name", f"{CONNECT}exception.message"
SEQUENCE, DELIVERED, TOPIC_ID = "penstock.sequence", "penstock.timestamp", "penstock.topic.id"
NULL = "penstock.value.null"
COPIED_FROM = "penstock.copied.from"
"""Of a letter whose value is a document as a collection held it, which a migration could not take over."""
DROPPED = {f"penstock.{part}.dropped": part for part in ("value", "key", "headers")}
OURS = {SEQUENCE, DELIVERED, TOPIC_ID, NULL, *DROPPED, *(f"penstock.{part}.sha256" for part in DROPPED.values())}
DIGITS = 16
"""Of the largest sequence, and of a time in milliseconds in the years to come."""


class Delivery(NamedTuple):
    """The first delivery of a record, which decides its order: topic, partition, and the sequence of then."""

    topic: str
    partition: int
    sequence: int

    @property
    def epoch(self) -> int:
        """Of the topic, as it was then."""
        return self.sequence >> EPOCH_SHIFT

    @property
    def offset(self) -> int:
        """Of the record, as it was then."""
        return self.sequence & ((1 << EPOCH_SHIFT) - 1)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record of a dead letter topic, without what it holds: ``place`` and ``time_ms`` are its own.

    ``origin`` is where the record lay that was given up, ``first`` its first delivery, ``delivered_ms`` the time of
    that; None where no header says it, as in letters of others. ``dropped`` are the parts that went missing.
    ``copied_from`` is the collection that it was held by, where it is no record at all.
    """

    place: Place
    time_ms: int | None
    key: bytes | None
    origin: Place | None
    first: Delivery | None
    delivered_ms: int | None = None
    topic_ids: frozenset[str] = frozenset()
    stage: str = ""
    exception: str = ""
    message: str = ""
    dropped: tuple[str, ...] = ()
    copied_from: str = ""

    @property
    def reason(self) -> str:
        """Class and message, as one text."""
        return ": ".join(filter(None, (self.exception, self.message)))


def read_letter(record: Record) -> DeadLetter:
    """What its headers say; of those that stand there twice, as in a letter that was copied back, the last ones."""
    told = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
    partition, offset = (_number(told.get(name)) for name in (PARTITION, OFFSET))
    origin = None
    if told.get(TOPIC) and partition is not None and offset is not None:
        origin = Place(told[TOPIC], partition, offset)
    own = _number(told.get(SEQUENCE))
    first = None
    if origin is not None and own is not None:
        same = [n for n in _numbers(record.headers, SEQUENCE) if n >> EPOCH_SHIFT == own >> EPOCH_SHIFT]
        first = Delivery(origin.topic, origin.partition, min(same))
    return DeadLetter(
        place=Place(*record.partition, record.offset),
        time_ms=record.timestamp_ms,
        key=record.key,
        origin=origin,
        first=first,
        delivered_ms=min(_numbers(record.headers, DELIVERED), default=None),
        topic_ids=frozenset((value or b"").decode("utf-8", "replace") for n, value in record.headers if n == TOPIC_ID),
        stage=told.get(STAGE, ""),
        exception=told.get(CLASS, ""),
        message=told.get(MESSAGE, record.damage),
        dropped=tuple(part for name, part in DROPPED.items() if name in told),
        copied_from=told.get(COPIED_FROM, ""),
    )


def theirs(headers: Headers) -> Headers:
    """Those that the record had before it was given up."""
    return tuple((name, value) for name, value in headers if not name.startswith(CONNECT) and name not in OURS)


def first_value(record: Record) -> bytes | None:
    """The value that the record had; a null that could not be sent is told by a header."""
    if record.key is None and record.value == b"" and any(name == NULL for name, _ in record.headers):
        return None
    return record.value


def sent_back(record: Record, letter: DeadLetter) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and headers of a letter that goes back: with just those of ours that keep its first order.

    Raises ValueError for one without a first delivery.
    """
    if letter.first is None:
        raise ValueError(f"{letter.place} has no order")
    ours = {TOPIC: letter.first.topic, SEQUENCE: str(letter.first.sequence)}
    if letter.delivered_ms is not None:
        ours[DELIVERED] = str(letter.delivered_ms)
    kept = tuple((name, value.encode()) for name, value in ours.items())
    return record.key, first_value(record), theirs(record.headers) + kept


def _numbers(headers: Headers, wanted: str) -> list[int]:
    told = (_number((value or b"").decode("ascii", "replace")) for name, value in headers if name == wanted)
    return [number for number in told if number is not None]


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= DIGITS else None
