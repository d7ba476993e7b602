"""How far consumer groups are, seen from outside: a group whose workers are gone is told of like any other."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from kafka import IsolationLevel, KafkaAdminClient, KafkaConsumer, OffsetSpec, TopicPartition
from kafka import errors as kafka_errors

from penstock.adapters.kafka import internals
from penstock.adapters.kafka.connection import AdminConnection, failure
from penstock.adapters.kafka.peek import connect_reader
from penstock.adapters.kafka.source import to_record
from penstock.adapters.kafka.topics import followed, is_missing
from penstock.core.errors import Unavailable
from penstock.core.records import Partition
from penstock.observe.lag_metrics import Behind, GroupLag
from penstock.observe.log import NamedOnce
from penstock.settings import KafkaSettings

READ_S, POLL_MS = 5.0, 200
MOST_READ = 50
"""Partitions of which a record is read in a turn; the others' ages are those of the turn before."""

READ_BYTES = 1 << 10
"""Asked of each partition: a broker sends one batch, however large, and no second."""


class KafkaLag:
    """Of groups that it is no member of, and of which it commits nothing. Connects at the first question."""

    def __init__(self, settings: KafkaSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """``settings`` say how the brokers are reached."""
        self._settings, self._clock = settings, clock
        self._admin, self._reader = AdminConnection(settings), _Reader(settings, clock)
        self._missing = NamedOnce("topic_missing")

    def of(self, watched: KafkaSettings) -> GroupLag:
        """Of that group on its topics; raises Misconfigured or Unavailable."""
        group = watched.group
        places = self._admin.ask(partial(self._places, watched))
        committed = self._admin.ask(lambda admin: admin.list_group_offsets(group))[group]
        members = self._admin.ask(partial(_members, group))
        if not places:
            return GroupLag(group, members, {})
        starts, ends = (self._admin.ask(partial(_offsets, dict.fromkeys(places, spec)))
                        for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST))  # fmt: skip
        done = {owned: at.offset for owned, at in committed.items()}
        firsts = {owned: first_left(done.get(owned, -1), starts[owned]) for owned in places}
        left = {owned: first for owned, first in firsts.items() if first < ends[owned]}
        since = self._reader.times_s(group, left, ends)
        return GroupLag(
            group,
            members,
            {
                Partition(*owned): Behind(
                    max(0, ends[owned] - firsts[owned]), since.get(owned) if owned in left else None
                )
                for owned in places
            },
        )

    def close(self) -> None:
        """Release the connections."""
        self._reader.close()
        self._admin.close()

    def _places(self, watched: KafkaSettings, admin: KafkaAdminClient) -> list[TopicPartition]:
        names = followed(admin, watched)
        described = admin.describe_topics(names) if names else []
        there = [topic for topic in described if not is_missing(topic)]
        for name in set(names) - {topic["name"] for topic in there}:
            self._missing(name, [watched.group])
        return [TopicPartition(topic["name"], n) for topic in there for n in range(len(topic["partitions"]))]


def first_left(committed: int, start: int) -> int:
    """The first offset that a group has still to read; -1 is no committed one, ``start`` where the log begins."""
    return max(committed, start)


def _offsets(specs: Mapping[TopicPartition, Any], admin: KafkaAdminClient) -> dict[TopicPartition, int]:
    """As a worker finds them: what is not yet committed by its producer is not there."""
    found = admin.list_partition_offsets(dict(specs), isolation_level=IsolationLevel.READ_COMMITTED)
    return {owned: at.offset for owned, at in found.items()}


def _members(group: str, admin: KafkaAdminClient) -> int:
    described = admin.describe_groups([group])[group]
    if described["error"] and kafka_errors.GroupIdNotFoundError.__name__ not in described["error"]:
        raise Unavailable(f"Kafka: group {group!r}: {described['error']}")
    return len(described["members"])


class _Reader:
    """Looks at single records, for their times."""

    def __init__(self, settings: KafkaSettings, clock: Callable[[], float]) -> None:
        self._settings, self._clock = settings, clock
        self._consumer: KafkaConsumer | None = None
        self._known: dict[tuple[str, TopicPartition], tuple[int, float | None]] = {}
        self._looked_s: dict[tuple[str, TopicPartition], float] = {}

    def times_s(
        self, group: str, firsts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, float | None]:
        """When the record at each offset was produced, or the next one there is, as far as that is known by now."""
        moved = [owned for owned, first in firsts.items() if self._known.get((group, owned), (-1, None))[0] != first]
        turn = sorted(moved, key=lambda owned: self._looked_s.get((group, owned), 0.0))[:MOST_READ]
        for owned in turn:
            self._looked_s[group, owned] = self._clock()
        for owned, time_s in (self._read({owned: firsts[owned] for owned in turn}, ends) if turn else {}).items():
            self._known[group, owned] = firsts[owned], time_s
        return {owned: self._known[group, owned][1] for owned in firsts if (group, owned) in self._known}

    def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def _read(
        self, firsts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, float | None]:
        consumer = self._consumer = self._consumer or self._connected()
        found: dict[TopicPartition, float | None] = {}
        try:
            consumer.assign(list(firsts))
            consumer.resume(*firsts)  # one that was assigned before is still paused
            for owned, first in firsts.items():
                consumer.seek(owned, first)
            deadline = self._clock() + READ_S
            while firsts.keys() - found.keys() and self._clock() < deadline:
                for owned, records in consumer.poll(POLL_MS).items():
                    produced_ms = to_record(records[0]).timestamp_ms
                    found.setdefault(owned, None if produced_ms is None else produced_ms / 1000)
                for owned in firsts.keys() - found.keys():
                    if (internals.position_of(consumer, owned) or 0) >= ends[owned]:
                        found[owned] = None  # only the markers of transactions are left
                consumer.pause(*found)
        except kafka_errors.KafkaError as error:
            self.close()
            raise failure(error, "Kafka") from error
        return found

    def _connected(self) -> KafkaConsumer:
        consumer = connect_reader(self._settings, auto_offset_reset="earliest", max_partition_fetch_bytes=READ_BYTES)
        internals.hand_out_damaged_batches(consumer)
        return consumer
