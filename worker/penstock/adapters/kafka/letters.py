"""Dead letter topics as they are now, and letters on their way back."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.serializer import Serializer

from penstock.adapters.kafka.connection import admin_client, connect, connect_producer, failure, one_line
from penstock.adapters.kafka.topics import followed, is_missing
from penstock.adapters.kafka.whole import Extent, WholeTopic
from penstock.core.errors import Misconfigured
from penstock.core.records import Headers, Partition, Place, Record
from penstock.settings import KafkaSettings

SENT_S, CLOSE_S, LINGER_MS = 30.0, 5.0, 5

UNFIT = (
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.RecordListTooLargeError,
    kafka_errors.InvalidRecordError,
)
"""What a topic says of one record that it does not take, as it is too large, or without a key where keys are needed."""


UNTIMELY = (kafka_errors.InvalidTimestampError, kafka_errors.InvalidRecordError)
"""What it says of one that is too old for it, and of those beside it in a batch."""


class NoValue(Serializer):  # type: ignore[misc]  # the library is untyped
    """Makes the null of a record that has no key, either: the library itself refuses to send one."""

    def serialize(self, _topic: str, _headers: Any, value: Any) -> Any:
        """``NoValue`` itself stands for it; everything else is sent as it is."""
        return None if value is NoValue else value


class Found(NamedTuple):
    """A topic's id and its partitions."""

    id: str
    partitions: int


def topics_now(settings: KafkaSettings) -> dict[str, Found]:
    """The topics that are followed, and there; raises Misconfigured or Unavailable."""
    return _described(settings, lambda client: followed(client, settings))


def existing(settings: KafkaSettings, names: Sequence[str]) -> dict[str, Found]:
    """Those of the topics that are there; raises Misconfigured or Unavailable."""
    return _described(settings, lambda _: list(names))


def _described(settings: KafkaSettings, names: Callable[[KafkaAdminClient], list[str]]) -> dict[str, Found]:
    def ask() -> dict[str, Found]:
        with admin_client(settings) as client:
            wanted = names(client)
            described = client.describe_topics(wanted) if wanted else []
        there = [topic for topic in described if not is_missing(topic)]
        return {topic["name"]: Found(str(topic["topic_id"]), len(topic["partitions"])) for topic in there}

    return connect(ask, settings)


@contextmanager
def whole(settings: KafkaSettings, topics: Sequence[str]) -> Iterator[WholeTopic]:
    """The topics, to be read, and closed afterwards; raises Misconfigured or Unavailable."""
    opened = connect(lambda: WholeTopic(settings, topics), settings)
    try:
        yield opened
    finally:
        opened.close()


def record_at(settings: KafkaSettings, topic: str, partition: int, offset: int) -> Record:
    """One record; raises Misconfigured where there is none, and Unavailable."""
    owned = Partition(topic, partition)
    with whole(settings, [topic]) as opened:
        if (extent := opened.extents.get(owned)) is None:
            raise Misconfigured(f"topic {topic!r} has {len(opened.extents)} partitions, no number {partition}")
        if not extent.begin <= offset < extent.end:
            held = f"has offsets {extent.begin} to {extent.end - 1}" if extent.begin < extent.end else "is empty"
            gone = ": what was before is gone by its retention" if offset < extent.begin else ""
            raise Misconfigured(f"there is no offset {offset} in {topic}/{partition}, which {held}{gone}")
        opened.extents = {owned: Extent(offset, offset + 1)}
        for records in opened.read():
            return records[0]
    raise Misconfigured(
        f"there is no record at offset {offset} of {topic}/{partition}: it was removed, or is the mark of a transaction"
    )


class _Sent(NamedTuple):
    letter: Place
    to: Partition
    key: bytes | None
    value: bytes | None
    headers: Headers
    time_ms: int | None


class Returns:
    """Sends records to the partitions that they came from. What is settled is on every in-sync replica."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Reaches the brokers; raises Misconfigured or Unavailable."""
        self._producer = connect_producer(settings, value_serializer=NoValue(), linger_ms=LINGER_MS)
        self._under_way: list[tuple[_Sent, Any]] = []

    def send(
        self,
        letter: Place,
        to: Partition,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        time_ms: int | None = None,
    ) -> None:
        """On its way; ``letter`` is what it is called when it is settled. Raises Misconfigured or Unavailable.

        ``time_ms`` is the record's, where its topic takes it.
        """
        sent = _Sent(letter, to, key, value, headers, time_ms)
        self._under_way.append((sent, self._send(sent)))

    def _send(self, one: "_Sent") -> Any:
        """What is to come of it, or why it cannot be sent."""
        filled = [(name, content or b"") for name, content in one.headers]  # the library sends no null headers
        value = NoValue if one.value is None and one.key is None else one.value
        try:
            return self._producer.send(one.to.topic, value, one.key, filled, one.to.number, one.time_ms)
        except UNFIT as error:
            return error
        except kafka_errors.KafkaError as error:
            raise _failure(error) from error

    def settle(self) -> dict[Place, Place | str]:
        """Where each lies that was on its way, or why its topic does not take it. Raises as ``send``."""
        settled: dict[Place, Place | str] = {}
        while self._under_way:
            sent, future = self._under_way[0]
            try:
                if isinstance(future, Exception):
                    raise future
                settled[sent.letter] = Place(*sent.to, future.get(timeout=SENT_S).offset)
            except kafka_errors.KafkaError as error:
                if sent.time_ms is not None and (isinstance(error, UNTIMELY) or type(error) is kafka_errors.KafkaError):
                    sent = sent._replace(time_ms=None)
                    self._under_way[0] = sent, self._send(sent)
                    continue
                if not isinstance(error, UNFIT):
                    raise _failure(error) from error
                settled[sent.letter] = f"its topic does not take it: {one_line(error)}"
            del self._under_way[0]
        return settled

    def close(self) -> None:
        """Let go of the brokers."""
        self._producer.close(timeout=CLOSE_S)


def _failure(error: kafka_errors.KafkaError) -> Exception:
    return failure(error, "sending letters back", "letters cannot be sent back")
