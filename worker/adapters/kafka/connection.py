"""Reaching the brokers, and what must be right there before the first record is read."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import errors as kafka_errors
from kafka.admin import NewTopic
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.net.sasl.oauth import AbstractTokenProvider

from worker.adapters.kafka import last_words
from worker.errors import Misconfigured, Unavailable
from worker.settings import KafkaSettings

last_words.heed()

LARGEST_REQUEST = 64 << 20
"""Bytes that the dead letter producer may send at once: the broker's limit decides, not the client's."""

REFUSALS = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.AuthorizationError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.KafkaConfigurationError,
    kafka_errors.InvalidTopicError,
)
"""What waiting will not mend."""

LOGIN_FAILURES = ("SaslAuthenticationFailedError", "UnsupportedSaslMechanismError", "CERTIFICATE_VERIFY_FAILED")
"""The same where the library only logs it."""


def say(error: Exception) -> str:
    """A library error in one line; some leave its text empty, some begin it with their name."""
    name, text = type(error).__name__, " ".join(str(error).split())
    return text if name in text else f"{name}: {text}" if text else name


class TokenFile(AbstractTokenProvider):  # type: ignore[misc]  # the library is untyped
    """The token for OAUTHBEARER, as it is in the file when the broker asks."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def token(self) -> str:
        """Raises a failure that a login counts as refused where the file is not there."""
        try:
            return self._path.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is no token"
            raise kafka_errors.SaslAuthenticationFailedError(f"{self._path}: {reason}") from None


class TopicIdentity(NamedTuple):
    """What tells a topic from one of the same name made later."""

    id: str
    partitions: int


def check_topic(settings: KafkaSettings, variable: str = "PENSTOCK_KAFKA__TOPIC") -> TopicIdentity:
    """The topic's identity, its dead letter topic made if need be; ``variable`` is the setting that names it.

    Raises Misconfigured or Unavailable.
    """
    topic: TopicIdentity = _connected(lambda: _check_topic(settings, variable), settings)
    return topic


def connect_consumer(settings: KafkaSettings) -> KafkaConsumer:
    """A consumer that has reached its brokers; raises Misconfigured or Unavailable."""
    return _connected(
        lambda: KafkaConsumer(
            group_id=settings.group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            partition_assignment_strategy=[CooperativeStickyAssignor],
            max_poll_records=settings.max_poll_records,
            session_timeout_ms=int(settings.session_timeout_s * 1000),
            heartbeat_interval_ms=int(min(3.0, settings.session_timeout_s / 3) * 1000),
            **connection(settings),
        ),
        settings,
    )


