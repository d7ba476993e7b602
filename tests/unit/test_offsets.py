"""Where a group is to go on, and what that means: the rules, as pure functions."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import pytest

from penstock.core.attempts import Mark
from penstock.core.documents import epoch_base
from penstock.core.errors import Misconfigured
from penstock.core.identity import Origin
from penstock.core.offsets import GroupStanding, Standing
from penstock.core.records import Partition
from penstock.operate.offsets import (
    Move,
    Target,
    by_offsets,
    needs_all,
    needs_skip,
    offset_in,
    pace,
    read_target,
    selected,
    spoken,
)

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
NOW_MS = 1_795_780_800_000
ZERO, ONE, OTHER = Partition("documents", 0), Partition("documents", 1), Partition("wiki", 0)


def test_the_moment_of_these_tests() -> None:
    assert NOW.timestamp() * 1000 == NOW_MS


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("beginning", Target("beginning")),
        ("end", Target("end")),
        ("0", Target("offset", 0)),
        ("1234", Target("offset", 1234)),
        ("90s", Target("moment", NOW_MS - 90_000)),
        ("30m", Target("moment", NOW_MS - 30 * 60_000)),
        ("2h", Target("moment", NOW_MS - 2 * 3_600_000)),
        ("3d", Target("moment", NOW_MS - 3 * 86_400_000)),
        ("0m", Target("moment", NOW_MS)),
        ("999999999d", Target("moment", 0)),
        ("2026-11-27T12:00:00Z", Target("moment", NOW_MS)),
        ("2026-11-27T12:00:00.25+01:00", Target("moment", NOW_MS - 3_600_000 + 250)),
        ("1960-01-01T00:00:00Z", Target("moment", 0)),
    ],
)
def test_where_to_is_said_in_five_ways(text: str, target: Target) -> None:
    """A moment before 1970 must not become one of the negative numbers that mean something else to a broker."""
    assert read_target(text, NOW) == target


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-11-27T12:00:01Z", "still to come"),
        ("2026-11-27", "needs a time and a zone"),
        ("2026-11-27T12:00:00", "needs a zone"),
        ("yesterday", "beginning, end, an offset, an age"),
        ("-5", "beginning, end, an offset, an age"),
        ("2w", "an age like 30m, 2h or 3d"),
        ("", "beginning, end, an offset, an age"),
        ("٣", "beginning, end, an offset"),
        ("9" * 19, "beginning, end, an offset"),
    ],
)
def test_what_is_said_otherwise_is_refused(text: str, said: str) -> None:
    with pytest.raises(Misconfigured, match="--to") as refused:
        read_target(text, NOW)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("topic", "numbers", "chosen"),
    [
        (None, (), [ZERO, ONE, OTHER]),
        ("documents", (), [ZERO, ONE]),
        ("documents", (1,), [ONE]),
        ("wiki", (0,), [OTHER]),
    ],
)
def test_all_partitions_are_meant_unless_something_is_said(
    topic: str | None, numbers: tuple[int, ...], chosen: list[Partition]
) -> None:
    assert selected([OTHER, ONE, ZERO], topic, numbers) == chosen


@pytest.mark.parametrize(
    ("there", "topic", "numbers", "said"),
    [
        ([ZERO, OTHER], None, (0,), "of which --topic"),
        ([ZERO, OTHER], "notes", (), "the group follows documents, wiki"),
        ([ZERO, ONE], None, (2,), "--partition 2: documents has the partitions 0 to 1"),
    ],
)
def test_a_partition_that_is_not_there_is_refused(
    there: list[Partition], topic: str | None, numbers: tuple[int, ...], said: str
) -> None:
    with pytest.raises(Misconfigured, match="--") as refused:
        selected(there, topic, numbers)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("target", "found", "offset"),
    [
        (Target("beginning"), None, 10),
        (Target("end"), None, 50),
        (Target("offset", 10), None, 10),
        (Target("offset", 50), None, 50),
        (Target("moment", 1), 30, 30),
        (Target("moment", 1), None, 50),
        (Target("moment", 1), 60, 50),
        (Target("moment", 1), 5, 10),
    ],
)
def test_a_partition_goes_to_an_offset_that_it_has(target: Target, found: int | None, offset: int) -> None:
    assert offset_in(ZERO, Standing(10, 50, 20), target, found) == offset


@pytest.mark.parametrize("offset", [9, 51])
def test_an_offset_that_a_partition_does_not_have_is_refused_with_those_that_it_has(offset: int) -> None:
    with pytest.raises(Misconfigured, match="documents/0 has the offsets 10 to 50"):
        offset_in(ZERO, Standing(10, 50, 20), Target("offset", offset), None)


class Meaning(NamedTuple):
    """Of a move."""

    again: int = 0
    left_out: int = 0
    skipped: int = 0
    gone: int = 0
    to_read: int = 0


@pytest.mark.parametrize(
    ("committed", "held", "to", "meaning"),
    [
        (40, 40, 40, Meaning(to_read=20)),
        (40, 40, 10, Meaning(again=30, to_read=50)),
        (40, 40, 60, Meaning(left_out=20, skipped=20)),
        (40, 55, 60, Meaning(left_out=20, skipped=5)),
        (40, 60, 60, Meaning(left_out=20)),
        (40, 20, 20, Meaning(again=20, to_read=40)),
        (40, 20, 40, Meaning(skipped=20, to_read=20)),
        (40, 0, 10, Meaning(again=30, gone=10, to_read=50)),
        (None, 0, 10, Meaning(gone=10, to_read=50)),
        (None, 0, 30, Meaning(left_out=20, skipped=20, gone=10, to_read=30)),
        (5, 5, 10, Meaning(gone=5, to_read=50)),
        (90, 90, 60, Meaning()),
    ],
)
def test_a_move_reads_again_or_leaves_out_and_skips_only_what_the_collection_does_not_hold(
    committed: int | None, held: int, to: int, meaning: Meaning
) -> None:
    move = Move(ZERO, Standing(10, 60, committed), to, held)
    assert (move.again, move.left_out, move.skipped, move.gone, move.to_read) == meaning


def test_what_was_never_read_is_skipped_only_where_that_is_said() -> None:
    kept, skipping = Move(ZERO, Standing(0, 60, 40), 20, 40), Move(ONE, Standing(0, 60, 40), 55, 40)
    assert needs_skip([kept], skip=False, queries=False) == ""
    said = needs_skip([kept, skipping], skip=False, queries=False)
    assert said.startswith("15 records that the collection does not hold would be skipped, in documents/1")
    assert "before offset 55: say --skip" in said
    assert "never answered" in needs_skip([skipping], skip=False, queries=True)
    assert needs_skip([kept, skipping], skip=True, queries=False) == ""


@pytest.mark.parametrize(
    ("remembered", "chosen", "refused"),
    [(None, [ZERO], False), (1, [ZERO], True), (1, [ONE, ZERO], False), (2, [ZERO], False)],
)
def test_a_raised_epoch_begins_in_all_partitions(
    remembered: int | None, chosen: list[Partition], refused: bool
) -> None:
    origin = None if remembered is None else Origin("documents", "id", 2, remembered)
    assert bool(needs_all(origin, Origin("documents", "id", 2, 2), chosen, [ZERO, ONE])) == refused


def test_what_a_collection_held_of_another_epoch_says_nothing_of_these_offsets() -> None:
    held = {ZERO: epoch_base(2) + 7, ONE: epoch_base(1) + 500, OTHER: epoch_base(3) + 1}
    assert by_offsets(held, 2) == {ZERO: 7}


@pytest.mark.parametrize(
    ("standing", "unread", "lag", "missed"),
    [
        (Standing(0, 50), 0, 50, 0),
        (Standing(10, 50), 10, 40, 0),
        (Standing(10, 50, 4), 10, 40, 6),
        (Standing(10, 50, 50), 50, 0, 0),
        (Standing(10, 50, 70), 50, 0, 0),
        (Standing(0, 0), 0, 0, 0),
    ],
)
def test_lag_is_what_is_there_and_not_committed(standing: Standing, unread: int, lag: int, missed: int) -> None:
    assert (standing.unread, standing.lag, standing.missed) == (unread, lag, missed)


def group(partitions: Mapping[Partition, Standing]) -> GroupStanding:
    return GroupStanding("group", "Stable", (), partitions)


@pytest.mark.parametrize(
    ("before", "after", "read", "produced", "left_s"),
    [
        (Standing(0, 100, 0), Standing(0, 100, 20), 10, 0, 8.0),
        (Standing(0, 100, 0), Standing(0, 110, 20), 10, 5, 18.0),
        (Standing(0, 100, 0), Standing(0, 130, 20), 10, 15, math.inf),
        (Standing(0, 100, 50), Standing(0, 100, 50), 0, 0, math.inf),
        (Standing(10, 100), Standing(10, 100, 30, Mark()), 10, 0, 7.0),
        (Standing(0, 100, 50), Standing(0, 100, 0), 0, 0, math.inf),
    ],
)
def test_a_pace_is_what_was_read_and_what_came_between_two_looks(
    before: Standing, after: Standing, read: float, produced: float, left_s: float
) -> None:
    there = Standing(0, 5, 5)
    measured = pace(group({ZERO: before, ONE: there}), group({ZERO: after, ONE: there}), 2.0)
    assert (measured.read_per_s, measured.produced_per_s) == (read, produced)
    assert measured.catch_up_s(after.lag) == left_s


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.25, "0.25 s"), (59, "59 s"), (90, "1.5 min"), (7200, "2 h"), (3 * 86400, "3 d")]
)
def test_a_length_of_time_is_said_shortly(seconds: float, said: str) -> None:
    assert spoken(seconds) == said
