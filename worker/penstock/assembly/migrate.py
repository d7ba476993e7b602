"""``penstock migrate``, put together: a collection of another model is filled beside the one that readers get."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from penstock.adapters.kafka.lag import KafkaLag
from penstock.adapters.kafka.policies import cleanup_policies, documents_and_letters
from penstock.adapters.kafka.upstream import KafkaUpstream
from penstock.adapters.qdrant.connection import Connection
from penstock.adapters.qdrant.documents import holds_others
from penstock.adapters.qdrant.ledger import QdrantLedger
from penstock.adapters.qdrant.members import members
from penstock.adapters.qdrant.migration import begin, drop, opened, switch
from penstock.assembly.copy import Copying
from penstock.assembly.index import run_index_worker
from penstock.assembly.stream import Retries
from penstock.core.documents import EPOCH_SHIFT, epoch_base
from penstock.core.errors import Misconfigured
from penstock.core.identity import CollectionState, ModelIdentity, Origin
from penstock.core.inventory import Sought
from penstock.core.members import PARTS, Beginning, Member, continued, free_name, goes_forward, group_for, other
from penstock.models.bundle import load
from penstock.observe.log import log
from penstock.operate.migrate import Progress, Seen, Status, rate
from penstock.settings import KafkaSettings, Settings

ASK_S = 0.5
"""Between two looks at whether the other collection has all that the current one had."""

MOMENT_S = 5.0
"""Under a stream no two groups are ever at the same offset: what readers had so long ago they shall have again."""


def target(settings: Settings) -> tuple[Settings, ModelIdentity]:
    """As the settings are with the model of the migration, and what that is; raises Misconfigured without one."""
    if settings.migration.bundle is None:
        raise Misconfigured("which model? penstock migrate --to BUNDLE, or set PENSTOCK_MIGRATION__BUNDLE")
    to = settings.model_copy(update={"model": settings.migration.of(settings.model)})
    bundle = load(to.model.bundle, "PENSTOCK_MIGRATION__BUNDLE")
    bundle.expect("embedding")
    return to, bundle.identity(bundle.dimension(to.model.dimension, "migration.dimension"))


class Way(NamedTuple):
    """From one collection to another: what ``fill`` starts from."""

    origin: Member
    going: Member | None
    others: bool
    """Whether there are documents that no topic has: of files, or of a backfill."""


def plan(settings: Settings, *, copy: bool | None, again: bool) -> dict[str, Any]:
    """What ``fill`` would do; raises as that, and makes nothing."""
    _, identity = target(settings)
    alias, retries = settings.qdrant.collection, Retries(threading.Event())
    with closing(Connection(settings.qdrant)) as connection:
        way = _way(settings, connection, identity, again=again)
    origin, going, _ = way
    name = going.name if going else free_name(alias, identity.digest, {origin.name})
    group = settings.migration.group or group_for(origin.group or settings.kafka.group, alias, origin.name, name)
    copies = going.copies if going else _copies(settings, retries, way, copy)
    begins = going is None
    return {"from": origin.name, "to": name, "group": going.group if going else group, "copies": copies,
            "begins": begins, "dry_run": True}  # fmt: skip


def fill(settings: Settings, stop: threading.Event, *, copy: bool | None, again: bool, once: bool, bar: bool) -> None:
    """Begin the migration, or go on with it: index into its collection until ``stop``; ``once``: to the topic's end.

    What readers get is copied where ``copy`` says so; None: where the topic does not keep every document. A new
    collection's group begins where the topic does, whatever one of that name has committed before. Raises what
    ``run_index_worker`` does, and Misconfigured where no migration can be.
    """
    to, identity = target(settings)
    retries = Retries(stop)
    alias, group = settings.qdrant.collection, settings.kafka.group
    with closing(Connection(settings.qdrant)) as connection:
        calls, now = retries.of("qdrant"), datetime.now(UTC)
        full, wanted = to.model.full_dimension or 0, settings.migration.group
        way = calls.call(partial(_way, settings, connection, identity, again=again))
        copies = way.going is None and _copies(settings, retries, way, copy)
        asked = Beginning(group, now, wanted, copies, again)
        member, begun = calls.call(partial(begin, connection, alias, identity, full, asked))
        fresh = calls.call(lambda: _state(connection, alias, member)).origin is None
    log.info("migration", begun=begun, origin=way.origin.name, to=member.name, group=member.group, copies=member.copies)
    own = to.model_copy(update={"kafka": settings.kafka.model_copy(update={"group": member.group})})
    beside = None if member.whole else Copying(own, way.origin, member, stop)
    run_index_worker(own, stop, once=once, anew=fresh, bar=bar, beside=beside, only=member.name)


def _state(connection: Connection, alias: str, member: Member) -> CollectionState:
    state = QdrantLedger(connection, alias, opened(connection, member)).state()
    if state is None:
        raise Misconfigured(f"{member.name} is gone meanwhile: start again")
    return state


def _way(settings: Settings, connection: Connection, identity: ModelIdentity, *, again: bool) -> Way:
    """Raises Misconfigured where there is nothing to migrate, or it cannot be done by these settings."""
    alias = settings.qdrant.collection
    if settings.index.backfill:
        raise Misconfigured(
            "a backfill fills one collection: let it end before a migration begins, and empty PENSTOCK_INDEX__BACKFILL"
        )
    if not (there := members(connection, alias)):
        raise Misconfigured(f"there is no collection {alias!r} yet, hence nothing to migrate: index something first")
    going = continued(there, alias, identity, again=again)
    origin = there[0] if going is None else next((one for one in there if one.name != going.name), going)
    if (followed := _state(connection, alias, origin).origin) is None:
        raise Misconfigured(
            f"{origin.name} follows no topic, it was filled from files: set PENSTOCK_QDRANT__COLLECTION to a new name "
            "and index them by the other model"
        )
    if going is None and not origin.began:
        _require_own_group(settings.kafka, origin, followed)
    return Way(origin, going, holds_others(connection.points, origin.name))


def _require_own_group(kafka: KafkaSettings, origin: Member, followed: Origin) -> None:
    """The mark names the group whose workers go on with the present collection, so it must be theirs."""
    with closing(KafkaUpstream(kafka)) as upstream:
        if followed.topic == kafka.topic and not upstream.committed():
            raise Misconfigured(
                f"group {kafka.group!r} has committed nothing of {kafka.topic}: set PENSTOCK_KAFKA__GROUP to that of "
                f"the workers which write {origin.name}"
            )


def _copies(settings: Settings, retries: Retries, way: Way, copy: bool | None) -> bool:  # noqa: FBT001  # three-valued
    """Whether the topic may hold less than the collection; where the broker does not tell, as setup would make it."""
    if copy is not None or way.others:
        return way.others if copy is None else copy
    kafka, setup, needs = settings.kafka, settings.setup, settings.index.needs
    topics, _ = retries.of("kafka").call(lambda: documents_and_letters(kafka))
    told = retries.of("kafka").call(lambda: cleanup_policies(kafka, topics))
    return any((told[topic] or {setup.cleanup_for(needs(topic))}) != {"compact"} for topic in topics)


@dataclass(frozen=True, slots=True)
class Migration:
    """A look at a migration, and what is done about it. Its methods raise Misconfigured or Unavailable."""

    settings: Settings
    connection: Connection
    lag: KafkaLag

    @property
    def members(self) -> list[Member]:
        """As they are now, the one that readers get first; raises Misconfigured where there is none."""
        if there := members(self.connection, self.settings.qdrant.collection):
            return there
        raise Misconfigured(f"there is no collection {self.settings.qdrant.collection!r} yet: index something first")

    def status(self, over_s: float = 0.0) -> Status:
        """How far each is; two looks ``over_s`` apart tell how fast the other one comes nearer."""
        there = self.members
        if len(there) > 2:  # noqa: PLR2004  # the current one and another
            raise Misconfigured(f"there are {len(there)} collections behind {self.settings.qdrant.collection!r}")
        before = self._progress(there[1]).held if over_s and len(there) > 1 else {}
        if before:
            time.sleep(over_s)
        progress = [self._progress(member) for member in there]
        speed = rate(before, progress[1].held, over_s) if before else 0.0
        return Status(self.settings.qdrant.collection, progress, speed)

    def switch(self, *, back: bool, wait_s: float, behind: bool, dry_run: bool = False) -> tuple[Member, Status]:
        """Send readers to the other one, as soon as it has all that the current one had a moment ago.

        With ``behind`` even before. Raises Misconfigured where it does not in time, or readers have it already.
        """
        there = self.members
        to = other(there)
        if goes_forward(there) == back:
            done = "back at" if back else "sent to"
            raise Misconfigured(f"readers are {done} {there[0].name} already: penstock migrate --status")
        deadline, seen = time.monotonic() + wait_s, Seen(MOMENT_S)
        status = self.status()
        while (seen.lacking(time.monotonic(), status) or not status.members[1].member.whole) and not behind:
            if time.monotonic() > deadline:
                raise Misconfigured(
                    f"after {wait_s:g} s still: {status.unready}; wait for it (penstock migrate --status), or say "
                    "--behind to go on without"
                )
            time.sleep(ASK_S)
            status = self.status()
        if not dry_run:
            switch(self.connection, self.settings.qdrant.collection, to)
        return to, status

    def droppable(self) -> Member:
        """The one that readers do not get; raises Misconfigured while workers still write it."""
        there = self.members
        gone = other(there)
        if not there[0].whole:
            raise Misconfigured(
                f"{there[0].name} has only {len(there[0].copied)} of {PARTS} parts of what {gone.name} holds, and the "
                "topic no more: let penstock migrate copy the rest first"
            )
        if writing := self._progress(gone).members:
            raise Misconfigured(
                f"{writing} workers of group {gone.group!r} still write {gone.name}: stop them first, they would end "
                "with an error"
            )
        return gone

    def drop(self, member: Member) -> None:
        """Remove it for good."""
        drop(self.connection, self.settings.qdrant.collection, member)

    def _kafka(self, member: Member) -> KafkaSettings:
        return self.settings.kafka.model_copy(update={"group": member.group}) if member.group else self.settings.kafka

    def _progress(self, member: Member) -> Progress:
        lag = self.lag.of(self._kafka(member))
        left = sum(one.records for one in lag.partitions.values())
        points = self.connection.inventory(member.name).count(Sought())
        alias, epoch = self.settings.qdrant.collection, self.settings.index.epoch
        sequences = QdrantLedger(self.connection, alias, opened(self.connection, member)).read(lag.partitions)
        base = epoch_base(epoch)
        held = {one: sequence - base for one, sequence in sequences.items() if sequence >> EPOCH_SHIFT == epoch}
        return Progress(member, points, held, left, lag.members)


@contextmanager
def looked_at(settings: Settings) -> Iterator[Migration]:
    """The migration of these settings; raises Misconfigured or Unavailable."""
    with ExitStack() as opened:
        connection = opened.enter_context(closing(Connection(settings.qdrant)))
        yield Migration(settings, connection, opened.enter_context(closing(KafkaLag(settings.kafka))))
