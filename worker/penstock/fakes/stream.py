"""Topics in memory."""

import threading
from collections.abc import Mapping, Sequence

from typing_extensions import override

from penstock.core.errors import InvalidEvent, Refused
from penstock.core.identity import TopicIdentity
from penstock.core.ports import DeadLetters, Membership, Progress, Replies, Source, Upstream
from penstock.core.records import Batch, Headers, Letter, Message, Partition, Place, Position, Record


class MemorySource(Source):
    """A topic in memory, and its one consumer. ``revoke`` and ``assign`` play the group's coordinator."""

    def __init__(self, topic: str = "documents", partitions: int = 1, *, once: bool = True, most: int = 500) -> None:
        """All partitions are assigned at first; a poll returns at most ``most`` records."""
        self._records: dict[Partition, list[Record]] = {Partition(topic, n): [] for n in range(partitions)}
        self._once = once
        self._most = most
        self._assignments = 0
        self._generations: dict[Partition, int] = {}
        self._next: dict[Partition, int] = {}
        self.committed: dict[Partition, int] = {}
        self.polls: list[bool] = []
        self.closed = False
        self.assign(*self._records)

    def append(self, key: bytes | None, value: bytes | None, partition: int = 0, headers: Headers = ()) -> Record:
        """Produce a record."""
        place = list(self._records)[partition]
        record = Record(place, len(self._records[place]), key, value, headers)
        self._records[place].append(record)
        return record

    def assign(self, *partitions: Partition) -> None:
        """Partitions come to this consumer, which goes on where they were committed."""
        for partition in partitions:
            self._assignments += 1
            self._generations[partition] = self._assignments
            self._next[partition] = self.committed.get(partition, 0)

    def revoke(self, *partitions: Partition) -> None:
        """Partitions go to another consumer."""
        for partition in partitions:
            del self._generations[partition]

    @override
    def poll(self, timeout_s: float, *, hold: bool = False) -> Batch | None:
        """Never waits."""
        self.polls.append(hold)
        if hold:
            return None
        records: list[Record] = []
        positions = {}
        for partition, generation in self._generations.items():
            start = self._next[partition]
            next_records = self._records[partition][start : start + self._most - len(records)]
            if next_records:
                records += next_records
                self._next[partition] = start + len(next_records)
                positions[partition] = Position(self._next[partition], generation)
        if not records:
            threading.Event().wait(min(timeout_s, 0.005))
            return None
        return Batch(tuple(records), positions)

    @override
    def commit(self, positions: Mapping[Partition, Position]) -> None:
        for partition, position in positions.items():
            if self._generations.get(partition) == position.generation:
                self.committed[partition] = position.offset

    @override
    def touch(self, record: Record) -> bool:
        return True

    @override
    def excuse(self) -> None:
        pass

    @override
    def remaining(self) -> int | None:
        if not self._once:
            return None
        return sum(len(records) - self.committed.get(p, 0) for p, records in self._records.items())

    @override
    def close(self, timeout_s: float) -> None:  # the port's signature
        self.closed = True


class MemoryUpstream(Upstream):
    """Knows what it is told: ``now``, and what the group has committed."""

    def __init__(self, now: TopicIdentity | None, committed: Mapping[Partition, int] | None = None) -> None:
        self.now = now
        self.offsets = dict(committed or {})

    @override
    def identity(self) -> TopicIdentity | None:
        return self.now

    @override
    def committed(self) -> Mapping[Partition, int]:
        return dict(self.offsets)


class Unchanging(Membership):
    """Of a stream and a collection that stay what they are."""

    @override
    def verify(self, batch: Batch) -> None:
        pass

    @override
    def verify_collection(self) -> None:
        pass

    @override
    def advance(self, batch: Batch) -> None:
        pass


def unchanging(_retries: object) -> Membership:
    """For a worker whose stream and collection nobody changes."""
    return Unchanging()


class MemoryDeadLetters(DeadLetters):
    """Keeps the letters."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []

    @override
    def put(self, letters: Sequence[Letter]) -> None:
        self.letters += letters

    @override
    def close(self, timeout_s: float) -> None:
        pass


class MemoryReplies(Replies):
    """Keeps the messages; takes none of more than ``most`` bytes."""

    def __init__(self, most: int = 1_000_000) -> None:
        self.most = most
        self.messages: list[Message] = []

    @override
    def put(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if len(message.value) > self.most:
                raise Refused(f"{len(message.value)} bytes are too many for {message.topic}")
        self.messages += messages

    @override
    def close(self, timeout_s: float) -> None:
        pass


class MemoryProgress(Progress):
    """Knows one topic; ``done`` is the next offset to be indexed, by partition."""

    def __init__(self, topic: str, partitions: int = 1) -> None:
        self.topic = topic
        self.done = dict.fromkeys(range(partitions), 0)

    @override
    def searchable(self, places: Sequence[Place]) -> list[bool]:
        for place in places:
            if place.topic != self.topic or place.partition not in self.done:
                raise InvalidEvent(f"after: {place.topic}/{place.partition} is not in the stream")
        return [self.done[place.partition] > place.offset for place in places]
