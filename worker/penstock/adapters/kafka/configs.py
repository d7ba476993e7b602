"""What the brokers say of how topics are kept."""

from collections.abc import Iterable, Mapping, Sequence

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType


def topic_configs(
    client: KafkaAdminClient, topics: Sequence[str], names: Iterable[str]
) -> dict[str, Mapping[str, str]]:
    """The values of these options, by topic; empty where the broker does not tell. Raises the library's errors."""
    wanted = dict.fromkeys(names)
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic, dict(wanted)) for topic in topics]
    told = client.describe_configs(asked, config_filter="all") if asked else {}
    configs = told.get(ConfigResourceType.TOPIC.name.lower(), {})
    return {
        topic: {name: str((one or {}).get("value") or "") for name, one in (configs.get(topic) or {}).items()}
        for topic in topics
    }


def cleanup(config: Mapping[str, str]) -> frozenset[str]:
    """Of a topic's options: delete, compact, or both; none where the broker does not tell."""
    return frozenset(filter(None, config.get("cleanup.policy", "").replace(" ", "").split(",")))