def connect_producer(settings: KafkaSettings, **options: Any) -> KafkaProducer:
    """A producer whose records are on every in-sync replica before they count as sent."""
    # not idempotent: after one record that a broker finds too large, an idempotent producer sends nothing any more
    given = {"acks": "all", "enable_idempotence": False, "max_request_size": LARGEST_REQUEST}
    options = given | connection(settings) | options
    return _connected(lambda: KafkaProducer(**options), settings)


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """What every kind of client needs to reach the brokers."""
    options: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in settings.bootstrap_servers.split(",")],
        "client_id": settings.client_id,
        "bootstrap_timeout_ms": 5_000,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.sasl_mechanism
        if settings.sasl_token_file is not None:
            options["sasl_oauth_token_provider"] = TokenFile(settings.sasl_token_file)
        else:
            options["sasl_plain_username"] = settings.sasl_username
            options["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    if settings.security_protocol.endswith("SSL"):
        options["ssl_check_hostname"] = settings.ssl_check_hostname
        options["ssl_cafile"] = _path(settings.ssl_ca_file)
        options["ssl_certfile"] = _path(settings.ssl_certificate_file)
        options["ssl_keyfile"] = _path(settings.ssl_key_file)
        options["ssl_password"] = settings.ssl_key_password.get_secret_value() or None
    return options


def _check_topic(settings: KafkaSettings, variable: str) -> TopicIdentity:
    with _admin(settings) as admin:
        found = {topic["name"]: topic for topic in admin.describe_topics([settings.topic, settings.dead_letters])}
        wanted, letters = found[settings.topic], found[settings.dead_letters]
        if wanted["error_code"] == kafka_errors.UnknownTopicOrPartitionError.errno:
            raise Misconfigured(
                f"topic {settings.topic!r} does not exist on {settings.bootstrap_servers}; create it, or set {variable}"
            )
        _raise_for(wanted)
        if letters["error_code"] == kafka_errors.UnknownTopicOrPartitionError.errno:
            _create(admin, settings.dead_letters, "dead letter topic")
        return TopicIdentity(str(wanted["topic_id"]), len(wanted["partitions"]))


def make_topics(settings: KafkaSettings, names: Sequence[str]) -> None:
    """Make those of the topics for answers that are not there; raises Misconfigured or Unavailable."""

    def make() -> None:
        with _admin(settings) as admin:
            for found in admin.describe_topics(list(names)):
                if found["error_code"] == kafka_errors.UnknownTopicOrPartitionError.errno:
                    _create(admin, found["name"], "topic for answers")
                else:
                    _raise_for(found)

    _connected(make, settings)


def create_topic(settings: KafkaSettings, partitions: int) -> None:
    """Make the topic, unless it is there; raises Misconfigured or Unavailable."""

    def create() -> None:
        with suppress(kafka_errors.TopicAlreadyExistsError), _admin(settings) as admin:
            admin.create_topics([NewTopic(settings.topic, partitions, -1)])

    _connected(create, settings)


def delete_topics(settings: KafkaSettings) -> None:
    """Remove the topic and its dead letters, as far as they are there and may be removed."""
    for topic in (settings.topic, settings.dead_letters):
        with suppress(kafka_errors.KafkaError), _admin(settings) as admin:
            admin.delete_topics([topic])


@contextmanager
def _admin(settings: KafkaSettings) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(**connection(settings))
    try:
        yield admin
    finally:
        admin.close()


def _create(admin: KafkaAdminClient, name: str, what: str) -> None:
    try:
        admin.create_topics([NewTopic(name, 1, -1)])
    except kafka_errors.TopicAlreadyExistsError:
        pass  # another worker was faster
    except kafka_errors.AuthorizationError as error:
        raise Misconfigured(f"{what} {name!r} does not exist and may not be created; create it") from error


def _raise_for(described: Mapping[str, Any]) -> None:
    if described["error_code"]:
        raise kafka_errors.for_code(described["error_code"])


class _Overheard(logging.Handler):
    """Notes a failed login, of which the library only logs: what it raises is a time-out."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.refusal = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what follows the failure's name."""
        text = record.getMessage()
        for name in LOGIN_FAILURES:
            if name in text:
                self.refusal = text[text.index(name) :].rstrip(")")


@contextmanager
def _overhearing() -> Iterator[_Overheard]:
    library, handler = logging.getLogger("kafka"), _Overheard()
    level = library.level
    library.addHandler(handler)
    library.setLevel(min(level, logging.ERROR) or logging.ERROR)
    try:
        yield handler
    finally:
        library.removeHandler(handler)
        library.setLevel(level)


def _connected(connect: Callable[[], Any], settings: KafkaSettings) -> Any:
    with _overhearing() as overheard:
        try:
            return translated(connect, settings)
        except Unavailable as error:
            if overheard.refusal:
                raise Misconfigured(f"Kafka at {settings.bootstrap_servers} refuses: {overheard.refusal}") from error
            raise


def translated(connect: Callable[[], Any], settings: KafkaSettings) -> Any:
    """The call's result; its failures as Misconfigured, where waiting will not mend them, or Unavailable."""
    try:
        return connect()
    except REFUSALS as error:
        raise Misconfigured(f"Kafka at {settings.bootstrap_servers} refuses: {say(error)}") from error
    except kafka_errors.KafkaError as error:
        raise Unavailable(f"Kafka at {settings.bootstrap_servers}: {say(error)}") from error
    except (ValueError, OSError) as error:
        raise Misconfigured(f"Kafka at {settings.bootstrap_servers}: {error}") from error


def _path(path: object) -> str | None:
    return None if path is None else str(path)
