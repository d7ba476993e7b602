"""The inside of kafka-python, as version 3.0.12 has it: all that we read there, and what we mend. Nobody else looks.

Each function says what it assumes; tests/integration/test_kafka_internals.py fails when a release breaks it. So the
version is pinned exactly, and moving on begins here.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord, Fetcher, OffsetSpec
from kafka.net.compat import KafkaNetClient
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.record import default_records

from penstock.adapters.kafka.decompression import DECODERS

C = TypeVar("C")

VERSION = "3.0.12"

Receive = Callable[[Any], tuple[bytes, Exception | None]]

LOGIN_FAILURES = ("SaslAuthenticationFailedError", "UnsupportedSaslMechanismError", "CERTIFICATE_VERIFY_FAILED")
"""Failures that the library only logs; what it raises is a time-out."""


def client(kind: Callable[..., C], **options: Any) -> C:
    """A consumer, a producer or an admin client; one that cannot be made leaves no thread and no socket behind.

    Assumes: a constructor starts a thread, waits for a broker, and raises without stopping it.
    """
    inside: list[KafkaNetClient] = []

    def kept(**given: Any) -> KafkaNetClient:
        inside.append(KafkaNetClient(**given))
        return inside[-1]

    try:
        return kind(**options, kafka_client=kept)
    except BaseException:
        for one in inside:
            one.close()
        raise


def rejoining(consumer: KafkaConsumer) -> bool:
    """Whether a rebalance is under way. Assumes: the coordinator's ``rejoining`` is set from its start to its end."""
    return bool(consumer._coordinator.rejoining)


def keep_rejoining(consumer: KafkaConsumer) -> None:
    """Keeps the library from forgetting a rebalance.

    Assumes: one that began with a change of metadata is forgotten when a poll ends before it does. The assignment
    clears the flag that would bring the next poll back to it, and the consumer then sits outside its group for ever,
    without heartbeats and without an error.
    """
    coordinator = consumer._coordinator
    if coordinator.rejoining and not coordinator.need_rejoin():
        coordinator.request_rejoin()


def knows_coordinator(consumer: KafkaConsumer) -> bool:
    """Whether the group's broker is known. Assumes: it is forgotten when the connection to it is lost."""
    return not consumer._coordinator.coordinator_unknown()


def last_heartbeat_s(consumer: KafkaConsumer) -> float:
    """When a heartbeat was last answered, in seconds of ``time.monotonic``; before the first, minus infinity."""
    return float(consumer._coordinator.heartbeat.last_receive)


def position_of(consumer: KafkaConsumer, partition: TopicPartition) -> int | None:
    """The next offset to be read, None where it is not known yet.

    Assumes: it is kept beside the assignment. The public call may raise, and what was polled would be lost.
    """
    state = consumer._subscription.assignment.get(partition)
    return None if state is None or state.position is None else int(state.position.offset)


def end_of(consumer: KafkaConsumer, partition: TopicPartition) -> int | None:
    """Where the partition ends by the latest answer to a fetch, None before the first: its high watermark."""
    end = getattr(consumer._subscription.assignment.get(partition), "highwater", None)
    return None if end is None else int(end)


def hear_resets(consumer: KafkaConsumer, heard: Callable[[TopicPartition, int, int], None]) -> None:
    """Tells of each position that was out of the log's range: the partition, that position, and where reading goes on.

    Assumes: the fetcher asks the subscription for a reset while the position is still there, and goes on by
    ``_reset_offset_if_needed``. A first position, of a group that has committed none, comes without the former.
    """
    fetcher, subscription = consumer._fetcher, consumer._subscription
    ask, go_on = subscription.request_offset_reset, fetcher._reset_offset_if_needed
    out_of_range: dict[TopicPartition, int] = {}

    def asked(partition: TopicPartition, *given: Any) -> None:
        if (offset := position_of(consumer, partition)) is not None:
            out_of_range[partition] = offset
        ask(partition, *given)

    def went_on(partition: TopicPartition, timestamp: Any, offset: Any) -> None:
        go_on(partition, timestamp, offset)
        if (before := out_of_range.pop(partition, None)) is not None:
            heard(partition, before, int(getattr(offset, "offset", offset)))

    subscription.request_offset_reset = asked
    fetcher._reset_offset_if_needed = went_on


def ask_for_ends(consumer: KafkaConsumer, partitions: Sequence[TopicPartition], timeout_ms: int) -> Any:
    """A future of the partitions' ends, by partition an object with ``offset`` or None.

    Without waiting, as the public call would: a partition without a leader has no answer. Assumes: the fetcher's
    coroutine may be given to the consumer's own IO thread.
    """
    latest = dict.fromkeys(partitions, OffsetSpec.LATEST)
    return consumer._manager.call_soon(consumer._fetcher._fetch_offsets_by_times_async, latest, timeout_ms)


