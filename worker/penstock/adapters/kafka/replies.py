"""The topics that answers are sent to."""

from collections.abc import Sequence
from typing import Any

from kafka import KafkaProducer
from kafka import errors as kafka_errors
from typing_extensions import override

from penstock.adapters.kafka.connection import failure, one_line
from penstock.core.errors import Refused
from penstock.core.ports import Replies
from penstock.core.records import Message

REQUEST_S = 10.0


class KafkaReplies(Replies):
    """Sends answers; see ``ports.Replies``."""

    def __init__(self, producer: KafkaProducer) -> None:
        self._producer = producer

    @override
    def put(self, messages: Sequence[Message]) -> None:
        try:
            sent = [self._send(message) for message in messages]
            for future in sent:
                future.get(timeout=REQUEST_S)
        except kafka_errors.MessageSizeTooLargeError as error:
            raise Refused(
                f"the answer is too large for its topic ({one_line(error)}): ask for fewer documents"
            ) from error
        except kafka_errors.KafkaError as error:
            raise failure(error, "sending answers", "answers cannot be sent") from error

    def _send(self, message: Message) -> Any:
        headers = [(name, value or b"") for name, value in message.headers]  # the library sends no null headers
        return self._producer.send(message.topic, key=message.key, value=message.value, headers=headers)

    @override
    def close(self, timeout_s: float) -> None:
        self._producer.close(timeout=timeout_s)
