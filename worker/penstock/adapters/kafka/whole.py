"""A topic from its first record to where it ends now, of no group: for whoever lists, audits, or looks for one."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from kafka import TopicPartition
from kafka import errors as kafka_errors

from penstock.adapters.kafka import internals
from penstock.adapters.kafka.connection import failure
from penstock.adapters.kafka.peek import connect_reader
from penstock.adapters.kafka.source import to_record
from penstock.core.errors import Misconfigured, Unavailable
from penstock.core.records import Partition, Record
from penstock.settings import KafkaSettings

POLL_MS, SILENT_S = 500, 30.0


class Extent(NamedTuple):
    """The offsets that a partition has: from ``begin``, to the one before ``end``."""

    begin: int
    end: int


class WholeTopic:
    """The committed records of some topics; nothing is committed, and no group is joined."""

    def __init__(
        self, settings: KafkaSettings, topics: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``settings`` say how the brokers are reached. Raises Misconfigured where there is no such topic."""
        self._clock = clock
        self._consumer = connect_reader(settings)
        internals.hand_out_damaged_batches(self._consumer)
        try:
            self.extents = self._extents(topics)
        except BaseException:
            self._consumer.close()
            raise

    @property
    def offsets(self) -> int:
        """How many there are to read: about as many records, fewer where the topic is compacted."""
        return sum(end - begin for begin, end in self.extents.values())

    def read(
        self,
        starts: Mapping[Partition, int] | None = None,
        passed: Callable[[int], None] = lambda _: None,
    ) -> Iterator[list[Record]]:
        """Records as they come, in offset order within a partition; from ``starts`` on, where a partition has one.

        ``passed`` hears of how many offsets have gone by. Raises Unavailable when nothing comes any more.
        """
        begins = {owned: max(at.begin, (starts or {}).get(owned, 0)) for owned, at in self.extents.items()}
        left = {TopicPartition(*owned): begin for owned, begin in begins.items() if begin < self.extents[owned].end}
        try:
            self._consumer.assign(list(left))
            for owned, begin in left.items():
                self._consumer.seek(owned, begin)
            yield from self._polls(left, passed)
        except kafka_errors.KafkaError as error:
            raise failure(error, "Kafka") from error

    def close(self) -> None:
        """Release the connection."""
        self._consumer.close()

    def _polls(self, left: dict[TopicPartition, int], passed: Callable[[int], None]) -> Iterator[list[Record]]:
        ends = {TopicPartition(*owned): at.end for owned, at in self.extents.items()}
        came = self._clock()
        while left:
            polled = self._consumer.poll(POLL_MS)
            if records := [
                to_record(raw) for owned, some in polled.items() for raw in some if raw.offset < ends[owned]
            ]:
                yield records
            for owned, was in list(left.items()):
                now = min(internals.position_of(self._consumer, owned) or was, ends[owned])
                if now > was:
                    came = self._clock()
                    passed(now - was)
                left[owned] = now
                if now >= ends[owned]:
                    del left[owned]
                    self._consumer.pause(owned)
            if self._clock() - came > SILENT_S:
                names = ", ".join(f"{owned.topic}/{owned.partition}" for owned in left)
                raise Unavailable(f"Kafka: nothing of {names} has come for {SILENT_S:g} s")

    def _extents(self, topics: Sequence[str]) -> dict[Partition, Extent]:
        try:
            numbers = {topic: self._consumer.partitions_for_topic(topic) for topic in topics}
            if missing := [topic for topic, found in numbers.items() if not found]:
                raise Misconfigured(f"there is no topic {missing[0]!r}")
            places = [TopicPartition(topic, n) for topic, found in numbers.items() for n in sorted(found or ())]
            begins, ends = self._consumer.beginning_offsets(places), self._consumer.end_offsets(places)
        except kafka_errors.KafkaError as error:
            raise failure(error, "Kafka") from error
        return {Partition(*owned): Extent(begins[owned], ends[owned]) for owned in places}
