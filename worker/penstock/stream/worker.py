"""The loop of both workers: poll, hand to the pipeline, commit what has come out of it.

The thread that runs it owns the source, and never waits for long: a consumer that does not poll loses its
partitions, and one that waits in a long poll lets the model idle.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from penstock.core.errors import Misconfigured, OwnershipLost, Unavailable
from penstock.core.ports import Source
from penstock.core.records import Batch, Position, Record
from penstock.core.work import Work
from penstock.stream.pace import Pace
from penstock.stream.pipeline import Pipeline, StageFailed

W = TypeVar("W", bound=Work)

IDLE_POLL_S = 0.25
"""Waiting for records while nothing is in the pipe."""

DRAIN_SHARE, CLOSE_SHARE = 0.7, 0.1
"""Of the drain timeout: for finishing what is in hand, and for each thing that is to be closed."""

IN_PIPE = 5
"""Batches that are before the end of the model's stage, each in a stage or waiting for one, and one to spare."""

BUSY_POLL_S = 0.05
"""Waiting for records, or for room in the pipe, while something is in it: its commit waits no longer."""


@dataclass(slots=True)
class StreamWorker(Generic[W]):
    """Joins a source to a pipeline.

    ``begin`` makes of a batch what goes through the pipeline. A poll is cut to ``batch_bytes`` and, with a ``pace``, to
    ``batch_s`` and so that what is in the pipe is done within ``drain_timeout_s``, which bounds the end after a stop;
    ``together`` are the first records, which are judged as one. ``report`` hears of every finished batch; ``outage`` of
    every failed poll in a row, and says how many seconds to wait before the next; ``ending`` hears of the end, before
    what is in hand is finished; ``turned`` of every turn of the loop, a few times a second whatever is away. When
    nothing has come for ``ask_s`` an empty batch goes through the stages, which ask what they ask of every batch.
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
    pace: Pace | None = None
    batch_s: float = math.inf
    together: int = 0
    _polled: deque[Batch] = field(default_factory=deque)
    _next: Batch | None = None
    _in_pipe_s: deque[float] = field(default_factory=deque)
    _failures: int = 0
    _not_before: float = 0.0
    _offered_s: float = 0.0

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop, or until the source has an end and all before it is committed."""
        try:
            self._work(stop)
        except StageFailed as failed:
            for work in self.pipeline.left():  # durable before another one failed
                self._done(work)
            if isinstance(failed.__cause__, Misconfigured | OwnershipLost):
                self.source.excuse()
            raise
        self.ending()
        self._drain(self.clock() + self.drain_timeout_s * DRAIN_SHARE)

    def _work(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.turned()
            if (batch := self._in_hand()) is not None:
                self._hand_over(batch, BUSY_POLL_S)
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
            self._polled.append(batch)
        elif not hold and self.pipeline.idle and self.clock() - self._offered_s > self.ask_s:
            self._polled.append(Batch((), {}))

    def _in_hand(self) -> Batch | None:
        """What is to go into the pipe next; cut from what was polled as late as possible, by what is known then."""
        if self._next is None and self._polled:
            polled = self._polled.popleft()
            most_s = min(self.batch_s, self.drain_timeout_s * DRAIN_SHARE / IN_PIPE)
            most_bytes = 0 if polled.alone else self.batch_bytes
            self._next, rest = first_of(polled, most_bytes, self._seconds, most_s, self.together)
            self.together = 0
            if rest is not None:
                self._polled.appendleft(rest)
        return self._next

    def _hand_over(self, batch: Batch, wait_s: float) -> None:
        """Put it in; while there is no room, wait for some and keep the membership."""
        if batch.alone and not self._may_go_alone(batch):
            self._commit(wait_s)
            self._poll(0.0, hold=True)
        elif self.pipeline.offer(self.begin(batch)):
            self._next = None
            self._in_pipe_s.append(sum(map(self._seconds, batch.records)))
            self._offered_s = self.clock()
        else:
            self.pipeline.wait_for_room(wait_s)
            self._poll(0.0, hold=True)

    def _may_go_alone(self, batch: Batch) -> bool:
        return self.pipeline.idle and all(self.source.touch(record) for record in batch.records)

    def _commit(self, wait_s: float = 0.0) -> None:
        for work in self.pipeline.finished(wait_s):
            self._done(work)

    def _done(self, work: W) -> None:
        self.source.commit(work.batch.positions)
        self._in_pipe_s.popleft()
        self.pace = self.pace and self.pace.after(work)
        self.report(work)

    def _drain(self, deadline: float) -> None:
        """Finish what is in the pipe, and of what is polled as much as there is time for; then leave the group.

        The rest is delivered again, and no work on it was thrown away.
        """
        self.source.excuse()
        while self.clock() < deadline:
            self.turned()
            batch = self._in_hand()
            if batch is not None and self._time_for(batch, deadline):
                self._hand_over(batch, BUSY_POLL_S)
            elif self.pipeline.idle:
                break
            else:
                self._poll(0.0, hold=True)
            self._commit(BUSY_POLL_S)
        self.source.close(self.drain_timeout_s * CLOSE_SHARE)

    def _time_for(self, batch: Batch, deadline: float) -> bool:
        """Whether it would be done by then, behind what is in the pipe."""
        return self.clock() + sum(self._in_pipe_s) + sum(map(self._seconds, batch.records)) < deadline

    def _seconds(self, record: Record) -> float:
        return 0.0 if self.pace is None else self.pace.seconds(record)


def first_of(
    batch: Batch, most_bytes: int, seconds: Callable[[Record], float], most_s: float, together: int = 0
) -> tuple[Batch, Batch | None]:
    """The first records of a poll, of about so many bytes and seconds, with the positions that follow them; the rest.

    A record above that is a batch of its own, and so is every one where ``most_bytes`` is 0; ``together`` records are
    not parted for want of seconds. Positions that no record led to go with the last batch, gaps with the first.
    """
    records, size, spent_s, number = batch.records, 0, 0.0, 0
    for record in records:
        size += len(record.value or b"")
        spent_s += seconds(record)
        if number and (size > most_bytes or (spent_s > most_s and number >= together)):
            break
        number += 1
    if number == len(records):
        return batch, None
    following = dict(batch.positions)
    for record in reversed(records[number:]):
        following[record.partition] = Position(record.offset, following[record.partition].generation)
    positions = {record.partition: following[record.partition] for record in records[:number]}
    head = Batch(records[:number], positions, alone=batch.alone, gaps=batch.gaps)
    return head, replace(batch, records=records[number:], gaps=())
