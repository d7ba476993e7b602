"""How long dead letter topics keep what is in them: a letter must not outlive what is remembered of deletes."""

from collections.abc import Mapping, Sequence
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from penstock.observe.log import log

DAY_MS = 24 * 3_600_000
ASKED = ("cleanup.policy", "retention.ms")
REMEDY = (
    "set its cleanup.policy = delete and a retention.ms of at most PENSTOCK_PURGE__TOMBSTONES_S: a letter that is sent "
    "back when the delete of its document is purged brings that back"
)


def warn_of_retention(client: KafkaAdminClient, topics: Sequence[str], most_s: float) -> None:
    """One line for each that may keep a letter for longer; one for those of which the broker does not tell.

    Raises the library's errors.
    """
    if not topics:
        return
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(ASKED)) for topic in topics]
    told = client.describe_configs(asked, config_filter="all").get(ConfigResourceType.TOPIC.name.lower(), {})
    if untold := [topic for topic in topics if not told.get(topic)]:
        log.info("letters_retention_unknown", topics=untold, missing_right="DescribeConfigs")
    for topic in topics:
        if kept := too_long(told.get(topic) or {}, most_s):
            log.warning("letters_kept_too_long", topic=topic, kept=kept, most_days=round(most_s * 1000 / DAY_MS, 2),
                        remedy=REMEDY)  # fmt: skip


def too_long(config: Mapping[str, Any], most_s: float) -> str:
    """How long a topic of this configuration keeps its records, where that may be more; empty where it is not."""
    policy, retention = (str((config.get(name) or {}).get("value") or "") for name in ASKED)
    if "compact" in policy.replace(" ", "").split(","):
        return "compacted: the last letter of each key for ever, and no other"
    try:
        kept_ms = int(retention)
    except ValueError:
        return ""
    if kept_ms < 0:
        return "for ever"
    return f"{kept_ms / DAY_MS:.4g} days" if kept_ms > most_s * 1000 else ""