def fetch_committed(consumer: KafkaConsumer, partitions: Sequence[TopicPartition], timeout_ms: int) -> dict[Any, int]:
    """What the group has committed of these. Assumes: the coordinator asks once for all, the public call for each."""
    return {partition: offset for partition, (offset, _) in fetch_marks(consumer, partitions, timeout_ms).items()}


def fetch_marks(
    consumer: KafkaConsumer, partitions: Sequence[TopicPartition], timeout_ms: int
) -> dict[TopicPartition, tuple[int, str]]:
    """As ``fetch_committed``, each with what stands beside it."""
    committed = consumer._coordinator.fetch_committed_offsets(partitions, timeout_ms=timeout_ms)
    return {owned: (at.offset, at.metadata) for owned, at in committed.items() if at.offset >= 0}


@contextmanager
def login_failure() -> Iterator[Callable[[], str]]:
    """While a client connects: what became of its login, empty where nothing was wrong with it.

    Assumes: the library logs the failure by its name, at level error.
    """
    library, heard = logging.getLogger("kafka"), _LoginFailure()
    level = library.level
    library.addHandler(heard)
    library.setLevel(min(level, logging.ERROR) or logging.ERROR)
    try:
        yield lambda: heard.reason
    finally:
        library.removeHandler(heard)
        library.setLevel(level)


class _LoginFailure(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.reason = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what follows the failure's name."""
        text = record.getMessage()
        for name in LOGIN_FAILURES:
            if name in text:
                self.reason = text[text.index(name) :].rstrip(")")


def read_answers_before_hangups() -> None:
    """Mends both transports, once.

    A broker answers a wrong password and closes the connection right after. Assumes: the library reads both at once
    when the machine is busy, and then drops the answer, so that a wrong password looks like an outage.
    """
    for transport in (KafkaTCPTransport, KafkaSSLTransport):
        if not hasattr(transport._sock_recv, "__wrapped__"):
            transport._sock_recv = _data_first(transport._sock_recv)


def _data_first(receive: Receive) -> Receive:
    """What came before the end is delivered by itself; the end is found again by the next read."""

    @wraps(receive)
    def received(self: Any) -> tuple[bytes, Exception | None]:
        data, error = receive(self)
        return (data, None) if data else (data, error)

    return received


def bound_decompression() -> None:
    """No batch becomes larger than that; one that would cannot be decoded. Once, for all consumers.

    Assumes: the module of record batches names its decoders, and calls them with the compressed bytes.
    """
    for name, bounded in DECODERS.items():
        setattr(default_records, name, bounded)


def hand_out_damaged_batches(consumer: KafkaConsumer) -> None:
    """Before the first poll: a batch that cannot be decoded becomes one record, and reading goes on behind it.

    Such are a broken checksum, an unknown codec, a header name not in UTF-8. Assumes: one poll would raise, the next
    one spin for ever; the fetcher unpacks what its ``PartitionRecords`` is.
    """
    consumer._fetcher.PartitionRecords = TolerantRecords


class _OneBatch:
    """The interface of fetched records, with a single batch in them."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def next_batch(self) -> Any:
        batch, self._batch = self._batch, None
        return batch


class TolerantRecords(Fetcher.PartitionRecords):  # type: ignore[misc]  # the library is untyped
    """Unpacks batch by batch, so that a damaged one ends only itself."""

    next_fetch_offset: int
    _within = False

    def drain(self) -> None:
        """Not at the end of each batch, as the library's own unpacking would have it."""
        if not self._within:
            super().drain()

    def _unpack_records(self, tp: Any, records: Any, *deserializers: Any) -> Iterator[Any]:
        batch = records.next_batch()
        while batch is not None:
            unpacked = super()._unpack_records(tp, _OneBatch(batch), *deserializers)
            while True:
                self._within = True
                try:
                    record = next(unpacked)
                except StopIteration:
                    break
                except Exception as error:  # noqa: BLE001  # whatever a decoder raises is about this batch
                    record = self._damaged(tp, batch, error)
                finally:
                    self._within = False
                yield record
            batch = records.next_batch()
        self.drain()

    def _damaged(self, tp: Any, batch: Any, error: Exception) -> Any:
        """A record in place of the rest of the batch; its checksum field, unused otherwise, says what was wrong."""
        first = max(self.next_fetch_offset, batch.base_offset)
        last = batch.next_offset - 1
        self.next_fetch_offset = batch.next_offset
        reason = f"offsets {first} to {last} cannot be decoded: {type(error).__name__}: {error}"
        value = bytes(batch._buffer)
        return ConsumerRecord(
            tp.topic, tp.partition, self.leader_epoch, first, -1, 0, None, value, [], reason, -1, len(value), -1
        )
