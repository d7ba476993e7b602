"""Waiting out outages: calls of a port are repeated until the service is back, and nothing is let go."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from penstock.core.documents import ChunkKey, DocumentKey, Point, Stored
from penstock.core.errors import Unavailable
from penstock.core.ports import DeadLetters, VectorStore
from penstock.core.records import Letter

T = TypeVar("T")


class Stopped(Exception):
    """The worker was told to stop while a call was being repeated; the batch is left to the next owner."""


def backoff(failures: int, spread: float, *, first_s: float = 0.1, most_s: float = 10.0) -> float:
    """Seconds to wait after so many failures in a row: doubling, capped, and thinned by ``spread`` (0 … 1).

    The spread keeps many workers from knocking at the same moment: half of the pause is fixed, half is theirs.
    """
    pause = min(most_s, first_s * 2.0 ** min(failures - 1, 30))
    return pause * (0.5 + 0.5 * spread)


@dataclass(frozen=True, slots=True)
class Patience:
    """Repeats calls while a service is away. ``stop`` ends the waiting at once.

    ``delay`` maps the number of failures in a row to seconds; ``report`` hears of each failure and its pause.
    """

    delay: Callable[[int], float]
    report: Callable[[Unavailable, int, float], None]
    stop: threading.Event = field(default_factory=threading.Event)

    def call(self, action: Callable[[], T]) -> T:
        """The action's result, however long it takes; raises Stopped when told to stop meanwhile."""
        failures = 0
        while True:
            try:
                return action()
            except Unavailable as error:
                failures += 1
                if self.stop.wait(self.pause_s(error, failures)):
                    raise Stopped from error

    def pause_s(self, error: Unavailable, failures: int) -> float:
        """Reports a failure, and says how long to wait after it."""
        pause = self.delay(failures)
        self.report(error, failures, pause)
        return pause


@dataclass(frozen=True, slots=True)
class PatientStore:
    """A VectorStore whose calls never raise Unavailable, only Stopped."""

    store: VectorStore
    patience: Patience

    def read(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
        """As the port says."""
        return self.patience.call(lambda: self.store.read(keys))

    def upsert(self, points: Sequence[Point]) -> None:
        """As the port says."""
        self.patience.call(lambda: self.store.upsert(points))

    def patch(self, points: Sequence[Point]) -> None:
        """As the port says."""
        self.patience.call(lambda: self.store.patch(points))

    def sweep(self, anchors: Mapping[DocumentKey, Stored]) -> None:
        """As the port says."""
        self.patience.call(lambda: self.store.sweep(anchors))


@dataclass(frozen=True, slots=True)
class PatientDeadLetters:
    """A DeadLetters whose ``put`` never raises Unavailable, only Stopped."""

    letters: DeadLetters
    patience: Patience

    def put(self, letters: Sequence[Letter]) -> None:
        """As the port says."""
        self.patience.call(lambda: self.letters.put(letters))

    def close(self, timeout_s: float) -> None:
        """As the port says."""
        self.letters.close(timeout_s)
