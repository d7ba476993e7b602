"""What is asked of a group's coordinator for a record that may have brought a worker down."""

from typing import Any

from kafka import TopicPartition
from kafka import errors as kafka_errors

from penstock.adapters.kafka.suspects import Suspects


class _Deaf:
    """A consumer whose commits are refused, counted."""

    def __init__(self) -> None:
        self.asked = 0

    def commit(self, *_: Any, **__: Any) -> None:
        self.asked += 1
        raise kafka_errors.KafkaTimeoutError


def test_a_record_that_is_under_no_suspicion_is_never_held_back_by_a_mark() -> None:
    consumer = _Deaf()
    assert Suspects(consumer, reach=8).touch(TopicPartition("documents", 1), 5)
    assert consumer.asked == 0
