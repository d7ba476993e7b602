"""A topic read whole: every record that is there, once, and nothing after where it ended."""

import re
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import NewTopic
from kafka.record.default_records import DefaultRecordBatchBuilder

from penstock.adapters.kafka.connection import client_options, connect_producer
from penstock.adapters.kafka.whole import Extent, WholeTopic
from penstock.core.errors import Misconfigured, Unavailable
from penstock.core.records import Partition, Record
from penstock.settings import KafkaSettings
from tests.conftest import wait_until
from tests.kafka_tools import document, ends, new_topic, produce


def read(kafka: KafkaSettings, *topics: str, starts: Mapping[Partition, int] | None = None) -> list[Record]:
    """All that come; as many offsets have passed as there are."""
    passed: list[int] = []
    with closing(WholeTopic(kafka, topics or (kafka.topic,))) as whole:
        found = [record for records in whole.read(starts, passed.append) for record in records]
        if starts is None:
            assert sum(passed) == whole.offsets
    return found


def test_all_partitions_of_all_topics_are_read_in_order_and_an_empty_one_has_nothing(broker: str) -> None:
    several, other, empty = new_topic(broker, 3), new_topic(broker), new_topic(broker, 2)
    produce(several, [document(f"doc/{n}") for n in range(300)])
    produce(other, [document("alone")])
    found = read(several, several.topic, other.topic, empty.topic)
    assert len({record.key for record in found}) == len(found) == 301
    for number in range(3):
        offsets = [record.offset for record in found if record.partition == (several.topic, number)]
        assert offsets == list(range(len(offsets)))
        assert offsets
    assert read(empty) == []
    first = Partition(several.topic, 0)
    assert min(record.offset for record in read(several, starts={first: 7}) if record.partition == first) == 7


def test_what_is_produced_meanwhile_is_not_read(broker: str) -> None:
    kafka = new_topic(broker)
    produce(kafka, [document(f"doc/{n}") for n in range(5)])
    with closing(WholeTopic(kafka, [kafka.topic])) as whole:
        produce(kafka, [document(f"late/{n}") for n in range(5)])
        assert [record.offset for records in whole.read() for record in records] == list(range(5))


def test_a_transaction_that_ends_the_topic_holds_nothing_up(broker: str) -> None:
    """Its mark has an offset and is no record; what was aborted is not there."""
    kafka = new_topic(broker)
    with closing(connect_producer(kafka, transactional_id=kafka.topic, enable_idempotence=True)) as producer:
        producer.init_transactions()
        for name, commit in (("first", True), ("second", True), ("aborted", False)):
            producer.begin_transaction()
            producer.send(kafka.topic, key=name.encode(), value=b"value")
            producer.flush()
            producer.commit_transaction() if commit else producer.abort_transaction()
    assert ends(kafka, 1) == {0: 6}
    assert [(record.key, record.offset) for record in read(kafka)] == [(b"first", 0), (b"second", 2)]


def test_a_compacted_topic_has_gaps_and_no_end_of_waiting(broker: str) -> None:
    kafka = KafkaSettings(bootstrap_servers=broker, topic=f"compacted-{time.time_ns()}")
    eager = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.001", "segment.ms": "100",
             "max.compaction.lag.ms": "100", "min.compaction.lag.ms": "0"}  # fmt: skip
    with closing(KafkaAdminClient(**client_options(kafka))) as admin:
        admin.create_topics([NewTopic(kafka.topic, 1, 1, topic_configs=eager)])
    for _ in range(5):
        produce(kafka, [document("same"), document("other")])

    def compacted() -> bool:
        produce(kafka, [document("last")])  # the segment that is written to is never compacted
        return [record.key for record in read(kafka)].count(b"same") == 1

    wait_until(compacted, most_s=60.0, most_pause_s=1.0)
    offsets = [record.offset for record in read(kafka)]
    assert offsets == sorted(set(offsets))
    assert offsets[0] > 0


def test_what_was_deleted_at_the_beginning_is_not_waited_for(broker: str) -> None:
    kafka = new_topic(broker)
    produce(kafka, [document(f"doc/{n}") for n in range(5)])
    with closing(KafkaAdminClient(**client_options(kafka))) as admin:
        admin.delete_records({TopicPartition(kafka.topic, 0): 3})
    with closing(WholeTopic(kafka, [kafka.topic])) as whole:
        assert whole.extents == {Partition(kafka.topic, 0): Extent(3, 5)}
    assert [record.offset for record in read(kafka)] == [3, 4]


def produce_damaged(kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is whole as far as the broker can tell, which looks into no header's name: it is in no UTF-8."""
    build = DefaultRecordBatchBuilder.append

    def damaged(self: Any, *given: Any, **named: Any) -> Any:
        result = build(self, *given, **named)
        self._buffer[:] = self._buffer.replace(b"ZZZZ", b"\xff\xfe\xfd\xfc")
        return result

    with closing(connect_producer(kafka)) as producer, monkeypatch.context() as patched:
        patched.setattr(DefaultRecordBatchBuilder, "append", damaged)
        producer.send(kafka.topic, key=b"broken", value=b"value", headers=[("ZZZZ", b"1")])
        producer.flush()


def test_a_batch_that_cannot_be_decoded_is_one_record_and_reading_goes_on(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = new_topic(broker)
    produce(kafka, [document("before")])
    produce_damaged(kafka, monkeypatch)
    produce(kafka, [document("behind")])
    before, broken, behind = read(kafka)
    assert (before.key, before.damage, behind.key, behind.damage) == (b"before", "", b"behind", "")
    assert re.match("offsets 1 to 1 cannot be decoded: .*UnicodeDecodeError", broken.damage)
    assert broken.value


def test_a_topic_that_is_not_there_is_told(broker: str) -> None:
    with pytest.raises(Misconfigured, match="there is no topic 'nowhere'"):
        WholeTopic(KafkaSettings(bootstrap_servers=broker), ["nowhere"])


def test_silence_of_the_brokers_is_no_end(broker: str) -> None:
    """Where nothing comes of what was there, it is told, and not taken for the end."""
    kafka = new_topic(broker)
    produce(kafka, [document("one")])
    now = [0.0]

    def clock() -> float:
        now[0] += 20.0
        return now[0]

    with closing(WholeTopic(kafka, [kafka.topic], clock)) as whole:
        whole.extents = {Partition(kafka.topic, 0): Extent(0, 9)}
        with pytest.raises(Unavailable, match=f"nothing of {kafka.topic}/0 has come for 30 s"):
            list(whole.read())
