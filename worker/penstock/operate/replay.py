"""Which dead letters go back to the topic they came from, and which must not. Pure.

What was sent back is not remembered anywhere but in that topic itself: such a record tells its first delivery. So a run
that was killed half-way, or a second one, sees what is there already, and sends none of it again.
"""

import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from penstock.core.documents import epoch_base
from penstock.core.letters import DELIVERED, SEQUENCE, DeadLetter, Delivery
from penstock.core.records import Partition, Place, Record
from penstock.core.retention import Kept
from penstock.events.redriven import first_sequence
from penstock.operate.letters import moment

DAY_S = 24 * 3600.0
DAMAGED = re.compile(r"offsets \d+ to \d+ cannot be decoded: ")
"""How the reason of a letter begins that holds the bytes of a batch."""

COPIED = "it is a document that a migration could not take over, as the old collection held it"
AGAIN = "send the document itself again"


class Became(StrEnum):
    """What becomes of a letter that was chosen."""

    REFUSED = "refused"
    SUPERSEDED = "superseded"  # the topic has a newer event of its key
    REPEATED = "repeated"  # there is a later letter of the same record
    BEFORE = "sent_before"  # and it has not come again
    READY = "ready"  # it would be sent
    SENT = "sent"
    DONE = "done"  # indexed, unchanged, deleted, or superseded by a newer version
    AGAIN = "dead_letter_again"


class Told(NamedTuple):
    """What became of a letter, why, and where it lies now that it was sent."""

    letter: Place
    became: Became
    why: str = ""
    copy: Place | None = None


@dataclass(frozen=True, slots=True)
class TopicNow:
    """A topic as it is: its id, and where each partition ends."""

    id: str
    ends: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class StreamNow:
    """What letters go back to: topics by their names, those left out that are gone, and the epoch they are in.

    ``tombstones_s`` is how long a delete is remembered, ``now_ms`` the present.
    """

    topics: Mapping[str, TopicNow]
    epoch: int
    tombstones_s: float
    now_ms: int


def refusal(letter: DeadLetter, stream: StreamNow, follows: Callable[[str], bool]) -> str:
    """Why a letter must not go back, and what to do; empty where it may."""
    if letter.origin is None or letter.copied_from:
        return f"{'its headers do not say where it came from' if letter.origin is None else COPIED}: {AGAIN}"
    if not follows(letter.origin.topic):
        return f"it came from topic {letter.origin.topic!r}, which the index does not follow"
    if letter.dropped:
        return f"it was too large for its topic and went without its {letter.dropped[0]}: {AGAIN}"
    if letter.key is None and DAMAGED.match(letter.message):
        return f"it holds the bytes of a batch that could not be decoded, and no record: {AGAIN}"
    if letter.first is None:
        return (
            f"it has no header {SEQUENCE}, as one made by Kafka Connect or by an early version: nothing says which "
            f"order it had; {AGAIN}"
        )
    return _elsewhere(letter, letter.first, stream) or _too_old(letter, stream)


def _elsewhere(letter: DeadLetter, first: Delivery, stream: StreamNow) -> str:
    """Whether the place that it came from is not there any more."""
    topic = stream.topics.get(first.topic)
    if topic is None:
        return f"topic {first.topic!r} is gone"
    if first.partition not in topic.ends:
        return f"topic {first.topic!r} has {len(topic.ends)} partitions, no number {first.partition} any more: {AGAIN}"
    if first.epoch != stream.epoch:
        return (
            f"it is of epoch {first.epoch}, PENSTOCK_INDEX__EPOCH is {stream.epoch}: its order cannot be compared; "
            f"{AGAIN}"
        )
    end = topic.ends[first.partition]
    if letter.topic_ids - {topic.id} or max(first.offset, letter.origin.offset if letter.origin else 0) >= end:
        return f"topic {first.topic!r} was made anew since: its order cannot be compared; {AGAIN}"
    return ""


def _too_old(letter: DeadLetter, stream: StreamNow) -> str:
    """Whether a delete may have come since that nobody remembers."""
    times = {f"its header {DELIVERED}": letter.delivered_ms, "the time of the letter": letter.time_ms}
    known = [(told_ms, by) for by, told_ms in times.items() if told_ms is not None]
    if not known:
        return "nothing says when it was delivered first, so a delete may have come and gone since"
    first_ms, by = min(known)
    if stream.now_ms - first_ms <= stream.tombstones_s * 1000:
        return ""
    return (
        f"it was delivered first at {moment(first_ms)} ({by}), longer ago than PENSTOCK_PURGE__TOMBSTONES_S "
        f"({stream.tombstones_s / DAY_S:g} days): a delete that came since may be purged; {AGAIN}"
    )


class Candidate(NamedTuple):
    """A letter that may go back, as far as deciding needs it."""

    place: Place
    first: Delivery
    key: bytes | None


class KeyOf(NamedTuple):
    """A key in a partition."""

    topic: str
    partition: int
    key: bytes


@dataclass(slots=True)
class Gathered:
    """What dead letter topics hold, in the order of reading: each record's last letter counts.

    ``given_up`` are the records of which there are letters, also those that were not chosen.
    """

    given_up: set[Place] = field(default_factory=set)
    candidates: dict[Delivery, Candidate] = field(default_factory=dict)
    _last: dict[Delivery, Place] = field(default_factory=dict)

    def add(self, letter: DeadLetter) -> None:
        """A letter, chosen or not."""
        if letter.origin is not None:
            self.given_up.add(letter.origin)
        if letter.first is not None:
            self._last[letter.first] = letter.place

    def last_of(self, first: Delivery) -> Place:
        """The last letter of a record, when all are added."""
        return self._last[first]


