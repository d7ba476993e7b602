"""What brokers may remove of topics."""

from collections.abc import Sequence

from penstock.adapters.kafka.configs import cleanup, topic_configs
from penstock.adapters.kafka.connection import admin_client, connect
from penstock.adapters.kafka.topics import followed
from penstock.settings import KafkaSettings


def cleanup_policies(settings: KafkaSettings, topics: Sequence[str]) -> dict[str, frozenset[str]]:
    """The cleanup.policy of each topic: delete, compact, or both; none where the broker does not tell."""

    def ask() -> dict[str, frozenset[str]]:
        with admin_client(settings) as client:
            told = topic_configs(client, topics, ["cleanup.policy"])
        return {topic: cleanup(config) for topic, config in told.items()}

    return connect(ask, settings)


def documents_and_letters(settings: KafkaSettings) -> tuple[list[str], list[str]]:
    """The topics of documents that are followed now, and those of their dead letters that are there."""

    def ask() -> tuple[list[str], list[str]]:
        with admin_client(settings) as client:
            names, there = followed(client, settings), set(client.list_topics())
        return names, sorted(there & {settings.dead_letters_of(name) for name in names})

    return connect(ask, settings)
