"""Events sent to a topic, for who has them in a file."""

from collections.abc import Sequence

from kafka import errors as kafka_errors

from penstock.adapters.kafka.connection import connect_producer, failure, one_line, send_all
from penstock.adapters.kafka.topics import require_topic
from penstock.core.errors import Misconfigured
from penstock.core.records import Compression, Message
from penstock.settings import KafkaSettings

SENT_S, CLOSE_S, LINGER_MS = 30.0, 5.0, 20


class KafkaSender:
    """What has been sent is on every in-sync replica."""

    def __init__(self, settings: KafkaSettings, topic: str, compression: Compression) -> None:
        """Reaches the brokers; raises Misconfigured, also where there is no such topic, or Unavailable."""
        require_topic(settings, topic)
        kind = None if compression == "none" else compression
        self._producer = connect_producer(settings, compression_type=kind, linger_ms=LINGER_MS)

    def send(self, messages: Sequence[Message]) -> None:
        """All of them; raises Misconfigured or Unavailable, and some may be there then."""
        try:
            send_all(self._producer, messages, SENT_S)
        except kafka_errors.MessageSizeTooLargeError as error:
            raise Misconfigured(f"an event is too large for the topic: {one_line(error)}") from error
        except kafka_errors.KafkaError as error:
            raise failure(error, "sending events", "events cannot be sent") from error

    def close(self) -> None:
        """Let go of the brokers."""
        self._producer.close(timeout=CLOSE_S)
