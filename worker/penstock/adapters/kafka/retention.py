"""How long the topics of the documents and of their dead letters keep records, asked of the brokers."""

import math
from collections.abc import Mapping, Sequence

from kafka import KafkaAdminClient

from penstock.adapters.kafka.configs import topic_configs
from penstock.adapters.kafka.connection import AdminConnection, admin_client, connect
from penstock.adapters.kafka.topics import followed, is_missing
from penstock.core.errors import Misconfigured
from penstock.core.retention import CENTURY_S, Kept
from penstock.settings import KafkaSettings

ASKED = ("cleanup.policy", "retention.ms", "delete.retention.ms")


class KafkaRetention:
    """Of the topics of the settings, and of a ``backfill``'s where there is one. Connects at the first question."""

    def __init__(self, settings: KafkaSettings, backfill: str = "") -> None:
        self._settings, self._admin, self._backfill = settings, AdminConnection(settings), backfill

    def topics(self) -> list[Kept]:
        """Those of the documents first; of a backfill and of dead letters only what is there.

        Raises Misconfigured or Unavailable.
        """
        return self._admin.ask(self._topics)

    def close(self) -> None:
        """Release the connection."""
        self._admin.close()

    def _topics(self, admin: KafkaAdminClient) -> list[Kept]:
        names = followed(admin, self._settings)
        letters = {self._settings.dead_letters_of(name) for name in names}
        behind = [self._backfill] if self._backfill else []
        letters.update(self._settings.behind(name).dead_letters for name in behind)
        more = [*behind, *sorted(letters)]
        described = {one["name"]: one for one in admin.describe_topics([*names, *more])} if names or more else {}
        if missing := [name for name in names if is_missing(described[name])]:
            raise Misconfigured(f"topic {missing[0]!r} does not exist; correct PENSTOCK_KAFKA__TOPIC")
        there = [*names, *(name for name in more if not is_missing(described[name]))]
        told = topic_configs(admin, there, ASKED)
        return [kept(name, told[name], letters=name in letters, backfill=name in behind) for name in there]


def kept_now(settings: KafkaSettings, topics: Sequence[str]) -> dict[str, Kept]:
    """How topics of documents that are there keep their records; raises Misconfigured or Unavailable."""

    def ask() -> dict[str, Kept]:
        with admin_client(settings) as client:
            told = topic_configs(client, topics, ASKED)
        return {topic: kept(topic, config, letters=False) for topic, config in told.items()}

    return connect(ask, settings)


def kept(topic: str, config: Mapping[str, str], *, letters: bool, backfill: bool = False) -> Kept:
    """What a topic's configuration says."""
    policy, retention, marks = (config.get(name, "") for name in ASKED)
    return Kept(topic, letters, policy, _seconds(retention), _seconds(marks), backfill)


def _seconds(milliseconds: str) -> float:
    try:
        told = int(milliseconds)
    except ValueError:
        return math.inf
    return math.inf if told < 0 or told / 1000 > CENTURY_S else told / 1000
