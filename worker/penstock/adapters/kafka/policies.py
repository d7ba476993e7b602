"""What brokers may remove of topics."""

from collections.abc import Sequence

from kafka.admin import ConfigResource, ConfigResourceType

from penstock.adapters.kafka.connection import admin_client, connect
from penstock.adapters.kafka.topics import followed
from penstock.settings import KafkaSettings


def cleanup_policies(settings: KafkaSettings, topics: Sequence[str]) -> dict[str, frozenset[str]]:
    """The cleanup.policy of each topic: delete, compact, or both; none where the broker does not tell."""

    def ask() -> dict[str, frozenset[str]]:
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic, {"cleanup.policy": None}) for topic in topics]
        with admin_client(settings) as client:
            told = client.describe_configs(asked, config_filter="all") if asked else {}
        configs = told.get(ConfigResourceType.TOPIC.name.lower(), {})
        found = {topic: (config.get("cleanup.policy") or {}).get("value") or "" for topic, config in configs.items()}
        return {topic: frozenset(filter(None, found.get(topic, "").replace(" ", "").split(","))) for topic in topics}

    return connect(ask, settings)


def documents_and_letters(settings: KafkaSettings) -> tuple[list[str], list[str]]:
    """The topics of documents that are followed now, and those of their dead letters that are there."""

    def ask() -> tuple[list[str], list[str]]:
        with admin_client(settings) as client:
            names, there = followed(client, settings), set(client.list_topics())
        return names, sorted(there & {settings.dead_letters_of(name) for name in names})

    return connect(ask, settings)
