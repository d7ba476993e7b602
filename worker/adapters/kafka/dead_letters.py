"""The dead letter topic."""

from collections.abc import Sequence
from typing import Any

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from worker.adapters.kafka.connection import say
from worker.errors import Unavailable
from worker.types import Letter

REQUEST_S = 10.0


class KafkaDeadLetters:
    """Sends dead letters to their topic, with the headers that Kafka Connect uses for them."""

    def __init__(self, producer: KafkaProducer, topic: str, sequence_base: int) -> None:
        """``sequence_base`` is that of the rules by which the topic is read."""
        self._producer = producer
        self._topic = topic
        self._sequence_base = sequence_base

    def put(self, letters: Sequence[Letter]) -> None:
        """As the port says. A letter that the broker finds too large goes without its value, and says so."""
        sent = [(letter, self._send(letter, letter.record.value)) for letter in letters]
        for letter, future in sent:
            try:
                future.get(timeout=REQUEST_S)
            except kafka_errors.MessageSizeTooLargeError:
                dropped = len(letter.record.value or b"")
                retry = self._send(letter, None, (("penstock.value.dropped", str(dropped).encode()),))
                self._await(retry)
            except kafka_errors.KafkaError as error:
                raise Unavailable(f"dead letter topic {self._topic}: {say(error)}") from error

    def close(self, timeout_s: float) -> None:
        """As the port says."""
        self._producer.close(timeout=timeout_s)

    def _send(self, letter: Letter, value: bytes | None, more: tuple[tuple[str, bytes], ...] = ()) -> Any:
        own = [(name, value or b"") for name, value in letter.record.headers]  # the library sends no null headers
        headers = [*own, *error_headers(letter, self._sequence_base), *more]
        try:
            return self._producer.send(self._topic, key=letter.record.key, value=value, headers=headers)
        except kafka_errors.KafkaError as error:
            raise Unavailable(f"dead letter topic {self._topic}: {say(error)}") from error

    def _await(self, future: Any) -> None:
        try:
            future.get(timeout=REQUEST_S)
        except kafka_errors.KafkaError as error:
            raise Unavailable(f"dead letter topic {self._topic}: {say(error)}") from error


def error_headers(letter: Letter, sequence_base: int) -> list[tuple[str, bytes]]:
    """The headers of Kafka Connect's dead letter queues (KIP-298), and the order of the first delivery."""
    partition = letter.record.partition
    said = {
        "__connect.errors.topic": partition.topic,
        "__connect.errors.partition": str(partition.number),
        "__connect.errors.offset": str(letter.record.offset),
        "__connect.errors.stage": letter.stage,
        "__connect.errors.exception.class.name": type(letter.error).__qualname__,
        "__connect.errors.exception.message": str(letter.error),
        "penstock.sequence": str(sequence_base + letter.record.offset),
    }
    return [(name, value.encode()) for name, value in said.items()]