class Newest(NamedTuple):
    """The newest event of a key, by its order; ``offset`` is where it lies."""

    sequence: int
    offset: int


@dataclass(slots=True)
class Sightings:
    """What topics hold that matters to candidates: records of their keys, and what was sent back before.

    ``newest`` goes by order, ``latest`` by offset. Of ``copies`` only those count that have their letter's key: anybody
    may write such headers.
    """

    gathered: Gathered
    epoch: int
    copies: dict[Delivery, int] = field(default_factory=dict)
    newest: dict[KeyOf, Newest] = field(default_factory=dict)
    latest: dict[KeyOf, int] = field(default_factory=dict)
    _keys: set[KeyOf] = field(init=False)

    def __post_init__(self) -> None:
        found = self.gathered.candidates.values()
        self._keys = {KeyOf(one.first.topic, one.first.partition, one.key) for one in found if one.key is not None}

    def starts(self) -> dict[Partition, int]:
        """From where on each partition is to be read; one that is not named need not be."""
        found: dict[Partition, int] = {}
        for first in self.gathered.candidates:
            owned = Partition(first.topic, first.partition)
            found[owned] = min(first.offset, found.get(owned, first.offset))
        return found

    def see(self, records: Iterable[Record]) -> None:
        """Records of the topics, in the order of a partition. One of which there is a letter supersedes nothing."""
        for record in records:
            topic, partition = record.partition
            own = epoch_base(self.epoch) + record.offset
            sequence = first_sequence(record, own)
            first = Delivery(topic, partition, sequence)
            letter = self.gathered.candidates.get(first)
            if sequence != own and letter is not None and letter.key == record.key:
                self.copies[first] = record.offset
            if record.key is None or record.damage or (named := KeyOf(topic, partition, record.key)) not in self._keys:
                continue
            if Place(topic, partition, record.offset) not in self.gathered.given_up:
                self.newest[named] = max(Newest(sequence, record.offset), self.newest.get(named, Newest(-1, -1)))
                self.latest[named] = max(record.offset, self.latest.get(named, -1))


class Verdict(NamedTuple):
    """On a candidate, and why."""

    became: Became
    why: str = ""


def judge(
    seen: Sightings, keyed: Callable[[str], bool], compacted: Callable[[str], bool] = lambda _: False
) -> dict[Place, Verdict]:
    """Which candidates go back.

    ``keyed`` says of a topic whether keys name documents whose events are ordered by offset: then a newer event of the
    same key supersedes a letter. In a ``compacted`` topic it must stay the last one, or the broker removes it, whether
    or not it is of the same document.
    """
    verdicts: dict[Place, Verdict] = {}
    ahead: dict[KeyOf, Place] = {}
    for one in sorted(seen.gathered.candidates.values(), key=lambda one: one.first, reverse=True):
        topic, partition, sequence = one.first
        copy = seen.copies.get(one.first)
        if copy is not None and Place(topic, partition, copy) not in seen.gathered.given_up:
            verdicts[one.place] = Verdict(Became.BEFORE, f"as {topic}/{partition}/{copy}, and has not come again")
            continue
        if one.key is not None and (keyed(topic) or compacted(topic)):
            named = KeyOf(topic, partition, one.key)
            if why := _superseded(seen, named, sequence) if keyed(topic) else _last_of_key(seen, named, one.first):
                verdicts[one.place] = Verdict(Became.SUPERSEDED, why)
                continue
            if (newer := ahead.setdefault(named, one.place)) != one.place:
                why = f"letter {newer.partition}:{newer.offset}, a newer event of its key, goes back"
                verdicts[one.place] = Verdict(Became.SUPERSEDED, why)
                continue
        verdicts[one.place] = Verdict(Became.READY)
    return verdicts


def _superseded(seen: Sightings, named: KeyOf, sequence: int) -> str:
    newest = seen.newest.get(named)
    if newest is None or newest.sequence <= sequence:
        return ""
    return f"{named.topic}/{named.partition}/{newest.offset} is a newer event of its key"


def _last_of_key(seen: Sightings, named: KeyOf, first: Delivery) -> str:
    """Keys may be of several tenants here, so that orders say nothing."""
    latest = seen.latest.get(named, -1)
    if latest <= first.offset:
        return ""
    return f"{named.topic}/{named.partition}/{latest} is a later record of its key, which compaction would remove"


def time_to_send(letter: DeadLetter, kept: Kept | None, now_ms: int) -> int | None:
    """The time that a letter's record has when it goes back: that of the first delivery.

    None, which is the present, where the topic would remove so old a record before workers have read it, or where
    nobody tells.
    """
    first_ms = letter.delivered_ms
    if first_ms is None or kept is None or not kept.policies:
        return None
    if "delete" in kept.policies and (now_ms - first_ms) * 2 > kept.retention_s * 1000:
        return None
    return first_ms


@dataclass(slots=True)
class Rate:
    """At most so many per second, evenly; time that was lost is not made up for."""

    per_s: float
    clock: Callable[[], float] = time.monotonic
    _next_s: float = -math.inf

    def pause_s(self) -> float:
        """How long to wait before the next one goes."""
        now_s = self.clock()
        at_s = max(self._next_s, now_s)
        self._next_s = at_s + 1 / self.per_s
        return at_s - now_s
