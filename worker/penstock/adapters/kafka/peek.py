"""The newest records of a topic, for who only wants to look: of no group, and nothing is committed."""

import time
from collections.abc import Mapping
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

from penstock.adapters.kafka import internals
from penstock.adapters.kafka.connection import client_options, connect, failure
from penstock.adapters.kafka.source import to_record
from penstock.core.errors import Misconfigured
from penstock.core.records import Record
from penstock.settings import KafkaSettings

POLL_MS, LONGEST_S = 500, 15.0


def newest(settings: KafkaSettings, most: int) -> list[Record]:
    """At most so many of ``settings.topic``, about as many of each partition, in the order of their times.

    Raises Misconfigured where there is no such topic, and Unavailable.
    """
    consumer = connect_reader(settings)
    try:
        return _read(consumer, settings.topic, most)
    except kafka_errors.KafkaError as error:
        raise failure(error, "Kafka") from error
    finally:
        consumer.close()


def connect_reader(settings: KafkaSettings, **more: Any) -> KafkaConsumer:
    """A consumer of no group, which commits nothing; ``more`` are options of the library's."""
    return connect(
        lambda: internals.client(
            KafkaConsumer,
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            **more,
            **client_options(settings),
        ),
        settings,
    )


def _read(consumer: KafkaConsumer, topic: str, most: int) -> list[Record]:
    numbers = consumer.partitions_for_topic(topic)
    if not numbers:
        raise Misconfigured(f"there is no file and no topic {topic!r}")
    parts = [TopicPartition(topic, number) for number in sorted(numbers)]
    begins, ends = consumer.beginning_offsets(parts), consumer.end_offsets(parts)
    consumer.assign(parts)
    for part in parts:
        consumer.seek(part, max(begins[part], ends[part] - -(-most // len(parts))))
    found: list[Record] = []
    deadline = time.monotonic() + LONGEST_S
    while _left(consumer, ends) and time.monotonic() < deadline:
        for records in consumer.poll(POLL_MS).values():
            found += map(to_record, records)
    return sorted(found, key=lambda record: (record.timestamp_ms or 0, record.partition, record.offset))[-most:]


def _left(consumer: KafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    return any(consumer.position(part) < end for part, end in ends.items())
