"""A batch on its way through the stages of a worker."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from penstock.core.errors import InvalidEvent
from penstock.core.records import Batch, Letter, Outcome, Record


class Interval(NamedTuple):
    """Nanoseconds since 1970."""

    start_ns: int
    end_ns: int


@dataclass(slots=True)
class Work:
    """What has become of a batch's records so far. ``chunks`` and ``tokens`` are what a model has seen.

    ``kept`` are the chunks that needed no model, since their text is what is stored. ``stages`` says when each stage
    that it has left had it.
    """

    batch: Batch
    letters: list[Letter] = field(default_factory=list)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    by_topic: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    chunks: int = 0
    kept: int = 0
    tokens: int = 0
    stages: dict[str, Interval] = field(default_factory=dict)

    def timed(self, stage: str, interval: Interval) -> None:
        """A stage had it, then."""
        self.stages[stage] = interval

    def give_up(self, record: Record, error: InvalidEvent, stage: str) -> None:
        """The record becomes a dead letter."""
        self.letters.append(Letter(record, error, stage))
        self.became(record, Outcome.DEAD_LETTERED)

    def became(self, record: Record, outcome: Outcome) -> None:
        """What has become of a record."""
        self.outcomes[outcome] += 1
        self.by_topic[record.partition.topic, outcome] += 1


class Stopwatch:
    """Milliseconds of one step after the other."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = clock()
        self.laps_ms: dict[str, float] = {}

    def lap(self, step: str) -> None:
        """The step is over, the next one begins."""
        now = self._clock()
        self.laps_ms[step] = round((now - self._started) * 1000, 3)
        self._started = now
