"""The marks of ``core/attempts.py`` beside the offsets that a group commits, for one consumer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import OffsetAndMetadata

from penstock.adapters.kafka import internals
from penstock.core.attempts import Mark, begun, is_culprit, passed, read_mark, touched
from penstock.core.records import Record

WAIT_MS = 2000
REACH_IN_POLLS = 8
"""What may be under way in a worker: in hand and in its stages."""


@dataclass(slots=True)
class _Begun:
    """Where this process is in a partition. ``left`` is what stood there before, ``mark`` what stands now."""

    offset: int
    left: Mark
    mark: Mark


class Suspects:
    """Which partitions go record by record, and which record is given up. Used by the thread that polls."""

    def __init__(self, consumer: Any, reach: int) -> None:
        """``reach`` is how many records may be under way in a worker at once."""
        self._consumer, self._reach = consumer, reach
        self._found: dict[TopicPartition, tuple[int, str] | None] = {}
        self._begun: dict[TopicPartition, _Begun] = {}

    def look(self, owned: Iterable[TopicPartition]) -> None:
        """What others have left beside the offsets of partitions that are new to this process."""
        if fresh := [partition for partition in owned if partition not in self._found]:
            try:
                found = internals.fetch_marks(self._consumer, fresh, WAIT_MS)
            except kafka_errors.KafkaError:
                return  # asked again with the next poll
            self._found |= {partition: found.get(partition) for partition in fresh}

    def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """What was left there is another worker's business now."""
        for owned in partitions:
            self._found.pop(owned, None)
            self._begun.pop(owned, None)

    def begin(self, owned: TopicPartition, records: Sequence[Record]) -> list[Record]:
        """The first records of a partition, once the process has said that it begins there; one may be a culprit."""
        if owned in self._begun or owned not in self._found or not records:
            return list(records)
        offset, metadata = self._found[owned] or (records[0].offset, "")
        left = read_mark(metadata) if self._found[owned] else Mark(first=True)
        state = _Begun(offset, left, begun(left, offset, self._reach))
        if self._commit(owned, offset, state.mark):
            self._begun[owned] = state
        first, *others = records
        if is_culprit(left, first.offset):
            reason = f"{left.attempts} workers, one after the other, died at this record: a crash, or want of memory"
            first = replace(first, damage=reason)
        return [first, *others]

    def alone(self, owned: TopicPartition, offset: int) -> bool:
        """Whether the record at an offset goes by itself."""
        return owned in self._begun and self._begun[owned].mark.alone_until > offset

    def touch(self, owned: TopicPartition, offset: int) -> bool:
        """Whether the record at an offset may go: one that goes by itself is named first, and that remembered."""
        if not self.alone(owned, offset):
            return True  # it only shares a poll with one that does
        state = self._begun[owned]
        if not self._commit(owned, offset, touched(state.mark)):
            return False
        self._begun[owned] = _Begun(offset, state.mark, touched(state.mark))
        return True

    def commit_of(self, owned: TopicPartition, offset: int) -> OffsetAndMetadata:
        """What is committed for a position; one that has not come further leaves what stands there."""
        state, found = self._begun.get(owned), self._found.get(owned)
        if state is None:
            return OffsetAndMetadata(offset, found[1] if found and found[0] == offset else "", -1)
        if offset > state.offset:
            ahead = passed(state.mark, offset)
            state = self._begun[owned] = _Begun(offset, ahead, ahead)
        return OffsetAndMetadata(offset, str(state.mark), -1)

    def excused(self) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """What stood there before, where nothing has come further: this process ends well, or waits."""
        changed = {owned: state for owned, state in self._begun.items() if state.mark != state.left}
        for owned, state in changed.items():
            self._begun[owned] = _Begun(state.offset, state.left, state.left)
        return {owned: OffsetAndMetadata(state.offset, str(state.left), -1) for owned, state in changed.items()}

    def _commit(self, owned: TopicPartition, offset: int, mark: Mark) -> bool:
        try:
            self._consumer.commit({owned: OffsetAndMetadata(offset, str(mark), -1)}, timeout_ms=WAIT_MS)
        except kafka_errors.KafkaError:
            return False  # not counted this time
        return True
