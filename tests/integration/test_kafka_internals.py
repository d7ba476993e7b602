"""What we know of kafka-python's inside: the names, what it does with a real broker, and what we mend.

Batches that cannot be decoded are fed to the library's own fetcher as a broker would send them.
"""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any
from unittest import mock

import kafka
import pytest
from kafka import KafkaConsumer
from kafka.consumer.fetcher import CompletedFetch, Fetcher
from kafka.consumer.subscription_state import SubscriptionState, TopicPartitionState
from kafka.coordinator.base import MemberState
from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.coordinator.heartbeat import Heartbeat
from kafka.net.manager import KafkaConnectionManager
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.record.util import calc_crc32c
from kafka.structs import TopicPartition

from penstock.adapters.kafka import internals
from penstock.adapters.kafka.connection import connect_consumer
from penstock.adapters.kafka.source import to_record
from penstock.core.errors import InvalidEvent
from penstock.events.document import decode
from penstock.events.rules import DocumentRules
from tests.conftest import wait_until
from tests.kafka_tools import committed, document, new_topic, produce, source

TOPIC = TopicPartition("documents", 0)


def batch(base: int, count: int, *, damage: str = "") -> bytes:
    """A batch of records that begins at an offset; damaged in its checksum, its codec or a header's name."""
    builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=1 << 20)
    for n in range(count):
        name = "ZZZZ" if damage == "header" and n == 2 else "name"
        builder.append(timestamp=1000, key=b"k", value=f"value {base + n}".encode(), headers=[(name, b"v")])
    builder.close()
    data = bytearray(builder.buffer())
    struct.pack_into(">q", data, 0, base)
    if damage == "header":
        at = data.index(b"ZZZZ")
        data[at : at + 4] = b"\xff\xfe\xfd\xfc"
    if damage == "codec":
        data[DefaultRecordBatch.ATTRIBUTES_OFFSET + 1] |= 7
    checked = memoryview(data)[DefaultRecordBatch.ATTRIBUTES_OFFSET :]
    checksum = calc_crc32c(checked) ^ (damage == "checksum")
    struct.pack_into(">I", data, DefaultRecordBatch.CRC_OFFSET, checksum)
    return bytes(data)


def fetcher(data: bytes, start: int = 0) -> Fetcher:
    subscriptions = SubscriptionState("earliest")
    subscriptions.assign_from_user([TOPIC])
    subscriptions.seek(TOPIC, start)
    made = Fetcher(mock.MagicMock(), subscriptions, metrics=None)
    internals.hand_out_damaged_batches(SimpleNamespace(_fetcher=made))
    answer: dict[str, Any] = {"error_code": 0, "high_watermark": 99, "records": data, "aborted_transactions": None}
    answer |= {"diverging_epoch": None, "preferred_read_replica": -1}
    made._completed_fetches.append(CompletedFetch(TOPIC, start, 11, SimpleNamespace(**answer), None))
    return made


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("damage", "lost", "said"),
    [("checksum", [3, 4, 5, 6], "crc"), ("codec", [3, 4, 5, 6], ""), ("header", [5, 6], "UnicodeDecodeError")],
)
def test_a_damaged_batch_is_one_dead_letter_and_reading_goes_on(damage: str, lost: list[int], said: str) -> None:
    reading = fetcher(batch(0, 3) + batch(3, 4, damage=damage) + batch(7, 2))
    records = []
    for _ in range(4):
        polled, _ = reading.fetched_records(500)
        records += [to_record(raw) for found in polled.values() for raw in found]
    whole = [record.offset for record in records if not record.damage]
    assert whole == [n for n in range(9) if n not in lost]
    (damaged,) = [record for record in records if record.damage]
    assert damaged.offset == lost[0]
    assert damaged.value
    with pytest.raises(InvalidEvent, match=f"offsets {lost[0]} to 6 cannot be decoded.*{said}"):
        decode(damaged, DocumentRules())
    assert reading._subscriptions.position(TOPIC).offset == 9


def test_reading_from_within_a_batch_starts_there() -> None:
    reading = fetcher(batch(0, 6) + batch(6, 2), start=4)
    polled, _ = reading.fetched_records(500)
    assert [raw.offset for raw in polled[TOPIC]] == [4, 5, 6, 7]


def test_the_library_is_the_version_whose_inside_is_known() -> None:
    """Before moving on, look at every function there."""
    assert kafka.__version__ == internals.VERSION


