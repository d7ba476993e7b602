"""The marks of ``core/attempts.py`` beside the offsets that a group commits, for one consumer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import OffsetAndMetadata

from penstock.adapters.kafka import internals
from penstock.core.attempts import Mark, begun, is_culprit, passed, read_mark
from penstock.core.records import Record

WAIT_MS = 2000
REACH_IN_POLLS = 8
"""What may be under way in a worker: in hand and in its stages."""


class Suspects:
    """Which partitions go record by record, and which record is given up. Used by the thread that polls."""

    def __init__(self, consumer: Any, reach: int) -> None:
        """``reach`` is how many records may be under way in a worker at once."""
        self._consumer, self._reach = consumer, reach
        self._marks: dict[TopicPartition, Mark] = {}
        self._left: dict[TopicPartition, OffsetAndMetadata] = {}
        self._progress = False

    def begin(self, owned: TopicPartition, records: Sequence[Record]) -> list[Record]:
        """The first records of a partition, once the process has said that it begins there; one may be a culprit.

        A process that has come further anywhere says nothing: what moves to it by a rebalance is nobody's fault.
        """
        if owned in self._marks or self._progress or not records:
            return list(records)
        try:
            found = internals.fetch_marks(self._consumer, [owned], WAIT_MS).get(owned)
            offset, metadata = found or (records[0].offset, "")
            left = read_mark(metadata)
            self._marks[owned] = begun(left, offset, self._reach)
            self._left[owned] = OffsetAndMetadata(offset, metadata or "", -1)
            self._consumer.commit({owned: self.commit_of(owned, offset, begin=True)}, timeout_ms=WAIT_MS)
        except kafka_errors.KafkaError:
            return list(records)  # not counted this time
        first, *others = records
        if is_culprit(left, first.offset):
            reason = f"{left.attempts} workers in a row died at this record, one by one: a crash, or want of memory"
            first = replace(first, damage=reason)
        return [first, *others]

    def alone(self, owned: TopicPartition, offset: int) -> bool:
        """Whether the record at an offset goes by itself."""
        return self._marks.get(owned, Mark()).alone_until > offset

    def commit_of(self, owned: TopicPartition, offset: int, *, begin: bool = False) -> OffsetAndMetadata:
        """What is committed for a position."""
        mark = self._marks.get(owned, Mark())
        if not begin:
            self._progress = True
            self._left.pop(owned, None)
            mark = passed(mark, offset)
        return OffsetAndMetadata(offset, str(mark), -1)

    def excused(self) -> dict[TopicPartition, OffsetAndMetadata]:
        """What was there before, of partitions where nothing has come further: this process ends well, or waits."""
        excused, self._left = self._left, {}
        return excused
