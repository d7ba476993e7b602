"""Ends a worker whose mapping finds no ids: not a record is wrong then, but the mapping."""

from penstock.core.errors import Misconfigured
from penstock.core.records import Record
from penstock.events.mapping import IdMissing

LOOKED_AT = 100
"""Records of a topic, the first of this process."""

SHOWN = 400


class FirstIds:
    """Counts records of each topic until one has an id. For one thread."""

    def __init__(self, most: int = LOOKED_AT) -> None:
        """0: never."""
        self._most = most
        self._missing: dict[str, int] = {}
        self._found: set[str] = set()

    def found(self, record: Record) -> None:
        """The mapping has found one; a null value has only its key."""
        if record.value is not None and record.partition.topic not in self._found:
            self._found.add(record.partition.topic)

    def missing(self, record: Record, error: IdMissing) -> Misconfigured | None:
        """It has found none; returns what ends the worker where it has found none before in so many."""
        topic = record.partition.topic
        if topic in self._found or not self._most:
            return None
        self._missing[topic] = self._missing.get(topic, 0) + 1
        if self._missing[topic] < self._most:
            return None
        value = (record.value or b"")[:SHOWN].decode(errors="replace")
        return Misconfigured(
            f"{error}; so it is with the first {self._most} records of {topic}: correct PENSTOCK_INDEX__MAPPING, which "
            "`penstock events check` tries; PENSTOCK_INDEX__STOP_AFTER_INVALID=0 makes dead letters of them all. "
            f"One of them: {value}"
        )
