"""What several suites do with a real Kafka."""

import json
import uuid
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import RetriableError

from penstock.adapters.kafka.connection import client_options, connect_consumer, connect_producer
from penstock.adapters.kafka.source import KafkaSource
from penstock.adapters.kafka.topics import create_topic
from penstock.settings import KafkaSettings


def new_topic(bootstrap_servers: str, partitions: int = 1, **fields: Any) -> KafkaSettings:
    """A topic and a group of its own for a test."""
    name = f"documents-{uuid.uuid4().hex[:8]}"
    given = {"bootstrap_servers": bootstrap_servers, "topic": name, "group": name, "session_timeout_s": 6.0} | fields
    settings = KafkaSettings.model_validate(given)
    create_topic(settings, partitions)
    return settings


def produce(settings: KafkaSettings, events: Iterable[tuple[str | bytes | None, bytes | None]], **options: Any) -> None:
    """Keys and values, as they are."""
    with closing(connect_producer(settings, linger_ms=20, **options)) as producer:
        for key, value in events:
            producer.send(settings.topic, key=key.encode() if isinstance(key, str) else key, value=value)
        producer.flush()


def document(name: str, text: str = "some words", **fields: object) -> tuple[str, bytes]:
    """Key and value of an upsert."""
    return name, json.dumps({"id": name, "text": text} | fields).encode()


def source(settings: KafkaSettings, *, once: bool = True) -> KafkaSource:
    """A member of the group."""
    return KafkaSource(connect_consumer(settings), settings, once=once)


def committed(settings: KafkaSettings) -> dict[int, int]:
    """Offset per partition that the group has committed; none while a new broker still makes its topic for that."""
    with closing(KafkaAdminClient(**client_options(settings))) as admin:
        try:
            found = admin.list_group_offsets(settings.group)[settings.group]
        except RetriableError:
            return {}
    return {owned.partition: stored.offset for owned, stored in found.items()}


def knows_groups(bootstrap_servers: str) -> bool:
    """Whether the broker has the topic for committed offsets, which a new one makes when it is first asked."""
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap_servers)) as admin:
        try:
            admin.list_group_offsets("some group")
        except RetriableError:
            return False
    return True


def ends(settings: KafkaSettings, partitions: int) -> dict[int, int]:
    """Where each partition ends."""
    with closing(KafkaConsumer(**client_options(settings))) as consumer:
        found = consumer.end_offsets([TopicPartition(settings.topic, n) for n in range(partitions)])
    return {owned.partition: offset for owned, offset in found.items()}


def read_all(settings: KafkaSettings, topic: str) -> list[Any]:
    """Every record of a topic of one partition, from its beginning."""
    with closing(KafkaConsumer(**client_options(settings), isolation_level="read_committed")) as consumer:
        owned = TopicPartition(topic, 0)
        consumer.assign([owned])
        consumer.seek_to_beginning(owned)
        end = consumer.end_offsets([owned])[owned]
        records: list[Any] = []
        while consumer.position(owned) < end:
            for found in consumer.poll(timeout_ms=500).values():
                records += found
        return records
