"""Where a consumer group is to go on, and what that means: read again, or skipped. Pure.

For every partition four offsets count: where the topic begins and ends, where the group goes on (committed), and, with
a collection, how far that holds the stream (held: everything before it was written; it never goes back).

- To an offset that the collection holds, back or forward: records may be read again, which changes nothing, and none is
  missed. Also the way out where the collection was set back and holds less than the group has committed.
- Beyond what it holds: the records between are in neither, and a worker would refuse to go on. So this is asked for by
  name (``skip``), and then the collection's progress goes forward with the group.
- To where the topic begins, beyond what it holds: nothing that is there is skipped; what retention removed is gone.

The group is set first, then the collection. Whoever is interrupted between the two has a group that is ahead of the
collection: a worker ends and says so, nothing is missed, and the same command once more does the rest. The other way
round, the collection would claim records that a later reset could skip without a word. There is no way to set the group
alone: back it would be the same, and forward it would end every worker.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from penstock.core.documents import EPOCH_SHIFT, epoch_base
from penstock.core.errors import Misconfigured
from penstock.core.identity import Origin
from penstock.core.moments import read_moment
from penstock.core.offsets import GroupStanding, Standing
from penstock.core.records import Partition

AGE = re.compile(r"([0-9]{1,9})([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
OFFSET = re.compile(r"[0-9]{1,18}")


class Target(NamedTuple):
    """Where to: ``value`` is the offset, or the moment in milliseconds since 1970."""

    kind: Literal["beginning", "end", "offset", "moment"]
    value: int = 0


def read_target(text: str, now: datetime) -> Target:
    """Of what a user says: beginning, end, an offset, a moment, or an age like 2h; raises Misconfigured."""
    if text == "beginning":
        return Target("beginning")
    if text == "end":
        return Target("end")
    if OFFSET.fullmatch(text):
        return Target("offset", int(text))
    now_ms = math.floor(now.timestamp() * 1000)
    if age := AGE.fullmatch(text):
        return Target("moment", max(0, now_ms - int(age[1]) * SECONDS[age[2]] * 1000))
    try:
        moment_ms = math.floor(read_moment(text).timestamp() * 1000)
    except ValueError as error:
        raise Misconfigured(
            f"--to {text}: beginning, end, an offset, an age like 30m, 2h or 3d, or a moment ({error})"
        ) from None
    if moment_ms > now_ms:
        raise Misconfigured(f"--to {text} is still to come: to skip all that there is, say --to end")
    return Target("moment", max(0, moment_ms))


def selected(there: Collection[Partition], topic: str | None, numbers: Collection[int]) -> list[Partition]:
    """The partitions that are meant, all unless something is said; raises Misconfigured where one is not there."""
    topics = sorted({one.topic for one in there})
    if topic is not None and topic not in topics:
        raise Misconfigured(f"--topic {topic}: the group follows {', '.join(topics)}")
    if numbers and topic is None and len(topics) > 1:
        raise Misconfigured(f"--partition: of which --topic? The group follows {', '.join(topics)}")
    of_topics = [one for one in sorted(there) if topic in (None, one.topic)]
    if unknown := sorted(set(numbers) - {one.number for one in of_topics}):
        raise Misconfigured(
            f"--partition {unknown[0]}: {of_topics[0].topic} has the partitions 0 to {len(of_topics) - 1}"
        )
    return [one for one in of_topics if not numbers or one.number in numbers]


def offset_in(partition: Partition, at: Standing, target: Target, found: int | None) -> int:
    """Where the group is to go on there; ``found`` is the first offset of the moment, None where nothing is so late.

    Raises Misconfigured for an offset that the partition does not have.
    """
    if target.kind == "beginning":
        return at.begin
    if target.kind == "end":
        return at.end
    if target.kind == "moment":
        return at.end if found is None else min(max(found, at.begin), at.end)
    if not at.begin <= target.value <= at.end:
        raise Misconfigured(f"--to {target.value}: {name(partition)} has the offsets {at.begin} to {at.end}")
    return target.value


class Move(NamedTuple):
    """A partition's way ``to`` another offset; ``held`` is how far the collection holds it.

    Without a collection, ``held`` is what is committed.
    """

    partition: Partition
    at: Standing
    to: int
    held: int

    @property
    def again(self) -> int:
        """Offsets that are read once more."""
        return max(0, self.at.unread - self.to)

    @property
    def left_out(self) -> int:
        """Offsets that the group would have read, and now does not."""
        return max(0, self.to - self.at.unread)

    @property
    def skipped(self) -> int:
        """Of all that the topic still has: offsets that are neither held, nor read after this."""
        return max(0, self.to - max(self.held, self.at.begin))

    @property
    def gone(self) -> int:
        """Offsets that are not held, and that retention has removed from the topic."""
        return max(0, self.at.begin - self.held)

    @property
    def to_read(self) -> int:
        """Offsets that are left to read after this."""
        return self.at.end - self.to


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reset would do: ``against`` it speaks what is said there, each with what to do, the first one first."""

    group: GroupStanding
    moves: tuple[Move, ...]
    against: tuple[str, ...]
    collection: str = ""

    @property
    def skipped(self) -> int:
        """Of all partitions."""
        return sum(move.skipped for move in self.moves)

    @property
    def to_read(self) -> int:
        """Of all partitions that are moved."""
        return sum(move.to_read for move in self.moves)


