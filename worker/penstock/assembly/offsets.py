"""``penstock offsets``, put together: a group's offsets, and the progress of the collection that goes with them."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from datetime import datetime
from typing import NamedTuple

from penstock.adapters.kafka.group_offsets import GroupOffsets, busy
from penstock.adapters.qdrant.channel import about_no_document
from penstock.adapters.qdrant.collection import NoCollection
from penstock.adapters.qdrant.connection import Collection, Connection
from penstock.adapters.qdrant.ledger import QdrantLedger
from penstock.adapters.qdrant.members import members
from penstock.adapters.qdrant.metadata import describe
from penstock.core.errors import Misconfigured, Unavailable
from penstock.core.identity import Origin
from penstock.core.members import written_by
from penstock.core.offsets import GroupStanding
from penstock.core.ports import Ledger
from penstock.core.records import Partition
from penstock.operate.offsets import (
    Move,
    Pace,
    Plan,
    Target,
    by_offsets,
    needs_all,
    needs_skip,
    offset_in,
    pace,
    read_target,
    selected,
)
from penstock.settings import KafkaSettings, Settings
from penstock.stream import joined

Step = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""As ``observe.live.steps`` makes it."""

TICKS = 20
"""Signs of life while a pace is measured."""


class Seen(NamedTuple):
    """A group as it stands; its pace, or why there is none."""

    group: GroupStanding
    pace: Pace | None = None
    why_none: str = ""


class Asked(NamedTuple):
    """What to do with which offsets: ``to`` as a user writes it; no partitions are all."""

    to: str
    topic: str | None = None
    partitions: tuple[int, ...] = ()
    skip: bool = False
    queries: bool = False


def look(settings: Settings, *, queries: bool, over_s: float, step: Step) -> Seen:
    """A group, with two looks ``over_s`` apart where something may move; ``step`` shows the waiting.

    Raises Misconfigured or Unavailable.
    """
    kafka, variable = _group_of(settings, queries=queries)
    with closing(GroupOffsets(kafka, variable)) as offsets:
        before = offsets.look()
        if not before.lag:
            return Seen(before, None, "nothing is behind")
        if not before.readers:
            return Seen(before, None, "nobody reads")
        if not over_s:
            return Seen(before, None, "not measured, since --over-s is 0")
        began = time.monotonic()
        with step("watching", TICKS) as passed:
            for _ in range(TICKS):
                time.sleep(over_s / TICKS)
                passed(1)
        after, took_s = offsets.look(), time.monotonic() - began
    return Seen(after, pace(before, after, took_s))


def reset(settings: Settings, asked: Asked, now: datetime, *, dry_run: bool) -> Plan:
    """The plan, which is carried out unless it is a ``dry_run``; see ``operate/offsets.py`` for what is done when.

    Raises Misconfigured where something speaks against it, Unavailable.
    """
    target = read_target(asked.to, now)
    kafka, variable = _group_of(settings, queries=asked.queries)
    with ExitStack() as opened:
        offsets = opened.enter_context(closing(GroupOffsets(kafka, variable)))
        group = offsets.look()
        against = [busy(kafka, group.state, len(group.readers))]
        if against[0] and not dry_run:
            raise Misconfigured(against[0])
        chosen = selected(group.partitions, asked.topic, asked.partitions)
        targets = _targets(offsets, group, target, chosen)
        stream = None if asked.queries else _Stream.opened(opened, settings, offsets)
        held = {} if stream is None else stream.held(group)
        moves = tuple(
            Move(
                owned, at := group.partitions[owned], to, (at.committed or 0) if stream is None else held.get(owned, 0)
            )
            for owned, to in targets.items()
        )
        if stream is not None:
            against.append(needs_all(stream.remembered, stream.origin, chosen, group.partitions))
        against.append(needs_skip(moves, skip=asked.skip, queries=asked.queries))
        plan = Plan(group, moves, tuple(filter(None, against)), stream.collection if stream else "")
        if not dry_run:
            _carry_out(plan, offsets, stream)
        return plan


def _carry_out(plan: Plan, offsets: GroupOffsets, stream: "_Stream | None") -> None:
    if plan.against:
        raise Misconfigured(plan.against[0])
    targets = {move.partition: move.to for move in plan.moves}
    offsets.set(targets)
    if stream is None:
        return
    try:
        joined.begin_again(stream.ledger, stream.origin, targets)
    except Unavailable as error:
        raise Unavailable(f"the group is set, the collection's progress is not: run this again ({error})") from error


def _targets(
    offsets: GroupOffsets, group: GroupStanding, target: Target, chosen: list[Partition]
) -> dict[Partition, int]:
    found = offsets.since(target.value, chosen) if target.kind == "moment" else {}
    return {owned: offset_in(owned, group.partitions[owned], target, found.get(owned)) for owned in chosen}


class _Stream(NamedTuple):
    """The collection that a group writes, and the stream that it is to follow."""

    collection: str
    ledger: Ledger
    origin: Origin
    remembered: Origin | None
    legacy: bool

    @classmethod
    def opened(cls, opened: ExitStack, settings: Settings, offsets: GroupOffsets) -> "_Stream":
        """Raises Misconfigured where there is no collection yet, or where it follows another stream."""
        index, kafka, name = settings.index, settings.kafka, settings.qdrant.collection
        connection = opened.enter_context(closing(Connection(settings.qdrant)))
        found = members(connection, name)
        if not found:
            raise NoCollection(f"there is no collection {name!r}: penstock setup makes it")
        own = written_by(found, kafka.group, found[0].model).name
        with about_no_document():
            shape = describe(connection.collections, own)[1]
        ledger = QdrantLedger(connection, name, Collection(own, shape))
        origin = Origin.of(kafka.topic, offsets.identity(), index.epoch, index.order)
        state = joined.fitting(ledger, origin)
        return cls(own, ledger, origin, state.origin, not state.birth and state.origin == origin)

    def held(self, group: GroupStanding) -> Mapping[Partition, int]:
        """How far, by offsets; a collection of before there was progress holds what is committed, as for a worker."""
        sequences = self.ledger.read(group.partitions)
        if self.legacy and not sequences:
            return {owned: at.committed for owned, at in group.partitions.items() if at.committed and not at.mark.first}
        return by_offsets(sequences, self.origin.epoch)


def _group_of(settings: Settings, *, queries: bool) -> tuple[KafkaSettings, str]:
    """Group and topics, and the setting that names the topics."""
    if not queries:
        return settings.kafka, "PENSTOCK_KAFKA__TOPIC"
    if not settings.query.topic:
        raise Misconfigured("--queries is about a topic: set PENSTOCK_QUERY__TOPIC")
    of_queries = {"group": settings.query.group, "topic": settings.query.topic}
    return settings.kafka.model_copy(update=of_queries), "PENSTOCK_QUERY__TOPIC"
