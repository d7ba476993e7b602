"""Reaching the brokers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import errors as kafka_errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.net.sasl.oauth import AbstractTokenProvider

from penstock.adapters.kafka import internals
from penstock.adapters.kafka.msk import SignedToken
from penstock.core.errors import Misconfigured, Unavailable
from penstock.core.records import Message
from penstock.settings import KafkaSettings

T = TypeVar("T")

internals.read_answers_before_hangups()
internals.bound_decompression()

QUESTION_MS = 10_000
"""A question to a broker that has gone is asked of another after this: a batch, or a search, waits for the answer."""

LARGEST_REQUEST = 64 << 20
"""Bytes that the dead letter producer may send at once: the broker's limit decides, not the client's."""

REFUSALS = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.AuthorizationError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.KafkaConfigurationError,
    kafka_errors.InvalidTopicError,
    kafka_errors.InvalidSessionTimeoutError,
    kafka_errors.InvalidGroupIdError,
    kafka_errors.InconsistentGroupProtocolError,
    kafka_errors.InvalidRecordError,
    kafka_errors.InvalidTimestampError,
    kafka_errors.InvalidRequiredAcksError,
    kafka_errors.InvalidPartitionsError,
    kafka_errors.InvalidReplicationFactorError,
    kafka_errors.InvalidReplicationAssignmentError,
    kafka_errors.InvalidConfigurationError,
    kafka_errors.PolicyViolationError,
    kafka_errors.SecurityDisabledError,
    kafka_errors.UnsupportedVersionError,
    kafka_errors.UnsupportedForMessageFormatError,
    kafka_errors.UnsupportedCodecError,
)
"""What waiting will not mend."""

HINTS = {
    kafka_errors.InvalidSessionTimeoutError: "PENSTOCK_KAFKA__SESSION_TIMEOUT_S is outside of what the broker allows "
    "(group.min.session.timeout.ms to group.max.session.timeout.ms)",
    kafka_errors.InvalidGroupIdError: "PENSTOCK_KAFKA__GROUP is no name for a group",
    kafka_errors.InconsistentGroupProtocolError: "members of another kind are in the group: set another "
    "PENSTOCK_KAFKA__GROUP",
    kafka_errors.InvalidRecordError: "a compacted topic takes no record without a key",
}
"""What to do, where the error itself does not say it."""


def one_line(error: Exception) -> str:
    """A library error in one line; some leave its text empty, some begin it with their name."""
    name, text = type(error).__name__, " ".join(str(error).split())
    return text if name in text else f"{name}: {text}" if text else name


def failure(error: kafka_errors.KafkaError, what: str, refusing: str = "") -> Misconfigured | Unavailable:
    """A library error as what the worker does about it, told of ``what``, in other words where that is ``refusing``."""
    if isinstance(error, REFUSALS):
        hint = HINTS.get(type(error))
        return Misconfigured(f"{refusing or f'{what} refuses'}: {one_line(error)}{f': {hint}' if hint else ''}")
    return Unavailable(f"{what}: {one_line(error)}")


NEW_TOPICS_S, KNOWN_TOPICS_S = 10.0, 300.0
"""How often the brokers are asked which topics there are: with a pattern there may be new ones."""


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


def connect_consumer(settings: KafkaSettings) -> KafkaConsumer:
    """A consumer that has reached its brokers; raises Misconfigured or Unavailable."""
    return connect(
        lambda: internals.client(
            KafkaConsumer,
            group_id=settings.group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            partition_assignment_strategy=[CooperativeStickyAssignor],
            max_poll_records=settings.max_poll_records,
            metadata_max_age_ms=int((NEW_TOPICS_S if settings.pattern else KNOWN_TOPICS_S) * 1000),
            session_timeout_ms=int(settings.session_timeout_s * 1000),
            heartbeat_interval_ms=int(min(3.0, settings.session_timeout_s / 3) * 1000),
            **client_options(settings),
        ),
        settings,
    )


def connect_producer(settings: KafkaSettings, **options: Any) -> KafkaProducer:
    """A producer whose records are on every in-sync replica before they count as sent."""
    # not idempotent: after one record that a broker finds too large, an idempotent producer sends nothing any more
    given = {"acks": "all", "enable_idempotence": False, "max_request_size": LARGEST_REQUEST}
    options = given | client_options(settings) | options
    return connect(lambda: internals.client(KafkaProducer, **options), settings)


def send_all(producer: KafkaProducer, messages: Sequence[Message], timeout_s: float) -> None:
    """Until each is on every in-sync replica; raises the library's errors."""
    sent = []
    for message in messages:
        headers = [(name, value or b"") for name, value in message.headers]  # the library sends no null headers
        sent.append(producer.send(message.topic, key=message.key, value=message.value, headers=headers))
    for future in sent:
        future.get(timeout=timeout_s)


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """What every kind of client needs to reach the brokers."""
    options: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in settings.bootstrap_servers.split(",")],
        "client_id": settings.client_id,
        "bootstrap_timeout_ms": 5_000,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.sasl_mechanism
        if settings.sasl_provider == "msk":
            options["sasl_oauth_token_provider"] = SignedToken(settings.sasl_region)
        elif settings.sasl_mechanism == "OAUTHBEARER" and settings.sasl_token_file is not None:
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


@contextmanager
def admin_client(settings: KafkaSettings) -> Iterator[KafkaAdminClient]:
    """A client for topics and groups."""
    client = internals.client(KafkaAdminClient, **client_options(settings))
    try:
        yield client
    finally:
        client.close()


class AdminConnection:
    """Questions about topics and groups, asked again and again. Connects at the first, and anew after a failure."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: KafkaAdminClient | None = None

    def ask(self, question: Callable[[KafkaAdminClient], T]) -> T:
        """The answer; raises Misconfigured or Unavailable."""
        if (client := self._client) is None:
            options = client_options(self._settings) | {"request_timeout_ms": QUESTION_MS}
            client = connect(lambda: internals.client(KafkaAdminClient, **options), self._settings)
            self._client = client
        try:
            return translate_errors(lambda: question(client), self._settings)
        except Unavailable:
            self.close()  # a new connection finds its own way to the brokers that are left, and tells of a failed login
            raise

    def close(self) -> None:
        """Release the connection; another question makes a new one."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def connect(call: Callable[[], T], settings: KafkaSettings) -> T:
    """As ``translate_errors``; a login that failed is told, though the library only logs it."""
    with internals.login_failure() as login_failure:
        try:
            return translate_errors(call, settings)
        except Unavailable as error:
            if reason := login_failure():
                raise Misconfigured(f"Kafka at {settings.bootstrap_servers} refuses: {reason}") from error
            raise


def translate_errors(call: Callable[[], T], settings: KafkaSettings) -> T:
    """The call's result; its failures as Misconfigured, where waiting will not mend them, or Unavailable."""
    try:
        return call()
    except kafka_errors.KafkaError as error:
        raise failure(error, f"Kafka at {settings.bootstrap_servers}") from error
    except (ValueError, OSError) as error:
        raise Misconfigured(f"Kafka at {settings.bootstrap_servers}: {error}") from error


def _path(path: object) -> str | None:
    return None if path is None else str(path)
