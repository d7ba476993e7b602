"""How long topics keep records, and whether tombstones may go before that. Pure."""

import math
from collections.abc import Sequence
from typing import NamedTuple

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0

CENTURY_S = 100 * 365 * DAY_S
"""What is to stay for longer than that stays for ever."""


class Kept(NamedTuple):
    """A topic's retention, in seconds, infinite where it is for ever. ``letters``: it is one of dead letters.

    ``policy`` is its cleanup.policy, empty where the broker does not tell; ``marks_s`` its delete.retention.ms.
    ``backfill``: it is read behind the others, whose deletes it does not hold, so that compaction ends nothing in it.
    """

    topic: str
    letters: bool = False
    policy: str = ""
    retention_s: float = math.inf
    marks_s: float = 0.0
    backfill: bool = False

    @property
    def policies(self) -> set[str]:
        """What the broker does to old records: delete, compact, or both."""
        return {part.strip() for part in self.policy.split(",")} - {""}

    @property
    def longest(self) -> tuple[float, str]:
        """How long an event that was replaced may still be read, and the topic's setting that says so."""
        bounds = []
        if "compact" in self.policies and not (self.letters or self.backfill):
            bounds.append((self.marks_s, "delete.retention.ms"))
        if "delete" in self.policies and not (bounds and math.isinf(self.retention_s)):
            bounds.append((self.retention_s, "retention.ms"))
        return max(bounds, default=(math.inf, "cleanup.policy"))


class Doubt(NamedTuple):
    """Why tombstones may not go; ``never``: for as long as a topic keeps for ever. Empty: they may."""

    reason: str = ""
    never: bool = False


def doubt(topics: Sequence[Kept], tombstones_s: float, variable: str) -> Doubt:
    """Whether tombstones that are ``tombstones_s`` old may go, which ``variable`` says."""
    if untold := [kept.topic for kept in topics if not kept.policies]:
        return Doubt(
            f"Kafka does not tell how long {_named(untold)} keeps records: the right DescribeConfigs on it is missing. "
            f"Grant that; or, where {variable} ({duration(tombstones_s)}) is longer than they are kept, use "
            "--trust-retention"
        )
    for kept in topics:
        longest_s, setting = kept.longest
        what = "dead letters, which may be sent back," if kept.letters else "events"
        if math.isinf(longest_s):
            return Doubt(
                f"topic {kept.topic!r} keeps {what} for ever ({setting}): tombstones are never purged, since an older "
                "event could come again at any time. Give it a retention.ms" + _instead(kept),
                never=True,
            )
        if longest_s > tombstones_s:
            return Doubt(
                f"topic {kept.topic!r} keeps {what} for {duration(longest_s)} ({setting}), and {variable} is "
                f"{duration(tombstones_s)}: an older event that came again would bring a deleted document back. Set "
                f"{variable} to {math.ceil(longest_s)} or more, or the topic's {setting} to "
                f"{math.floor(tombstones_s * 1000)} or less"
            )
    return Doubt()


def _instead(kept: Kept) -> str:
    if kept.backfill:
        return ", or empty PENSTOCK_INDEX__BACKFILL once it has ended"
    return "" if kept.letters else ", or compact it"


def duration(seconds: float) -> str:
    """In the largest unit of which it is a multiple, or in seconds."""
    for unit_s, unit in ((DAY_S, "day"), (HOUR_S, "hour"), (MINUTE_S, "minute")):
        if seconds >= unit_s and seconds % unit_s == 0:
            count = seconds / unit_s
            return f"{count:g} {unit}{'' if count == 1 else 's'}"
    return f"{seconds:g} s"


def _named(topics: Sequence[str]) -> str:
    return " and ".join(f"topic {topic!r}" for topic in topics)