def needs_skip(moves: Sequence[Move], *, skip: bool, queries: bool) -> str:
    """Why records may not be left out without a word; empty where none is, or where that is meant."""
    skipped = sum(move.skipped for move in moves)
    if not skipped or skip:
        return ""
    first = next(move for move in moves if move.skipped)
    what = "that were never answered" if queries else "that the collection does not hold"
    return (
        f"{skipped} records {what} would be skipped, in {name(first.partition)} those before offset {first.to}: "
        "say --skip where that is meant"
    )


def needs_all(
    remembered: Origin | None, ours: Origin, chosen: Collection[Partition], there: Collection[Partition]
) -> str:
    """A raised epoch is for all partitions at once: what is committed of the others is of the old one."""
    if remembered is None or remembered.epoch >= ours.epoch or set(chosen) == set(there):
        return ""
    return (
        f"the collection follows epoch {remembered.epoch}, PENSTOCK_INDEX__EPOCH is {ours.epoch}: that begins in all "
        "partitions, so leave --partition and --topic away"
    )


class Pace(NamedTuple):
    """Offsets per second between two looks."""

    over_s: float
    read_per_s: float
    produced_per_s: float

    def catch_up_s(self, lag: int) -> float:
        """How long a lag takes at that pace; infinite where it grows, or nothing moves."""
        gained = self.read_per_s - self.produced_per_s
        return lag / gained if gained > 0 else math.inf


def pace(before: GroupStanding, after: GroupStanding, over_s: float) -> Pace:
    """What was committed and what came, from one look to another; offsets that were set back count as nothing."""
    both = [(before.partitions[owned], at) for owned, at in after.partitions.items() if owned in before.partitions]
    read = sum(max(0, (now.committed or 0) - max(was.begin, was.committed or 0)) for was, now in both)
    produced = sum(max(0, now.end - was.end) for was, now in both)
    return Pace(over_s, read / over_s, produced / over_s)


def name(partition: Partition) -> str:
    """As it is written."""
    return f"{partition.topic}/{partition.number}"


def spoken(seconds: float) -> str:
    """A length of time, to about three digits."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}".replace(".0 ", " ")
    return f"{seconds:.3g} s"


def by_offsets(sequences: Mapping[Partition, int], epoch: int) -> dict[Partition, int]:
    """How far a collection holds the stream, as offsets; what it held of another epoch says nothing of this one."""
    base = epoch_base(epoch)
    return {owned: sequence - base for owned, sequence in sequences.items() if sequence >> EPOCH_SHIFT == epoch}
