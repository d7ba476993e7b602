"""What a stream's source lets others see: how far the work is behind, commits and rebalances.

Written by the thread that polls, read by whoever asks for metrics.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

from penstock.core.records import Partition, Record

Kind = Literal["live", "backlog"]
"""Of a record: whether it came while its partition was followed, or lay there before."""


def kind_of(offset: int, end: int) -> Kind:
    """``end`` is where the partition ended when it was assigned: what lay behind it then has an age of its own.

    Such are the records of a re-index, and what came while nobody read: how old they are says nothing of a worker.
    """
    return "backlog" if offset < end else "live"


class Lag(NamedTuple):
    """How far one partition is from its end.

    ``records`` that are not committed, of those that the broker told of with its latest answer; ``seconds`` since
    the oldest of them that was read was produced, 0 when all that was read is committed.
    """

    records: int
    seconds: float


class _Partition:
    def __init__(self, position: int) -> None:
        self.done = self.read = self.end = position
        self.marks: deque[tuple[int, float]] = deque()
        """The first record of each poll that is not committed, and when it was produced."""
        self.known = False
        """Whether the broker has told of the end: not before the first fetch has been answered."""
        self.told = False
        """Whether it has told of it by itself, beside what was read."""


class Watch:
    """Of one consumer; only partitions that it owns are in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._partitions: dict[Partition, _Partition] = {}
        self._assigned_ends: dict[Partition, int] = {}
        self.commits = Counter(done=0, refused=0)
        """By result: done, or refused and sent again."""
        self.rebalances = Counter(assigned=0, revoked=0, lost=0)
        """Assigned, revoked, lost."""
        self.topic: Callable[[str], None] = lambda _: None
        """Hears of a partition's topic before its first records are handed out: with a pattern, topics come later."""
        self.silent_s = 0.0
        """How long the broker that keeps the group has not answered, as of the latest poll."""

    def polled(self, partition: Partition, first: int, position: int, records: Iterable[Record]) -> None:
        """These came, in order; ``first`` is the first of them, ``position`` the next to read."""
        self.topic(partition.topic)
        with self._lock:
            state = self._partitions.setdefault(partition, _Partition(first))
            if state.done >= state.read:  # what was read before is no part of the lag
                state.marks.clear()
            state.known = state.known or position > first
            oldest = next((record for record in records if record.timestamp_ms is not None), None)
            if oldest is not None and oldest.timestamp_ms is not None:
                state.marks.append((oldest.offset, oldest.timestamp_ms / 1000))
            state.read, state.end = position, max(state.end, position)

    def ends(self, ends: Mapping[Partition, int]) -> None:
        """Where partitions end as the broker told last, also of those where nothing was read."""
        with self._lock:
            for partition, end in ends.items():
                if (state := self._partitions.get(partition)) is not None:
                    state.known, state.end = True, max(state.end, end)
                    if not state.told:
                        state.told, self._assigned_ends[partition] = True, end

    def committed(self, partition: Partition, offset: int) -> None:
        """Everything before this offset is done."""
        with self._lock:
            if (state := self._partitions.get(partition)) is None:
                return
            state.done = max(state.done, offset)
            while len(state.marks) > 1 and state.marks[1][0] <= state.done:
                state.marks.popleft()

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """These are no longer this consumer's."""
        with self._lock:
            for partition in partitions:
                self._partitions.pop(partition, None)

    def assigned_ends(self) -> dict[Partition, int]:
        """Where each partition ended when it was last assigned, also of those that are no longer this consumer's."""
        with self._lock:
            return dict(self._assigned_ends)

    def has_first(self) -> bool:
        """Whether a topic's first partition is among them: of a group that shares one topic, one consumer has it."""
        with self._lock:
            return any(partition.number == 0 for partition in self._partitions)

    def lag(self) -> int:
        """Records that are not committed, of all partitions."""
        return sum(lag.records for lag in self.behind(0.0).values())

    def behind(self, now_s: float) -> dict[Partition, Lag]:
        """All that are owned and whose end is known."""
        with self._lock:
            return {
                name: Lag(
                    max(0, state.end - state.done),
                    max(0.0, now_s - state.marks[0][1]) if state.marks and state.done < state.read else 0.0,
                )
                for name, state in self._partitions.items()
                if state.known
            }
