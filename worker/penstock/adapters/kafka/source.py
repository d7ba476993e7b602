"""Topics as source of records.

What kafka-python 3.0.12 asks for: the consumer belongs to one thread; rebalance listeners run on the library's
own IO thread while that one waits in ``poll``, and must not wait themselves; there is no wake-up, so no poll may
take long; and a commit's callback comes from within a later poll.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import OffsetAndMetadata
from typing_extensions import override

from penstock.adapters.kafka import internals
from penstock.adapters.kafka.connection import failure
from penstock.adapters.kafka.end import GROUP_TIMEOUT_MS, End
from penstock.adapters.kafka.suspects import REACH_IN_POLLS, Suspects
from penstock.core.errors import OwnershipLost
from penstock.core.ports import Source
from penstock.core.records import Batch, Gap, Partition, Position, Record
from penstock.observe.watch import Watch
from penstock.settings import KafkaSettings

COMMIT_RETRY_S = 0.2
ENDS_S = 2.0
"""While holding, ask so often where the partitions end; otherwise each answer to a fetch tells."""
JOIN_POLL_S = 0.25
"""A poll in a rebalance, even while holding: the library starts over when an answer comes between two polls."""


class KafkaSource(Source):
    """Reads topics as a member of a consumer group; see ``ports.Source``."""

    def __init__(
        self,
        consumer: KafkaConsumer,
        settings: KafkaSettings,
        *,
        once: bool = False,
        watch: Watch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Subscribe. With ``once``, the end is where the topics' partitions end now. ``watch`` is told of all."""
        internals.hand_out_damaged_batches(consumer)
        internals.hear_resets(consumer, self._was_reset)
        self._consumer = consumer
        self._clock = clock
        self._answered_s = self._asked_s = clock()
        self._asked: Any = None
        self._watch = watch or Watch()
        self._generations: dict[TopicPartition, int] = {}
        self._assignments = 0
        self._seen: dict[TopicPartition, int] = {}
        self._suspects = Suspects(consumer, consumer.config["max_poll_records"] * REACH_IN_POLLS)
        self._excuse = threading.Event()
        self._gaps: deque[Gap] = deque()
        self._holding = False
        self._pending: dict[Partition, Position] = {}
        self._sent: dict[Partition, Position] | None = None
        self._not_before = 0.0
        self._end = End(consumer, settings, clock) if once else None
        listener = _Listener(self._assigned, self._revoked, self._watch)
        consumer.subscribe(topics=list(settings.topics), pattern=settings.pattern, listener=listener)

    @override
    def poll(self, timeout_s: float, *, hold: bool = False) -> Batch | None:
        """A record that a rebalance lets through despite ``hold`` is not lost but returned."""
        self._hold(hold)
        joining = self._joining()
        self._check_heartbeats(joining=joining)
        if hold and not joining:
            self._ask_for_ends()
        wait_s = (JOIN_POLL_S if joining else 0.0) if hold else timeout_s
        try:
            self._send_commit()
            polled = self._consumer.poll(timeout_ms=int(wait_s * 1000))
            self._suspects.look(list(self._generations))
            positions = self._new_positions()
        except kafka_errors.FencedInstanceIdError as error:
            raise OwnershipLost(f"another consumer has taken this one's place: {error}") from error
        except kafka_errors.KafkaError as error:
            raise failure(error, "Kafka") from error
        mine = {
            owned: self._suspects.begin(owned, [to_record(raw) for raw in records])
            for owned, records in polled.items()
            if owned in self._generations
        }
        self._update_watch(positions, mine)
        if not positions:
            return None
        records = tuple(record for records in mine.values() for record in records)
        alone = any(run and self._suspects.alone(owned, run[0].offset) for owned, run in mine.items())
        return Batch(records, positions, self._new_gaps(), alone)

    @override
    def commit(self, positions: Mapping[Partition, Position]) -> None:
        """The next poll sends it."""
        self._pending.update(positions)

    @override
    def touch(self, record: Record) -> bool:
        owned = TopicPartition(*record.partition)
        if self._pending or self._sent is not None:
            return False
        return owned not in self._generations or self._suspects.touch(owned, record.offset)

    @override
    def excuse(self) -> None:
        self._excuse.set()

    @override
    def remaining(self) -> int | None:
        """What other members of the group have committed counts as done."""
        return None if self._end is None else self._end.remaining(self._generations)

    @override
    def close(self, timeout_s: float) -> None:
        deadline = self._clock() + timeout_s
        left = {**(self._sent or {}), **self._pending}
        offsets = self._current(left)
        if self._excuse.is_set():
            offsets = {**self._suspects.excused(), **offsets}
        try:
            if offsets:
                self._consumer.commit(offsets, timeout_ms=int(max(1.0, timeout_s * 500)))
        except kafka_errors.KafkaError:
            pass  # what is not committed is delivered again, which changes nothing
        finally:
            self._pending, self._sent = {}, None
            self._consumer.close(autocommit=False, timeout_ms=int(max(1.0, (deadline - self._clock()) * 1000)))

    def _hold(self, hold: bool) -> None:  # noqa: FBT001  # the word is the method's
        """Pause or resume all; partitions that come during a hold are paused by the listener."""
        if hold != self._holding:
            self._holding = hold
            self._asked_s = self._clock()
            change = self._consumer.pause if hold else self._consumer.resume
            change(*self._consumer.assignment())

    def _joining(self) -> bool:
        """Whether a rebalance is under way; one that is, is not forgotten."""
        internals.keep_rejoining(self._consumer)
        return internals.rejoining(self._consumer)

    def _new_positions(self) -> dict[Partition, Position]:
        """Positions that differ from those of the last poll, also where only markers of transactions went by."""
        moved = {}
        for owned, generation in list(self._generations.items()):
            offset = internals.position_of(self._consumer, owned)
            if offset is not None and (seen := self._seen.get(owned)) != offset:
                if seen is not None and offset < seen and all(gap.partition != owned for gap in self._gaps):
                    self._was_reset(owned, seen, offset)
                self._seen[owned] = offset
                moved[Partition(*owned)] = Position(offset, generation)
        return moved

    def _was_reset(self, owned: TopicPartition, before: int, after: int) -> None:
        """Called by the library's own thread, too."""
        self._gaps.append(Gap(Partition(*owned), before, after))

    def _new_gaps(self) -> tuple[Gap, ...]:
        gaps = [self._gaps.popleft() for _ in range(len(self._gaps))]
        return tuple(gap for gap in gaps if TopicPartition(*gap.partition) in self._generations)

    def _check_heartbeats(self, *, joining: bool) -> None:
        """A poll does not fail while no broker answers, it finds nothing: that there is none the heartbeats tell.

        There are none while the group waits for a member to join; then the connection tells.
        """
        waits_for_others = joining and internals.knows_coordinator(self._consumer)
        answered_s = self._clock() if waits_for_others else internals.last_heartbeat_s(self._consumer)
        self._answered_s = max(self._answered_s, answered_s)
        self._watch.silent_s = self._clock() - self._answered_s

    def _ask_for_ends(self) -> None:
        """Ask where the partitions end, so that lag grows while nothing is fetched; the answer is not waited for."""
        if self._clock() - self._asked_s < ENDS_S or (self._asked is not None and not self._asked.is_done):
            return
        self._asked_s = self._clock()
        self._asked = internals.ask_for_ends(self._consumer, list(self._generations), GROUP_TIMEOUT_MS)
        self._asked.add_callback(self._learn_ends)

    def _learn_ends(self, answers: Mapping[TopicPartition, Any]) -> None:
        self._watch.ends(
            {Partition(*owned): answer.offset for owned, answer in answers.items() if answer and answer.offset >= 0}
        )

    def _update_watch(
        self, positions: Mapping[Partition, Position], polled: Mapping[TopicPartition, Sequence[Record]]
    ) -> None:
        for partition, position in positions.items():
            records = polled.get(TopicPartition(*partition), ())
            first = records[0].offset if records else position.offset
            self._watch.polled(partition, first, position.offset, records)
        ends = {owned: internals.end_of(self._consumer, owned) for owned in list(self._generations)}
        self._watch.ends({Partition(*owned): end for owned, end in ends.items() if end is not None})

    def _send_commit(self) -> None:
        """Send what is pending, one request at a time, so that no commit overtakes another."""
        if self._excuse.is_set() and self._sent is None:
            self._excuse.clear()
            if excused := self._suspects.excused():
                self._consumer.commit_async(excused)
        if not self._pending or self._sent is not None or self._clock() < self._not_before:
            return
        offsets = self._current(self._pending)
        self._sent = {Partition(*owned): self._pending[Partition(*owned)] for owned in offsets}
        self._pending = {}
        if offsets:
            self._consumer.commit_async(offsets, callback=self._committed)
        else:
            self._sent = None

    def _committed(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], answer: object) -> None:
        """Called from within a later poll: take back what was refused, newer positions first."""
        sent, self._sent = self._sent or {}, None
        if isinstance(answer, Exception):
            self._pending = {**sent, **self._pending}
            self._not_before = self._clock() + COMMIT_RETRY_S
            self._watch.commits["refused"] += 1
            return
        self._watch.commits["done"] += 1
        for owned, committed in offsets.items():
            if self._end is not None:
                self._end.committed(owned, committed.offset)
            self._watch.committed(Partition(*owned), committed.offset)

    def _current(self, positions: Mapping[Partition, Position]) -> dict[TopicPartition, OffsetAndMetadata]:
        """Without those of an assignment that is over: its offset could be moved back."""
        return {
            TopicPartition(*partition): self._suspects.commit_of(TopicPartition(*partition), position.offset)
            for partition, position in positions.items()
            if self._generations.get(TopicPartition(*partition)) == position.generation
        }

    def _assigned(self, partitions: Collection[TopicPartition]) -> None:
        for owned in partitions:
            self._assignments += 1
            self._generations[owned] = self._assignments
            self._seen.pop(owned, None)
        if self._holding:
            self._consumer.pause(*partitions)

    def _revoked(self, partitions: Collection[TopicPartition]) -> None:
        for owned in partitions:
            self._generations.pop(owned, None)
        self._suspects.revoked(partitions)
        self._watch.revoked(Partition(*owned) for owned in partitions)


def to_record(raw: Any) -> Record:
    """One of the library's."""
    partition = Partition(raw.topic, raw.partition)
    damage = raw.checksum if isinstance(raw.checksum, str) else ""  # a number in the oldest message formats
    produced = raw.timestamp if isinstance(raw.timestamp, int) and raw.timestamp >= 0 else None
    return Record(partition, raw.offset, raw.key, raw.value, tuple(raw.headers or ()), damage, produced)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # the library is untyped
    """Revoked or lost makes no difference here: nothing is committed from a listener."""

    def __init__(
        self,
        assigned: Callable[[Collection[TopicPartition]], None],
        revoked: Callable[[Collection[TopicPartition]], None],
        watch: Watch,
    ) -> None:
        self._assigned = assigned
        self._revoked = revoked
        self._watch = watch

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._watch.rebalances["assigned"] += 1
        self._assigned(assigned)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._watch.rebalances["revoked"] += 1
        self._revoked(revoked)

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        self._watch.rebalances["lost"] += 1
        self._revoked(lost)
