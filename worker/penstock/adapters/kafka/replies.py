"""The topics that answers are sent to."""

from collections.abc import Sequence

from kafka import KafkaProducer
from kafka import errors as kafka_errors
from typing_extensions import override

from penstock.adapters.kafka.connection import failure, one_line, send_all
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
            send_all(self._producer, messages, REQUEST_S)
        except kafka_errors.MessageSizeTooLargeError as error:
            raise Refused(
                f"the answer is too large for its topic ({one_line(error)}): ask for fewer documents"
            ) from error
        except kafka_errors.KafkaError as error:
            raise failure(error, "sending answers", "answers cannot be sent") from error

    @override
    def close(self, timeout_s: float) -> None:
        self._producer.close(timeout=timeout_s)
