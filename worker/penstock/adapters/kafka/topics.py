"""Topics: that they are there, and made where they may be."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.admin import NewTopic

from penstock.adapters.kafka.configs import cleanup, topic_configs
from penstock.adapters.kafka.connection import admin_client, connect
from penstock.adapters.kafka.letter_retention import warn_of_retention
from penstock.core.errors import Misconfigured
from penstock.core.identity import TopicIdentity
from penstock.observe.log import log
from penstock.settings import KafkaSettings, LettersKept, Needs

BY_BROKER = LettersKept()


def check_topics(
    settings: KafkaSettings,
    variable: str = "PENSTOCK_KAFKA__TOPIC",
    needs: Callable[[str], Needs] = lambda _: Needs(),
    kept: LettersKept = BY_BROKER,
    *,
    make: bool = True,
) -> TopicIdentity:
    """The identity of the topics that are followed, their dead letter topics made if need be, and if ``make``.

    ``variable`` is the setting that names them, ``needs`` says what each may not be, ``kept`` how long letters stay.
    Raises Misconfigured or Unavailable.
    """
    return connect(lambda: _check_topics(settings, variable, needs, kept, make=make), settings)


def followed(client: KafkaAdminClient, settings: KafkaSettings) -> list[str]:
    """The topics as they are named, or those that are there and that the pattern fits."""
    return list(settings.topics) or sorted(name for name in client.list_topics() if settings.follows(name))


def identity_of(settings: KafkaSettings, described: Sequence[Mapping[str, Any]]) -> TopicIdentity:
    """Of one topic; several have no identity but their names, since versions order their events."""
    if len(settings.topics) != 1:
        return TopicIdentity("", 0)
    (topic,) = described
    return TopicIdentity(str(topic["topic_id"]), len(topic["partitions"]))


def require_topic(settings: KafkaSettings, topic: str) -> None:
    """Raises Misconfigured where there is none of that name, Unavailable."""

    def ask() -> None:
        with admin_client(settings) as client:
            (described,) = client.describe_topics([topic])
        if is_missing(described):
            raise Misconfigured(
                f"topic {topic!r} does not exist on {settings.bootstrap_servers}: penstock setup makes it"
            )

    connect(ask, settings)


def _check_topics(
    settings: KafkaSettings, variable: str, needs: Callable[[str], Needs], kept: LettersKept, *, make: bool
) -> TopicIdentity:
    with admin_client(settings) as client:
        names = followed(client, settings)
        return identity_of(settings, look_at(client, settings, names, variable, needs, kept, make=make))


def look_at(
    client: KafkaAdminClient,
    settings: KafkaSettings,
    names: Sequence[str],
    variable: str = "PENSTOCK_KAFKA__TOPIC",
    needs: Callable[[str], Needs] = lambda _: Needs(),
    kept: LettersKept = BY_BROKER,
    *,
    make: bool = True,
) -> list[Mapping[str, Any]]:
    """The topics as they are, their dead letter topics made if need be, and if ``make``.

    Raises Misconfigured for what is unfit.
    """
    letters = {settings.dead_letters_of(name) for name in names}
    described = {topic["name"]: topic for topic in client.describe_topics([*names, *letters])}
    for name in names:
        if is_missing(described[name]):
            raise Misconfigured(
                f"topic {name!r} does not exist on {settings.bootstrap_servers}; create it, or set {variable}"
            )
        needed, partitions = needs(name), len(described[name]["partitions"])
        if needed.split and partitions > 1:
            raise Misconfigured(f"topic {name!r} has {partitions} partitions, {needed.split}")
        if needed.compacted:
            _refuse_compaction(client, name, needed.compacted)
    missing = [name for name in sorted(letters) if is_missing(described[name])]
    for name in missing if make else ():
        _create(client, name, "dead letter topic", kept.config)
    if kept.most_s is not None:
        warn_of_retention(client, sorted(letters.difference(missing)), kept.most_s)
    return [described[name] for name in names]


def _refuse_compaction(client: KafkaAdminClient, topic: str, reason: str) -> None:
    policy = cleanup(topic_configs(client, [topic], ["cleanup.policy"])[topic])
    if "compact" in policy:
        raise Misconfigured(f"topic {topic!r} is compacted, {reason}")
    if not policy:
        log.warning("compaction_unknown", topic=topic, missing_right="DescribeConfigs")


def make_topics(settings: KafkaSettings, names: Sequence[str]) -> None:
    """Make those of the topics for answers that are not there; raises Misconfigured or Unavailable."""

    def make() -> None:
        with admin_client(settings) as client:
            for described in client.describe_topics(list(names)):
                if is_missing(described):
                    _create(client, described["name"], "topic for answers")

    connect(make, settings)


def create_topic(settings: KafkaSettings, partitions: int) -> None:
    """Make the topic, unless it is there; raises Misconfigured or Unavailable."""

    def create() -> None:
        with suppress(kafka_errors.TopicAlreadyExistsError), admin_client(settings) as client:
            client.create_topics([NewTopic(settings.topic, partitions, -1)])

    connect(create, settings)


def delete_topics(settings: KafkaSettings) -> None:
    """Remove the topic and its dead letters, as far as they are there and may be removed."""
    for topic in (settings.topic, settings.dead_letters_of(settings.topic)):
        with suppress(kafka_errors.KafkaError), admin_client(settings) as client:
            client.delete_topics([topic])


def _create(client: KafkaAdminClient, name: str, what: str, config: Mapping[str, str] | None = None) -> None:
    try:
        client.create_topics([NewTopic(name, 1, -1, topic_configs=dict(config or {}))])
    except kafka_errors.TopicAlreadyExistsError:
        pass  # another worker was faster
    except kafka_errors.AuthorizationError as error:
        raise Misconfigured(f"{what} {name!r} does not exist and may not be created; create it") from error


def is_missing(described: Mapping[str, Any]) -> bool:
    """Raises the library's error, with the topic's name, where the broker does not tell."""
    if described["error_code"] not in (0, kafka_errors.UnknownTopicOrPartitionError.errno):
        raise kafka_errors.for_code(described["error_code"])(f"topic {described['name']!r}")
    return bool(described["error_code"])


class TopicSpec(NamedTuple):
    """A topic as it should be. ``replicas`` -1 leaves them to the broker.

    One that is there must have just these ``partitions`` where it is ``exact``; with others it will do.
    """

    name: str
    partitions: int
    replicas: int
    config: Mapping[str, str]
    exact: bool = False


def ensure(settings: KafkaSettings, topics: Sequence[TopicSpec]) -> list[tuple[TopicSpec, bool]]:
    """Make those that are not there; whether each was made. Raises Misconfigured or Unavailable.

    Partitions of a topic that is there are never changed: another number would scatter what is in it.
    """
    return connect(lambda: _ensure(settings, topics), settings)


def _ensure(settings: KafkaSettings, topics: Sequence[TopicSpec]) -> list[tuple[TopicSpec, bool]]:
    done = []
    with admin_client(settings) as client:
        described = {
            description["name"]: description for description in client.describe_topics([topic.name for topic in topics])
        }
        for topic in topics:
            known = described[topic.name]
            missing = is_missing(known)
            if missing:
                new = NewTopic(topic.name, topic.partitions, topic.replicas, topic_configs=dict(topic.config))
                with suppress(kafka_errors.TopicAlreadyExistsError):
                    client.create_topics([new])
            elif topic.exact and (there := len(known["partitions"])) != topic.partitions:
                raise Misconfigured(
                    f"topic {topic.name!r} has {there} partitions, the settings say {topic.partitions}: correct "
                    "PENSTOCK_SETUP__PARTITIONS, or move to a new topic"
                )
            done.append((topic, missing))
    return done
