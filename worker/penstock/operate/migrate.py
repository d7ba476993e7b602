"""How far a migration is, and whether readers may be sent to the other collection. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.core.members import PARTS, Member
from penstock.core.records import Partition


@dataclass(frozen=True, slots=True)
class Progress:
    """Of one member: how much it holds, and how far.

    ``held`` is up to which offset it has each partition, as it says itself: a group's offsets may be of another
    collection. ``left`` are the records that its group has not committed, ``members`` how many consumers it has.
    """

    member: Member
    points: int
    held: Mapping[Partition, int]
    left: int
    members: int

    def as_json(self) -> dict[str, Any]:
        """For who reads it by a program."""
        model = self.member.model
        return {
            "collection": self.member.name,
            "current": self.member.current,
            "began": self.member.began or None,
            "group": self.member.group or None,
            "workers": self.members,
            "records_left": self.left,
            "points": self.points,
            "parts_copied": len(self.member.copied),
            "model": {"source": model.source, "revision": model.revision, "dimension": model.dimension},
        }


@dataclass(frozen=True, slots=True)
class Status:
    """Of all members, the one that readers get first; ``records_per_s`` is what the other's group commits."""

    alias: str
    members: Sequence[Progress]
    records_per_s: float = 0.0

    @property
    def behind(self) -> int:
        """Records that the other one lacks of what the current one has."""
        return lacking(self.members[0].held, self.members[1].held)

    @property
    def eta_s(self) -> float | None:
        """Until the other one has all that there is, at this rate; None where nothing moves, or it has."""
        left = self.members[1].left if len(self.members) > 1 else 0
        return left / self.records_per_s if left and self.records_per_s > 0 else None

    @property
    def unready(self) -> str:
        """Why readers had better not be sent to the other one yet; empty where they may."""
        other = self.members[1]
        if not other.member.whole:
            return f"{len(other.member.copied)} of {PARTS} parts are copied of what the topic holds no more"
        if self.behind:
            return f"{other.member.name} lacks {self.behind} records that {self.members[0].member.name} has"
        return ""

    def as_json(self) -> dict[str, Any]:
        """For who reads it by a program."""
        there = len(self.members) > 1
        return {
            "alias": self.alias,
            "members": [member.as_json() for member in self.members],
            "records_per_s": round(self.records_per_s, 1),
            "eta_s": None if self.eta_s is None else round(self.eta_s),
            "behind": self.behind if there else 0,
            "ready": there and not self.unready,
        }


class Seen:
    """What the current one had at the looks of the last ``moment_s`` seconds."""

    def __init__(self, moment_s: float) -> None:
        self._moment_s = moment_s
        self._looks: list[tuple[float, Mapping[Partition, int]]] = []

    def lacking(self, now: float, status: Status) -> int:
        """Records that the other one lacks even of what the current one had at the earliest of these looks."""
        current, other = status.members[:2]
        self._looks = [look for look in self._looks if now - look[0] <= self._moment_s] + [(now, current.held)]
        return lacking(self._looks[0][1], other.held)


def lacking(wanted: Mapping[Partition, int], there: Mapping[Partition, int]) -> int:
    """Records between two groups' offsets."""
    return sum(max(0, at - there.get(place, 0)) for place, at in wanted.items())


def rate(before: Mapping[Partition, int], after: Mapping[Partition, int], seconds: float) -> float:
    """Offsets per second between two looks."""
    return sum(max(0, at - before.get(place, at)) for place, at in after.items()) / max(seconds, 1e-9)


def overlap(one: Sequence[str], other: Sequence[str], most: int = 10) -> float:
    """The share of the first documents that both have found, from 0 to 1; 1 where neither finds any."""
    first, second = set(one[:most]), set(other[:most])
    longest = max(len(first), len(second))
    return len(first & second) / longest if longest else 1.0
