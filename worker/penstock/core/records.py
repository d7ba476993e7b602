"""Records of a stream, where they stand, and what becomes of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

Headers = tuple[tuple[str, bytes | None], ...]


class Partition(NamedTuple):
    """A Kafka partition, or the one partition of a file (number 0, the file's name as topic)."""

    topic: str
    number: int


class Position(NamedTuple):
    """Where to go on in a partition, and under which assignment of it this was read.

    ``offset`` is the next one to read, so it is what is committed. ``generation`` counts the assignments
    of the partition to this consumer; a position of an earlier one must not be committed any more.
    """

    offset: int
    generation: int


class Place(NamedTuple):
    """A record's coordinates."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it was read, bytes untouched.

    ``damage`` says why this is not a record but the bytes of a batch that could not be decoded. ``timestamp_ms`` is
    the topic's: when the record was produced, in milliseconds since 1970.
    """

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    damage: str = ""
    timestamp_ms: int | None = None


class Gap(NamedTuple):
    """A jump of a partition's position that no record led to: from the ``expected`` offset to the one ``found``.

    Forward, the topic's retention removed what was there before it was read. Back, the log has lost its end.
    """

    partition: Partition
    expected: int
    found: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in offset order per partition, and the positions that may be committed once all are done.

    ``gaps`` are the jumps that came before these records. With ``alone`` each goes by itself, its position committed
    before the next one is touched: one of them has killed workers.
    """

    records: tuple[Record, ...]
    positions: Mapping[Partition, Position]
    gaps: tuple[Gap, ...] = ()
    alone: bool = False


Compression = Literal["none", "gzip", "snappy", "lz4", "zstd"]
"""Of records that are sent."""


@dataclass(frozen=True, slots=True)
class Message:
    """A record to be sent."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Letter:
    """A record that was given up, why, and in which stage of the data path."""

    record: Record
    error: Exception
    stage: str


class Outcome(StrEnum):
    """What became of a record. Every record has exactly one."""

    INDEXED = "indexed"
    UNCHANGED = "unchanged"
    SUPERSEDED = "superseded"
    DELETED = "deleted"
    DELETED_UNKNOWN = "deleted_unknown"
    ANSWERED = "answered"
    TOO_LATE = "too_late"
    DEAD_LETTERED = "dead_lettered"


OF_QUERIES = (Outcome.ANSWERED, Outcome.TOO_LATE, Outcome.DEAD_LETTERED)
OF_DOCUMENTS = tuple(outcome for outcome in Outcome if outcome not in OF_QUERIES[:2])
