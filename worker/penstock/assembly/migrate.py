"""``penstock migrate``, put together: a collection of another model is filled beside the one that readers get."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from penstock.adapters.kafka.lag import KafkaLag
from penstock.adapters.kafka.policies import cleanup_policies, documents_and_letters
from penstock.adapters.kafka.upstream import KafkaUpstream
from penstock.adapters.qdrant.connection import Connection
from penstock.adapters.qdrant.ledger import QdrantLedger
from penstock.adapters.qdrant.members import members
from penstock.adapters.qdrant.migration import begin, drop, opened, switch
from penstock.assembly.copy import Copying
from penstock.assembly.index import run_index_worker
from penstock.assembly.stream import Retries
from penstock.core.errors import Misconfigured
from penstock.core.identity import ModelIdentity
from penstock.core.inventory import Sought
from penstock.core.members import Member, free_name, goes_forward, group_for, other
from penstock.core.records import Partition
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
    return to, bundle.identity(bundle.dimension(to.model.dimension))


def plan(settings: Settings, *, copy: bool | None) -> dict[str, Any]:
    """What ``fill`` would do; raises as that, and makes nothing."""
    _, identity = target(settings)
    needed = _needs_copy(settings, Retries(threading.Event())) if copy is None else copy
    alias = settings.qdrant.collection
    with closing(Connection(settings.qdrant)) as connection:
        current = _with_a_stream(connection, alias)
        there = members(connection, alias)
    name = other(there).name if len(there) > 1 else free_name(alias, identity.digest, {current.name})
    theirs = current.group or settings.kafka.group
    group = settings.migration.group or group_for(theirs, alias, current.name, name)
    return {"from": current.name, "to": name, "group": group, "copies": needed, "dry_run": True}


def fill(settings: Settings, stop: threading.Event, *, copy: bool | None, once: bool, bar: bool) -> None:
    """Begin the migration, or go on with it: index into its collection until ``stop``; ``once``: to the topic's end.

    What readers get is copied where ``copy`` says so; None: where the topic is not one that keeps every document.
    Raises what ``run_index_worker`` does, and Misconfigured where no migration can be.
    """
    to, identity = target(settings)
    retries = Retries(stop)
    alias, group = settings.qdrant.collection, settings.kafka.group
    needed = _needs_copy(settings, retries) if copy is None else copy
    with closing(Connection(settings.qdrant)) as connection:
        calls, now = retries.of("qdrant"), datetime.now(UTC)
        full, wanted = to.model.full_dimension or 0, settings.migration.group
        current = calls.call(partial(_with_a_stream, connection, alias))
        begin_it = partial(begin, connection, alias, identity, full, group, now, wanted, copies=needed)
        member, begun = calls.call(begin_it)
    log.info("migration", begun=begun, origin=current.name, to=member.name, group=member.group, copies=member.copies)
    own = to.model_copy(update={"kafka": settings.kafka.model_copy(update={"group": member.group})})
    beside = None if member.whole else Copying(own, current, member, stop)
    run_index_worker(own, stop, once=once, bar=bar, beside=beside)


def _with_a_stream(connection: Connection, alias: str) -> Member:
    """What readers get; raises Misconfigured where it follows no topic."""
    there = members(connection, alias)
    if not there:
        raise Misconfigured(f"there is no collection {alias!r} yet, hence nothing to migrate: index something first")
    current = there[0] if len(there) == 1 or goes_forward(there) else other(there)
    state = QdrantLedger(connection, alias, opened(connection, current)).state()
    if state is None or state.origin is None:
        raise Misconfigured(
            f"{current.name} follows no topic, it was filled from files: set PENSTOCK_QDRANT__COLLECTION to a new name "
            "and index them by the other model"
        )
    return current


def _needs_copy(settings: Settings, retries: Retries) -> bool:
    """Whether the topic may hold less than the collection; where the broker does not tell, as setup would make it."""
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
        before = self._committed(there[1]) if over_s and len(there) > 1 else {}
        if before:
            time.sleep(over_s)
        progress = [self._progress(member) for member in there]
        speed = rate(before, progress[1].committed, over_s) if before else 0.0
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
        gone = other(self.members)
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

    def _committed(self, member: Member) -> Mapping[Partition, int]:
        with closing(KafkaUpstream(self._kafka(member))) as upstream:
            return upstream.committed()

    def _progress(self, member: Member) -> Progress:
        lag = self.lag.of(self._kafka(member))
        left = sum(one.records for one in lag.partitions.values())
        points = self.connection.inventory(member.name).count(Sought())
        return Progress(member, points, self._committed(member), left, lag.members)


@contextmanager
def looked_at(settings: Settings) -> Iterator[Migration]:
    """The migration of these settings; raises Misconfigured or Unavailable."""
    with ExitStack() as opened:
        connection = opened.enter_context(closing(Connection(settings.qdrant)))
        yield Migration(settings, connection, opened.enter_context(closing(KafkaLag(settings.kafka))))
