"""How long the topics of the documents and of their dead letters keep records, asked of the brokers."""

import math
from collections.abc import Mapping

from kafka import KafkaAdminClient

from penstock.adapters.kafka.configs import topic_configs
from penstock.adapters.kafka.connection import AdminConnection
from penstock.adapters.kafka.topics import followed, is_missing
from penstock.core.errors import Misconfigured
from penstock.core.retention import Kept
from penstock.settings import KafkaSettings

ASKED = ("cleanup.policy", "retention.ms", "delete.retention.ms")


class KafkaRetention:
    """Of the topics of the settings. Connects at the first question."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings, self._admin = settings, AdminConnection(settings)

    def topics(self) -> list[Kept]:
        """Those of the documents first; of dead letters only what is there. Raises Misconfigured or Unavailable."""
        return self._admin.ask(self._topics)

    def close(self) -> None:
        """Release the connection."""
        self._admin.close()

    def _topics(self, admin: KafkaAdminClient) -> list[Kept]:
        names = followed(admin, self._settings)
        letters = sorted({self._settings.dead_letters_of(name) for name in names})
        described = {topic["name"]: topic for topic in admin.describe_topics([*names, *letters])} if names else {}
        if missing := [name for name in names if is_missing(described[name])]:
            raise Misconfigured(f"topic {missing[0]!r} does not exist; correct PENSTOCK_KAFKA__TOPIC")
        there = [*names, *(name for name in letters if not is_missing(described[name]))]
        told = topic_configs(admin, there, ASKED)
        return [kept(name, told[name], letters=name not in names) for name in there]


def kept(topic: str, config: Mapping[str, str], *, letters: bool) -> Kept:
    """What a topic's configuration says."""
    policy, retention, marks = (config.get(name, "") for name in ASKED)
    return Kept(topic, letters, policy, _seconds(retention), _seconds(marks))


def _seconds(milliseconds: str) -> float:
    try:
        told = int(milliseconds)
    except ValueError:
        return math.inf
    return math.inf if told < 0 else told / 1000
