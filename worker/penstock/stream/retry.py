"""Waiting out outages: calls are made again until the service is back, and nothing is let go."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from penstock.core.errors import Stopped, Unavailable

T = TypeVar("T")

SIGN_S = 10.0
"""Between two signs of life in a pause."""


def backoff(failures: int, spread: float, *, first_s: float = 0.1, most_s: float = 10.0) -> float:
    """Seconds to wait after so many failures in a row: doubling, capped, and thinned by ``spread`` (0 … 1).

    The spread keeps many workers from knocking at the same moment: half of the pause is fixed, half is theirs.
    """
    pause = min(most_s, first_s * 2.0 ** min(failures - 1, 30))
    return pause * (0.5 + 0.5 * spread)


@dataclass(frozen=True, slots=True)
class Retry:
    """Repeats calls while a service is away. ``stop`` ends the waiting at once.

    ``delay`` maps the number of failures in a row to seconds; ``report`` hears of each failure and its pause, and may
    end the waiting by raising what waiting will not mend. ``sign`` hears of the end of every call, well or not.
    """

    delay: Callable[[int], float]
    report: Callable[[Unavailable, int, float], None]
    stop: threading.Event = field(default_factory=threading.Event)
    sign: Callable[[], None] = lambda: None

    def call(self, action: Callable[[], T]) -> T:
        """The action's result, however long it takes; raises Stopped when told to stop meanwhile."""
        failures = 0
        while True:
            try:
                return self._attempt(action)
            except Unavailable as error:
                failures += 1
                self._wait(self.pause_s(error, failures), error)

    def _wait(self, pause_s: float, error: Unavailable) -> None:
        """With a sign of life now and then: a service may ask for a pause of minutes."""
        left_s = pause_s
        while not self.stop.wait(min(left_s, SIGN_S)):
            self.sign()
            left_s -= SIGN_S
            if left_s <= 0:
                return
        raise Stopped from error

    def _attempt(self, action: Callable[[], T]) -> T:
        try:
            return action()
        finally:
            self.sign()

    def around(self, _method: str, call: Callable[[], T]) -> T:
        """The same, to be put around every call of a port: see ``core/around.py``."""
        return self.call(call)

    def pause_s(self, error: Unavailable, failures: int) -> float:
        """Reports a failure, and says how long to wait after it."""
        pause = max(self.delay(failures), error.retry_after_s)
        self.report(error, failures, pause)
        return pause