def test_the_names_that_we_read_are_there() -> None:
    """Without a broker: what a release may rename."""
    assert {"PartitionRecords", "_fetch_offsets_by_times_async"} <= set(dir(Fetcher))
    assert {"drain", "_unpack_records"} <= set(dir(Fetcher.PartitionRecords))
    asked = {"need_rejoin", "request_rejoin", "coordinator_unknown", "fetch_committed_offsets"}
    assert asked <= set(dir(ConsumerCoordinator))
    assert "call_soon" in dir(KafkaConnectionManager)
    assert {"position", "highwater"} <= set(dir(TopicPartitionState()))
    assert SubscriptionState("earliest").assignment == {}
    assert Heartbeat().last_receive == float("-inf")
    for transport in (KafkaTCPTransport, KafkaSSLTransport):
        assert hasattr(transport, "_sock_recv")


SENT = 7


@pytest.fixture
def member(broker: str) -> Iterator[tuple[KafkaConsumer, TopicPartition]]:
    """A consumer of a partition with seven records, before its first poll."""
    settings = new_topic(broker)
    produce(settings, [document(f"doc/{n}") for n in range(SENT)])
    with closing(connect_consumer(settings)) as consumer:
        consumer.subscribe([settings.topic])
        yield consumer, TopicPartition(settings.topic, 0)


def polled(consumer: KafkaConsumer) -> Any:
    internals.keep_rejoining(consumer)
    return consumer.poll(timeout_ms=100)


def test_positions_and_ends_are_those_of_the_public_calls(member: tuple[KafkaConsumer, TopicPartition]) -> None:
    consumer, partition = member
    assert internals.position_of(consumer, partition) is None
    assert internals.end_of(consumer, partition) is None
    wait_until(lambda: polled(consumer) != {})
    assert internals.position_of(consumer, partition) == consumer.position(partition) == SENT
    assert internals.end_of(consumer, partition) == consumer.end_offsets([partition])[partition] == SENT


def test_ends_are_asked_for_while_nothing_is_fetched(member: tuple[KafkaConsumer, TopicPartition]) -> None:
    consumer, partition = member
    wait_until(lambda: polled(consumer) != {})
    asked = internals.ask_for_ends(consumer, [partition], 1000)
    wait_until(lambda: bool(asked.is_done))
    assert {place: end.offset for place, end in asked.value.items()} == {partition: SENT}


def test_heartbeats_and_the_coordinator_are_known_once_the_group_is_joined(
    member: tuple[KafkaConsumer, TopicPartition],
) -> None:
    consumer, _ = member
    wait_until(lambda: polled(consumer) != {})
    assert internals.knows_coordinator(consumer)
    wait_until(lambda: polled(consumer) is not None and not internals.rejoining(consumer))
    joined = time.monotonic()
    wait_until(lambda: polled(consumer) is not None and internals.last_heartbeat_s(consumer) > joined)


def test_what_the_group_has_committed_is_fetched_for_all_at_once(broker: str) -> None:
    settings = new_topic(broker, 2)
    produce(settings, [document(f"doc/{n}") for n in range(20)])
    with closing(connect_consumer(settings)) as consumer:
        consumer.subscribe([settings.topic])
        both = [TopicPartition(settings.topic, number) for number in range(2)]
        wait_until(lambda: polled(consumer) is not None and len(consumer.assignment()) == len(both))
        wait_until(lambda: polled(consumer) == {} and sum(map(consumer.position, both)) == 20)
        consumer.commit()
        found = internals.fetch_committed(consumer, both, 5000)
    assert {partition.partition: offset for partition, offset in found.items()} == committed(settings)


def test_a_rebalance_that_the_library_forgot_is_taken_up_again(broker: str) -> None:
    """As kafka-python 3.0.12 leaves it when a poll ends before a join that a change of metadata began."""
    settings = new_topic(broker)
    member = source(settings, once=False)
    wait_until(lambda: member.poll(0.1) is not None or bool(member._generations))
    coordinator = member._consumer._coordinator
    coordinator._disable_heartbeat()
    coordinator.rejoining = True
    coordinator.rejoin_needed = False
    coordinator.state = MemberState.REBALANCING
    wait_until(lambda: member.poll(0.1) is None and coordinator.generation_if_stable() is not None)
    member.close(5)


@pytest.mark.parametrize("transport", [KafkaTCPTransport, KafkaSSLTransport])
def test_what_a_broker_says_before_it_hangs_up_is_heard(transport: type) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(b"wrong password")
        theirs.close()
        reader: Any = object.__new__(transport)
        vars(reader).update(_sock=ours, host="broker", _closed=False)
        assert reader._sock_recv() == (b"wrong password", None)
        data, error = reader._sock_recv()
    assert data == b""
    assert "socket disconnected" in str(error)


@pytest.mark.parametrize("kind", [KafkaConsumer, kafka.KafkaProducer, kafka.KafkaAdminClient])
def test_a_client_that_reaches_no_broker_leaves_no_thread_behind(kind: type) -> None:
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(kafka.errors.KafkaError):
            internals.client(kind, bootstrap_servers="127.0.0.1:1", bootstrap_timeout_ms=100)
    assert threading.active_count() == before
