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
    BURIED = "buried"
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
    Kind.BURIED: "the topic has it, and a tombstone of the same order is there: erased, or purged before its time",
    Kind.EXPIRED: "past its expires_at and not purged; readers do not see it",
}
HARMLESS = frozenset({Kind.BURIED, Kind.EXPIRED})
"""Told, but no damage."""


class Verdict(NamedTuple):
    """What was found of a document. ``waits`` says why it is not judged, or not whether it is an orphan.

    A record of it is not yet done, or given up; or one of its partition is unread, and may have been of it.
    """

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
    shown = alive and not NEVER < expires <= at.now_s
    if anchor is not None and shown and not kinds and _comparable(anchor, at) and _broken(anchor, points, at):
        kinds.append(Kind.HALF_WRITTEN)
    if left_over(anchor, points, at) and not (anchor is None and Kind.MISSING in kinds):
        kinds.append(Kind.LEFT_OVER)
    if alive and NEVER < expires <= at.expired_s and not {Kind.STALE, Kind.UNDEAD} & set(kinds):
        kinds.append(Kind.EXPIRED)
    unread = newest is None and _as_an_orphan(anchor, at) and _unread(anchor, at)
    return Verdict(tuple(kinds), "unread" if unread else "")


def _against(newest: Newest | None, anchor: Held | None, at: Situation) -> Kind | None:
    """The anchor against the newest event."""
    if newest is None:
        return Kind.ORPHAN if _as_an_orphan(anchor, at) and not _unread(anchor, at) else None
    if anchor is None:
        return None if newest.gone(at.now_s) else Kind.MISSING
    order = anchor.stored.order
    epoch, comparable = epoch_of(order), _comparable(anchor, at)
    if newest.deleted and (anchor.tombstone or _before(order, newest)):
        return Kind.UNDEAD if not anchor.tombstone and comparable else None
    if order < newest.order:
        return Kind.STALE if comparable else None
    if anchor.tombstone and order == newest.order:
        return None if newest.gone(at.now_s) else Kind.BURIED
    later = order > newest.order and order.sequence != newest.tomb and epoch > 0
    return Kind.AHEAD if later and (at.by_offset or at.first or epoch > at.epoch) else None


def _before(order: Order, newest: Newest) -> bool:
    """A delete without a version counts as the highest known; the topic may no longer hold the event that had it."""
    return order.sequence < newest.order.sequence if newest.unversioned else order < newest.order


def epoch_of(order: Order) -> int:
    """The topic's; 0 for what came from a file or a backfill."""
    return order.sequence >> EPOCH_SHIFT


def _comparable(anchor: Held, at: Situation) -> bool:
    """Whether the topic can say what should be there instead: where versions decide, those of a file may be any."""
    return at.by_offset or epoch_of(anchor.stored.order) > 0


def _as_an_orphan(anchor: Held | None, at: Situation) -> bool:
    """Whether a document without a record should not be there: one that came by this epoch's topic, which tells."""
    if anchor is None or anchor.tombstone or not at.whole:
        return False
    return _of_stream(anchor, at) and epoch_of(anchor.stored.order) == at.epoch


def _unread(point: Held | None, at: Situation) -> bool:
    """Whether a record of its partition names no document: it may have been of this one."""
    if point is None:
        return False
    place, _, _ = point.source.rpartition("/")
    return any(place == f"{owned.topic}/{owned.number}" for owned in at.unread)


def _of_stream(point: Held, at: Situation) -> bool:
    """Whether it came from the topic as it is now, and not from a file, a backfill, or a topic that was before it.

    Of what comes from elsewhere nothing says whether it is being written at the moment.
    """
    place, _, _ = point.source.rpartition("/")
    followed = any(place == f"{owned.topic}/{owned.number}" for owned in at.ends)
    return followed and 1 <= epoch_of(point.stored.order) <= at.epoch


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
