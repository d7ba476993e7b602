"""The loop of both workers: poll, hand to the pipeline, commit what has come out of it.

The thread that runs it owns the source, and never waits for long: a consumer that does not poll loses its
partitions, and one that waits in a long poll lets the model idle.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from penstock.core.errors import Misconfigured, OwnershipLost, Unavailable
from penstock.core.ports import Source
from penstock.core.records import Batch, Partition, Position, Record
from penstock.core.work import Work
from penstock.stream.pipeline import Pipeline, StageFailed

W = TypeVar("W", bound=Work)

IDLE_POLL_S = 0.25
"""Waiting for records while nothing is in the pipe."""

DRAIN_SHARE, CLOSE_SHARE = 0.7, 0.1
"""Of the drain timeout: for finishing what is in hand, and for each thing that is to be closed."""

BUSY_POLL_S = 0.05
"""Waiting for records, or for room in the pipe, while something is in it: its commit waits no longer."""


@dataclass(slots=True)
class StreamWorker(Generic[W]):
    """Joins a source to a pipeline.

    ``begin`` makes of a batch what goes through the pipeline; ``batch_bytes`` is the size to which a poll is cut;
    ``drain_timeout_s`` bounds the end after a stop; ``report`` hears of every finished batch; ``outage`` of every
    failed poll in a row, and says how many seconds to wait before the next; ``ending`` hears of the end, before what
    is in hand is finished; ``turned`` of every turn of the loop, a few times a second whatever is away. When nothing
    has come for ``ask_s`` an empty batch goes through the stages, which ask what they ask of every batch.
    """

    source: Source
    pipeline: Pipeline[W]
    begin: Callable[[Batch], W]
    batch_bytes: int
    drain_timeout_s: float
    outage: Callable[[Unavailable, int], float]
    report: Callable[[W], None] = lambda _: None
    ending: Callable[[], None] = lambda: None
    turned: Callable[[], None] = lambda: None
    ask_s: float = math.inf
    clock: Callable[[], float] = time.monotonic
    _in_hand: deque[Batch] = field(default_factory=deque)
    _failures: int = 0
    _not_before: float = 0.0
    _offered_s: float = 0.0

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop, or until the source has an end and all before it is committed."""
        try:
            self._work(stop)
        except StageFailed as failed:
            for work in self.pipeline.left():  # durable before another one failed
                self.source.commit(work.batch.positions)
                self.report(work)
            if isinstance(failed.__cause__, Misconfigured | OwnershipLost):
                self.source.excuse()
            raise
        self.ending()
        self._drain(self.clock() + self.drain_timeout_s * DRAIN_SHARE)

    def _work(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.turned()
            if self._in_hand:
                self._hand_over(BUSY_POLL_S)
            elif self.source.remaining() == 0:
                break
            elif self.clock() < self._not_before:
                stop.wait(BUSY_POLL_S)
            else:
                self._poll(IDLE_POLL_S if self.pipeline.idle else BUSY_POLL_S)
            self._commit()

    def _poll(self, timeout_s: float, *, hold: bool = False) -> None:
        try:
            batch = self.source.poll(timeout_s, hold=hold)
        except Unavailable as error:
            self._failures += 1
            self._not_before = self.clock() + self.outage(error, self._failures)
            return
        self._failures = 0
        if batch is not None:
            self._in_hand.extend(cut(batch, 0 if batch.alone else self.batch_bytes))
        elif not hold and self.pipeline.idle and self.clock() - self._offered_s > self.ask_s:
            self._in_hand.append(Batch((), {}))

    def _hand_over(self, wait_s: float) -> None:
        """Put the next batch in; while there is no room, wait for some and keep the membership."""
        if self._in_hand[0].alone and not self._may_go_alone(self._in_hand[0]):
            self._commit(wait_s)
            self._poll(0.0, hold=True)
        elif self.pipeline.offer(self.begin(self._in_hand[0])):
            self._in_hand.popleft()
            self._offered_s = self.clock()
        else:
            self.pipeline.wait_for_room(wait_s)
            self._poll(0.0, hold=True)

    def _may_go_alone(self, batch: Batch) -> bool:
        return self.pipeline.idle and all(self.source.touch(record) for record in batch.records)

    def _commit(self, wait_s: float = 0.0) -> None:
        for work in self.pipeline.finished(wait_s):
            self.source.commit(work.batch.positions)
            self.report(work)

    def _drain(self, deadline: float) -> None:
        """Finish what is in hand and leave the group; what the deadline cuts off is delivered again."""
        self.source.excuse()
        while (self._in_hand or not self.pipeline.idle) and self.clock() < deadline:
            self.turned()
            if self._in_hand:
                self._hand_over(BUSY_POLL_S)
            else:
                self._poll(0.0, hold=True)
            self._commit(BUSY_POLL_S)
        self.source.close(self.drain_timeout_s * CLOSE_SHARE)


def cut(batch: Batch, most_bytes: int) -> Iterator[Batch]:
    """A poll in slices of about so many bytes, in its own order; each with the positions that follow it.

    A record larger than that is a slice of its own, and so is every one where that is 0. Positions that no record led
    to go with the last slice, gaps with the first.
    """
    slices: list[list[Record]] = [[]]
    size = 0
    for record in batch.records:
        length = len(record.value or b"")
        if slices[-1] and (size + length > most_bytes or most_bytes == 0):
            slices.append([])
            size = 0
        slices[-1].append(record)
        size += length
    following: dict[Partition, Position] = dict(batch.positions)
    cuts: list[Batch] = []
    for records in reversed(slices):
        positions = following if not cuts else {record.partition: following[record.partition] for record in records}
        cuts.append(Batch(tuple(records), dict(positions), alone=batch.alone))
        for record in reversed(records):
            following[record.partition] = Position(record.offset, following[record.partition].generation)
    cuts[-1] = replace(cuts[-1], gaps=batch.gaps)
    return reversed(cuts)
