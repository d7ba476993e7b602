"""Single records by their coordinates, of no group: for whoever knows where they lie."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from kafka import TopicPartition
from kafka import errors as kafka_errors

from penstock.adapters.kafka import internals
from penstock.adapters.kafka.connection import failure
from penstock.adapters.kafka.peek import connect_reader
from penstock.adapters.kafka.source import to_record
from penstock.adapters.kafka.whole import POLL_MS, SILENT_S
from penstock.core.errors import Unavailable
from penstock.core.records import Partition, Record
from penstock.settings import KafkaSettings

JUMP = 2000
"""Offsets to the next record that is wanted: those between are read rather than jumped over."""


class RecordsAt:
    """Reads records where they lie; nothing is committed, and no group is joined."""

    def __init__(self, settings: KafkaSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """``settings`` say how the brokers are reached. Raises Misconfigured or Unavailable."""
        self._clock = clock
        self._consumer = connect_reader(settings)
        internals.hand_out_damaged_batches(self._consumer)

    def read(self, places: Mapping[Partition, Sequence[int]]) -> Iterator[Record]:
        """Those that are still there, in their order within a partition. Raises Unavailable."""
        try:
            for partition, offsets in places.items():
                yield from self._of(TopicPartition(*partition), sorted(set(offsets)))
        except kafka_errors.KafkaError as error:
            raise failure(error, "Kafka") from error

    def close(self) -> None:
        """Release the connection."""
        self._consumer.close()

    def _of(self, owned: TopicPartition, offsets: Sequence[int]) -> Iterator[Record]:
        self._consumer.assign([owned])
        end = self._consumer.end_offsets([owned])[owned]
        wanted = [offset for offset in offsets if offset < end]
        position, came = -JUMP, self._clock()
        while wanted:
            if wanted[0] - position >= JUMP or position > wanted[0]:
                self._consumer.seek(owned, wanted[0])
            found = {raw.offset: raw for raw in self._consumer.poll(POLL_MS).get(owned, ())}
            yield from (to_record(found[offset]) for offset in wanted if offset in found)
            if (now := internals.position_of(self._consumer, owned) or 0) > position:
                position, came = now, self._clock()
            wanted = [offset for offset in wanted if offset >= position]
            if self._clock() - came > SILENT_S:
                raise Unavailable(f"Kafka: nothing of {owned.topic}/{owned.partition} has come for {SILENT_S:g} s")
