"""What goes to Qdrant in one request: so many points, so many bytes, and fewer where it has been too slow. Pure."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

REQUEST_BYTES = 8 << 20
"""Of points in one request: few enough for a slow disk to write in the time that is waited for an answer."""

IN_TIME = 20
"""Full requests in time, one after the other, before they grow again."""


class Pace:
    """How many points a request has: half as many as one that was overdue, and by and by more again."""

    def __init__(self, most: int) -> None:
        self.size, self._most, self._in_time = most, most, 0

    def overdue(self, points: int) -> None:
        """A request of so many had no answer in time."""
        self.size, self._in_time = max(1, min(self.size, points // 2)), 0

    def in_time(self, points: int) -> None:
        """One had."""
        self._in_time += points >= self.size
        if self._in_time >= IN_TIME and self.size < self._most:
            self.size, self._in_time = min(self._most, self.size * 2), 0


def slices(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """In their order, at most so many together."""
    return in_requests(items, size, size, lambda _: 1)


def in_requests(items: Sequence[T], most: int, most_weight: int, weigh: Callable[[T], int]) -> list[Sequence[T]]:
    """In their order, at most so many together and so heavy; what is heavier alone is alone."""
    parts: list[list[T]] = []
    weight = most_weight
    for item in items:
        its_own = weigh(item)
        if not parts or len(parts[-1]) == most or weight + its_own > most_weight:
            parts.append([])
            weight = 0
        parts[-1].append(item)
        weight += its_own
    return list(parts)
