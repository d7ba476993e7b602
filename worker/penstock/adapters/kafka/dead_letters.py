"""The dead letter topic."""

from collections.abc import Sequence
from typing import Any

from kafka import KafkaProducer
from kafka import errors as kafka_errors
from kafka.future import Future
from kafka.producer.future import FutureRecordMetadata
from typing_extensions import override

from penstock.adapters.kafka.connection import failure
from penstock.core.ports import DeadLetters
from penstock.core.records import Letter

REQUEST_S = 10.0
LONGEST_MESSAGE = 2000


class KafkaDeadLetters(DeadLetters):
    """Sends dead letters to their topic, with the headers that Kafka Connect uses for them."""

    def __init__(self, producer: KafkaProducer, topic: str, sequence_base: int) -> None:
        """``sequence_base`` is that of the rules by which the topic is read."""
        self._producer = producer
        self._topic = topic
        self._name = f"dead letter topic {topic!r}"
        self._sequence_base = sequence_base

    @override
    def put(self, letters: Sequence[Letter]) -> None:
        """A letter that is too large for the topic goes without its value, and says so."""
        sent = [(letter, self._send(letter)) for letter in letters]
        for letter, future in sent:
            try:
                self._await(future)
            except kafka_errors.MessageSizeTooLargeError:
                self._await(self._send(letter, without_value=True))

    @override
    def close(self, timeout_s: float) -> None:
        self._producer.close(timeout=timeout_s)

    def _send(self, letter: Letter, *, without_value: bool = False) -> Any:
        """A future; one that has failed when the client itself finds the letter too large."""
        record, more = letter.record, []
        value = record.value
        if without_value:
            value, more = None, [("penstock.value.dropped", str(len(record.value or b"")).encode())]
        if value is None and record.key is None:  # the library sends no record without both
            value, more = b"", [*more, ("penstock.value.null", b"true")]
        original = [(name, header or b"") for name, header in record.headers]  # nor null headers
        headers = [*original, *error_headers(letter, self._sequence_base), *more]
        try:
            return self._producer.send(self._topic, key=record.key, value=value, headers=headers)
        except kafka_errors.MessageSizeTooLargeError as error:
            return Future().failure(error)
        except kafka_errors.KafkaError as error:
            raise failure(error, self._name, self._name) from error

    def _await(self, future: Any) -> None:
        try:
            if isinstance(future, FutureRecordMetadata):
                future.get(timeout=REQUEST_S)
            elif future.failed():
                raise future.exception
        except kafka_errors.MessageSizeTooLargeError:
            raise
        except kafka_errors.KafkaError as error:
            raise failure(error, self._name, self._name) from error


def error_headers(letter: Letter, sequence_base: int) -> list[tuple[str, bytes]]:
    """The headers of Kafka Connect's dead letter queues (KIP-298), and the order of the first delivery."""
    partition = letter.record.partition
    headers = {
        "__connect.errors.topic": partition.topic,
        "__connect.errors.partition": str(partition.number),
        "__connect.errors.offset": str(letter.record.offset),
        "__connect.errors.stage": letter.stage,
        "__connect.errors.exception.class.name": type(letter.error).__qualname__,
        "__connect.errors.exception.message": str(letter.error)[:LONGEST_MESSAGE],
        "penstock.sequence": str(sequence_base + letter.record.offset),
    }
    return [(name, value.encode()) for name, value in headers.items()]
