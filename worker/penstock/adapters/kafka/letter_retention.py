"""How long dead letter topics keep what is in them: a letter must not outlive what is remembered of deletes."""

from collections.abc import Mapping, Sequence

from kafka import KafkaAdminClient

from penstock.adapters.kafka.configs import cleanup, topic_configs
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
    told = topic_configs(client, topics, ASKED)
    if untold := [topic for topic in topics if not told[topic]]:
        log.info("letters_retention_unknown", topics=untold, missing_right="DescribeConfigs")
    for topic in topics:
        if kept := too_long(told[topic], most_s):
            log.warning("letters_kept_too_long", topic=topic, kept=kept, most_days=round(most_s * 1000 / DAY_MS, 2),
                        remedy=REMEDY)  # fmt: skip


def too_long(config: Mapping[str, str], most_s: float) -> str:
    """How long a topic of this configuration keeps its records, where that may be more; empty where it is not."""
    if "compact" in cleanup(config):
        return "compacted: the last letter of each key for ever, and no other"
    try:
        kept_ms = int(config.get("retention.ms", ""))
    except ValueError:
        return ""
    if kept_ms < 0:
        return "for ever"
    return f"{kept_ms / DAY_MS:.4g} days" if kept_ms > most_s * 1000 else ""
