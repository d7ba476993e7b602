"""What is wrong with one document, by what its records ask for and the points that are there. Pure."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from penstock.core.documents import EPOCH_SHIFT, Order
from penstock.core.inventory import Held
from penstock.operate.audit.compare import Situation
from penstock.operate.audit.expectation import NEVER, Newest, seconds


class Kind(StrEnum):
    """Kinds of damage."""

    MISSING = "missing"
    STALE = "stale"
    UNDEAD = "undead"
    ORPHAN = "orphan"
    HALF_WRITTEN = "half_written"
    LEFT_OVER = "left_over"
    WRONG_MODEL = "wrong_model"
    AHEAD = "ahead"
    FOREIGN = "foreign"
    EXPIRED = "expired"


MEANING = {
    Kind.MISSING: "the topic has it, the collection has not",
    Kind.STALE: "an older version is there than was committed",
    Kind.UNDEAD: "the topic deleted it, readers still find it",
    Kind.ORPHAN: "the topic has nothing of it, not even a delete",
    Kind.HALF_WRITTEN: "a chunk is not there, or another than its anchor names",
    Kind.LEFT_OVER: "points of an older version, or without an anchor: readers do not see them",
    Kind.WRONG_MODEL: "vectors of another model than the settings name",
    Kind.AHEAD: "newer than anything in the topic",
    Kind.FOREIGN: "points that penstock did not write, or two of the same chunk",
    Kind.EXPIRED: "past its expires_at and not purged; readers do not see it",
}
HARMLESS = frozenset({Kind.EXPIRED})
"""Told, but no damage."""


class Verdict(NamedTuple):
    """What was found of a document. ``waits`` says that it is not judged: a record of it is under way, or given up."""

    kinds: tuple[Kind, ...] = ()
    waits: str = ""


class Known(NamedTuple):
    """What is known of a document's records.

    ``newest`` is the newest event, ``given_up`` the newest among dead letters; ``in_flight`` says that a record of it
    may be being written at the moment.
    """

    newest: Newest | None
    given_up: Newest | None = None
    in_flight: bool = False


def judge(known: Known, points: Sequence[Held], at: Situation) -> Verdict:
    """The kinds of damage, the gravest first."""
    if known.in_flight:
        return Verdict(waits="not yet")
    newest, given_up = known.newest, known.given_up
    if given_up is not None and (newest is None or given_up.order > newest.order):
        return Verdict(waits="given up")
    anchors = [point for point in points if point.key.chunk == 0]
    anchor = max(anchors, key=lambda point: point.stored.order, default=None)
    kinds = [Kind.FOREIGN] if len({point.key for point in points}) < len(points) else []
    if (kind := _against(newest, anchor, at)) is not None:
        kinds.append(kind)
    alive = anchor is not None and not anchor.tombstone
    expires = seconds(anchor.expires_at) if anchor is not None else NEVER
    if anchor is not None and alive and not kinds and not NEVER < expires <= at.now_s and _broken(anchor, points, at):
        kinds.append(Kind.HALF_WRITTEN)
    if left_over(anchor, points, at) and not (anchor is None and Kind.MISSING in kinds):
        kinds.append(Kind.LEFT_OVER)
    if alive and NEVER < expires <= at.expired_s and not {Kind.STALE, Kind.UNDEAD} & set(kinds):
        kinds.append(Kind.EXPIRED)
    return Verdict(tuple(kinds))


def _against(newest: Newest | None, anchor: Held | None, at: Situation) -> Kind | None:
    """The anchor against the newest event."""
    alive = anchor is not None and not anchor.tombstone
    if newest is None:
        ours = anchor is not None and _of_stream(anchor, at)
        return Kind.ORPHAN if alive and at.whole and ours else None
    if anchor is None:
        return None if newest.gone(at.now_s) else Kind.MISSING
    order = anchor.stored.order
    if newest.deleted and _before(order, newest):
        return Kind.UNDEAD if alive else None
    if newest.deleted and anchor.tombstone:
        return None
    if order < newest.order:
        return Kind.STALE
    epoch = order.sequence >> EPOCH_SHIFT  # 0 for what came from a file
    later = order > newest.order and order.sequence != newest.tomb and epoch > 0
    return Kind.AHEAD if later and (at.by_offset or at.first or epoch > at.epoch) else None


def _before(order: Order, newest: Newest) -> bool:
    """A delete without a version counts as the highest known; the topic may no longer hold the event that had it."""
    return order.sequence < newest.order.sequence if newest.unversioned else order < newest.order


def _of_stream(point: Held, at: Situation) -> bool:
    """Whether it came from the topic as it is now, and not from a file, a backfill, or a topic that was before it.

    Of what comes from elsewhere nothing says whether it is being written at the moment.
    """
    place, _, _ = point.source.rpartition("/")
    followed = any(place == f"{owned.topic}/{owned.number}" for owned in at.ends)
    return followed and 1 <= point.stored.order.sequence >> EPOCH_SHIFT <= at.epoch


def _broken(anchor: Held, points: Sequence[Held], at: Situation) -> bool:
    """Whether the chunks are not just those that the anchor names."""
    stored = anchor.stored
    order, recipe = stored.order, stored.recipe
    there = {point.key.chunk: point for point in points if not point.stored.older(order, recipe)}
    mine = {i: point for i, point in there.items() if point.stored.same(order, recipe) or _of_stream(point, at)}
    if mine.keys() - set(range(len(stored.hashes))) or there.keys() < set(range(len(stored.hashes))):
        return True
    return any(
        not point.stored.same(order, recipe) or point.stored.hash != stored.hashes[i] for i, point in mine.items()
    )


def left_over(anchor: Held | None, points: Sequence[Held], at: Situation) -> list[Held]:
    """The points that readers do not see, since they are older than their anchor, or have none.

    A tombstone has no chunks; those of a document that has expired are penstock purge's.
    """
    ours = [point for point in points if _of_stream(point, at)]
    if anchor is None:
        return ours
    order, recipe = anchor.stored.order, anchor.stored.recipe
    older = [point for point in ours if point.stored.older(order, recipe)]
    if anchor.tombstone:
        same = [point for point in ours if point.stored.same(order, recipe) and point.key.chunk]
        older += [point for point in same if not NEVER < seconds(point.expires_at) <= at.now_s]
    return older
