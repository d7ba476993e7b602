"""The dead letter topic."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from kafka import KafkaProducer
from kafka import errors as kafka_errors
from kafka.future import Future
from kafka.producer.future import FutureRecordMetadata
from typing_extensions import override

from penstock.adapters.kafka.connection import failure
from penstock.core.errors import Misconfigured
from penstock.core.letters import DELIVERED, SEQUENCE, TOPIC_ID
from penstock.core.ports import DeadLetters
from penstock.core.records import Headers, Letter
from penstock.settings import KafkaSettings

REQUEST_S = 10.0
LONGEST_MESSAGE = 2000
TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)


class KafkaDeadLetters(DeadLetters):
    """Sends dead letters to their topic, with the headers that Kafka Connect uses for them."""

    def __init__(
        self, producer: KafkaProducer, settings: KafkaSettings, sequence_base: int, topic_id: str = ""
    ) -> None:
        """``sequence_base`` is that of the rules by which the topics are read; ``topic_id`` that of the one topic."""
        self._producer = producer
        self._topic_of = settings.dead_letters_of
        self._sequence_base, self._topic_id = sequence_base, topic_id

    @override
    def put(self, letters: Sequence[Letter]) -> None:
        """A letter that is too large for the topic goes without its value, and at last with nothing of its own.

        What was left out is told by its size and its SHA-256.
        """
        left = list(letters)
        for form in FORMS:
            sent = [(letter, self._send(letter, form)) for letter in left]
            left = [letter for letter, future in sent if not self._fits(letter, future)]
        if left:
            raise Misconfigured(
                f"{self._name(left[0])} takes not even a letter without its content: raise its max.message.bytes"
            )

    @override
    def close(self, timeout_s: float) -> None:
        self._producer.close(timeout=timeout_s)

    def _send(self, letter: Letter, form: "Form") -> Any:
        """A future; one that has failed when the client itself finds the letter too large."""
        key, value, headers = form(letter, error_headers(letter, self._sequence_base, self._topic_id))
        topic = self._topic_of(letter.record.partition.topic)
        try:
            return self._producer.send(topic, key=key, value=value, headers=headers)
        except TOO_LARGE as error:
            return Future().failure(error)
        except kafka_errors.KafkaError as error:
            raise failure(error, self._name(letter), self._name(letter)) from error

    def _name(self, letter: Letter) -> str:
        return f"dead letter topic {self._topic_of(letter.record.partition.topic)!r}"

    def _fits(self, letter: Letter, future: Any) -> bool:
        try:
            if isinstance(future, FutureRecordMetadata):
                future.get(timeout=REQUEST_S)
            elif future.failed():
                raise future.exception
        except TOO_LARGE:
            return False
        except kafka_errors.KafkaError as error:
            raise failure(error, self._name(letter), self._name(letter)) from error
        return True


def whole(letter: Letter, errors: Headers) -> "Parts":
    """Everything as it was."""
    return _sendable(letter.record.key, letter.record.value, [*letter.record.headers, *errors])


def without_value(letter: Letter, errors: Headers) -> "Parts":
    """All but the value."""
    record = letter.record
    return _sendable(record.key, None, [*record.headers, *errors, *_dropped("value", record.value)])


def bare(letter: Letter, errors: Headers) -> "Parts":
    """Our own headers, and what would have stood beside them as sizes and hashes."""
    record = letter.record
    theirs = b"".join(name.encode() + b"\0" + (value or b"") + b"\0" for name, value in record.headers)
    told = [*_dropped("key", record.key), *_dropped("value", record.value), *_dropped("headers", theirs)]
    return _sendable(None, None, [*errors, *told])


Parts = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
Form = Callable[[Letter, Headers], Parts]
FORMS: tuple[Form, ...] = (whole, without_value, bare)


def _sendable(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> Parts:
    """The library sends no record without key and value, and no header without a value."""
    filled = [(name, header or b"") for name, header in headers]
    if key is None and value is None:
        return None, b"", [*filled, ("penstock.value.null", b"true")]
    return key, value, filled


def _dropped(what: str, content: bytes | None) -> list[tuple[str, bytes]]:
    if content is None:
        return []
    size, digest = str(len(content)).encode(), hashlib.sha256(content).hexdigest().encode()
    return [(f"penstock.{what}.dropped", size), (f"penstock.{what}.sha256", digest)]


def error_headers(letter: Letter, sequence_base: int, topic_id: str = "") -> Headers:
    """The headers of Kafka Connect's dead letter queues (KIP-298), and the order and the time of the delivery."""
    partition = letter.record.partition
    headers = {
        "__connect.errors.topic": partition.topic,
        "__connect.errors.partition": str(partition.number),
        "__connect.errors.offset": str(letter.record.offset),
        "__connect.errors.stage": letter.stage,
        "__connect.errors.exception.class.name": type(letter.error).__qualname__,
        "__connect.errors.exception.message": str(letter.error)[:LONGEST_MESSAGE],
        SEQUENCE: str(sequence_base + letter.record.offset),
    }
    if letter.record.timestamp_ms is not None:
        headers[DELIVERED] = str(letter.record.timestamp_ms)
    if topic_id:
        headers[TOPIC_ID] = topic_id
    return tuple((name, value.encode()) for name, value in headers.items())
