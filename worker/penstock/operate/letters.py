"""Dead letters as whoever has to mend something looks at them: of one kind, and how many of each. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from penstock.core.errors import Misconfigured
from penstock.core.letters import DeadLetter
from penstock.core.moments import read_moment, written
from penstock.core.records import Place
from penstock.events.timestamps import DURATION, duration, since_1970

By = Literal["reason", "stage", "hour", "partition", "key"]

SHOWN = 160
"""Characters of a reason or a key."""

MOST_GROUPS = 100_000
"""Groups that are counted apart; letters of further ones are counted together."""

LATEST_MS = 253_402_300_799_999
"""The end of the year 9999: whoever writes a record may have given it any time."""

OTHERS = "(others)"
NOTHING = "(none)"
"""What stands for a key, a stage or a reason that a letter has not."""

_QUOTED = re.compile(r"""(?<!\w)b?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?!\w)""")
_CUT_OFF = re.compile(r"""(?<!\w)b?['"][^'"]*$""")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX = re.compile(r"(?<!\w)(?:0x)?(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}(?!\w)")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")


def kind_of(reason: str) -> str:
    """A reason without what differs from record to record: quoted values are …, identifiers and numbers are #."""
    text = " ".join(reason.split())
    text = _CUT_OFF.sub("…", _QUOTED.sub("…", text))
    for pattern in (_UUID, _HEX, _NUMBER):
        text = pattern.sub("#", text)
    return shortened(text) or NOTHING


def shortened(text: str, most: int = SHOWN) -> str:
    """At most so many characters; what does not print is written as in a program."""
    text = printable(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def printable(text: str) -> str:
    """Without what would move a terminal's cursor, or worse."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def key_text(key: bytes | None) -> str:
    """A key as text; one that is none as ``repr`` has it."""
    if key is None:
        return NOTHING
    try:
        return key.decode()
    except UnicodeDecodeError:
        return repr(key)


def moment(time_ms: int | None) -> str:
    """RFC 3339 in UTC; empty where there is none."""
    return "" if time_ms is None else written(at(time_ms)) or ""


def read_since(text: str, now: datetime) -> datetime:
    """A moment of RFC 3339, or how long ago: 90s, 30m, 2h, 7d. Raises ValueError."""
    if DURATION.fullmatch(text):
        try:
            return now - duration(text)
        except OverflowError:
            raise ValueError(f"{text!r} is longer than time") from None
    try:
        return read_moment(text)
    except ValueError as error:
        raise ValueError(f"{error}; or how long ago, like 2h") from None


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which letters; each field that says something must fit. ``since`` counts, ``until`` does not any more.

    ``partition`` and ``topic`` are those that the record came from; ``places`` are the letters' own, of any partition
    where none is said.
    """

    topic: str | None = None
    reason: str = ""
    stage: str | None = None
    partition: int | None = None
    key: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    places: frozenset[tuple[int | None, int]] = frozenset()

    def __contains__(self, letter: object) -> bool:
        """Whether it is one of them."""
        return isinstance(letter, DeadLetter) and all(
            (
                self.topic is None or letter.origin is None or letter.origin.topic == self.topic,
                self.reason.casefold() in letter.reason.casefold(),
                self.stage in (None, letter.stage),
                self.partition is None or (letter.origin is not None and letter.origin.partition == self.partition),
                self.key is None or (letter.key is not None and key_text(letter.key) == self.key),
                self.since is None or at(letter.time_ms) >= self.since,
                self.until is None or at(letter.time_ms) < self.until,
                not self.places or not self.places.isdisjoint(_places(letter)),
            )
        )


def refuse_ambiguous(chosen: Chosen, topics: Sequence[str]) -> None:
    """Places are of one topic: raises Misconfigured where letters lie in several."""
    if chosen.places and len(topics) > 1:
        raise Misconfigured(f"--offset: dead letters lie in {', '.join(topics)}: --topic says of which topic")


def _places(letter: DeadLetter) -> set[tuple[int | None, int]]:
    return {(letter.place.partition, letter.place.offset), (None, letter.place.offset)}


def at(time_ms: int | None) -> datetime:
    """In UTC, from 1970 to 9999, whatever the time of a record says."""
    return since_1970(max(0, min(time_ms or 0, LATEST_MS)))


@dataclass(frozen=True, slots=True)
class Tally:
    """So many letters of one kind: an example's coordinates, and the times of the first and the last."""

    count: int
    example: Place
    first_ms: int | None
    last_ms: int | None

    def and_one(self, letter: DeadLetter) -> "Tally":
        """With one more."""
        times = [time for time in (self.first_ms, self.last_ms, letter.time_ms) if time is not None]
        return replace(self, count=self.count + 1, first_ms=min(times, default=None), last_ms=max(times, default=None))


@dataclass(slots=True)
class Tallies:
    """Letters counted by one of their traits, in memory that does not grow with their number."""

    by: By
    most: int = MOST_GROUPS
    groups: dict[str, Tally] = field(default_factory=dict)
    total: int = 0

    def add(self, letter: DeadLetter) -> None:
        """One more."""
        self.total += 1
        name = TRAITS[self.by](letter)
        if name not in self.groups and len(self.groups) >= self.most:
            name = OTHERS
        known = self.groups.get(name)
        if known is None:
            self.groups[name] = Tally(1, letter.place, letter.time_ms, letter.time_ms)
        else:
            self.groups[name] = known.and_one(letter)

    def sorted(self) -> list[tuple[str, Tally]]:
        """The largest first; hours and partitions in their own order."""
        if self.by in ("hour", "partition"):
            return sorted(self.groups.items(), key=lambda named: _natural(named[0]))
        return sorted(self.groups.items(), key=lambda named: (-named[1].count, named[0]))


def _natural(name: str) -> tuple[str, int, str]:
    """Partition 10 comes after partition 9."""
    topic, _, number = name.rpartition("/")
    return (topic, int(number), "") if number.isdigit() else (topic, -1, number)


def _partition(letter: DeadLetter) -> str:
    return NOTHING if letter.origin is None else f"{letter.origin.topic}/{letter.origin.partition}"


def _hour(letter: DeadLetter) -> str:
    if letter.time_ms is None:
        return NOTHING
    return at(letter.time_ms).strftime("%Y-%m-%dT%H:00Z")


TRAITS: Mapping[By, Callable[[DeadLetter], str]] = {
    "reason": lambda letter: kind_of(letter.reason),
    "stage": lambda letter: shortened(letter.stage) or NOTHING,
    "hour": _hour,
    "partition": _partition,
    "key": lambda letter: shortened(key_text(letter.key)),
}
"""What letters can be counted by."""
