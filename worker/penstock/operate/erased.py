"""What a tenant's erasure has come to, for whoever answers the request. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from penstock.core.retention import Kept
from penstock.operate.erase import Counted, Search
from penstock.operate.letters import at


@dataclass(frozen=True, slots=True)
class Erased:
    """Counts before and after, what was sent, and what was found in the topics.

    ``newest`` is when the latest tombstone was written, empty where there is none; they stay for ``tombstones_s``.
    ``last`` are the offsets of nulls by topic/partition; ``asked`` says whether nulls were to be sent, ``unheard`` why
    records take none, by how many there are.
    """

    tenant: str
    collection: str
    version: str
    at: datetime
    before: Counted
    after: Counted
    gone: int
    newest: str
    tombstones_s: float
    topics: Sequence[Kept]
    search: Search
    asked: bool = False
    nulls: int = 0
    last: Mapping[str, int] = field(default_factory=dict)
    unheard: Mapping[str, int] = field(default_factory=dict)
    dry_run: bool = False

    def as_json(self) -> dict[str, Any]:
        """The report."""
        return {
            "tenant": self.tenant,
            "at": _written(self.at),
            "penstock": self.version,
            "collection": self.collection,
            "dry_run": self.dry_run,
            "before": self.before._asdict(),
            "after": self.after._asdict(),
            "points_erased": self.gone,
            "tombstones_purged_from": self._purged_from,
            "nulls": {"sent": self.nulls, "last_offsets": dict(self.last), "not_understood": dict(self.unheard)},
            "topics": [
                {"topic": kept.topic, "dead_letters": kept.letters, "backfill": kept.backfill,
                 "cleanup_policy": kept.policy,
                 "retention_s": None if math.isinf(kept.retention_s) else kept.retention_s,
                 **self.search.told(kept.topic)}
                for kept in self.topics
            ],
            "to_do": [] if self.dry_run else [*self._of_the_collection(), *self._of_the_topics()],
        }  # fmt: skip

    @property
    def _purged_from(self) -> str:
        if not self.newest:
            return ""
        return _written(datetime.fromisoformat(self.newest) + timedelta(seconds=self.tombstones_s))

    def _of_the_collection(self) -> Iterator[str]:
        if self.after.texts:
            yield (
                f"{self.after.texts} points with text have come meanwhile: stop who produces documents of it, and run "
                "it again"
            )
        if self.after.tombstones:
            yield (
                f"{self.after.tombstones} tombstones hold its name and ids of documents: penstock purge removes them "
                f"from {self._purged_from} on"
            )
        yield "snapshots of the collection, copies of the topics and logs of others are not looked at"

    def _of_the_topics(self) -> Iterator[str]:
        for reason, count in self.unheard.items():
            yield f"{count} records take no null: {reason}"
        for kept in self.topics:
            if untold := self.search.untold.get(kept.topic):
                yield f"of {untold} records of {kept.topic} nobody can tell the tenant: look at them"
            if self.search.of(kept.topic) and (line := self._of_topic(kept)):
                yield line

    def _of_topic(self, kept: Kept) -> str:
        held = f"{kept.topic} holds {self.search.in_words(kept.topic)}"
        if kept.letters:
            return f"{held} {self._until(kept)}: do not send them back"
        if kept.backfill:
            return (
                f"{held}: the backfill would bring it back: its records have to go, or PENSTOCK_INDEX__BACKFILL be "
                "emptied"
            )
        if self.asked:
            followed = any(name.rpartition("/")[0] == kept.topic for name in self.last)
            return f"{held} {self._until(kept)}" + (", and the nulls that follow them" if followed else "")
        living = any(record.partition.topic == kept.topic for record in self.search.living)
        if not living and kept.topic not in self.search.keyless:
            return ""
        return (
            f"{held}, which bring its documents back when the topic is read again, from its beginning or into a new "
            "collection, and by penstock audit --repair: "
            + ("run it with --tombstones" if living else "none has a key, so no null removes them")
        )

    def _until(self, kept: Kept) -> str:
        """How long they stay."""
        if "compact" in kept.policies and not kept.letters:
            return "until the broker compacts it (by max.compaction.lag.ms, where that is set)"
        if not kept.policies:
            return "for as long as its retention says, which Kafka does not tell (DescribeConfigs)"
        longest_s, setting = kept.longest
        if math.isinf(longest_s):
            return "for ever: delete them by kafka-delete-records"
        newest_ms = max(one.newest_ms for one in self.search.of(kept.topic).values())
        end_ms = newest_ms + int(longest_s * 1000)
        return f"until {_written(at(end_ms))} and the end of their segment ({setting})"


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
