"""Who goes first where two streams want the same thing: the one in front, always.

The other one, behind, gets what is left over: while those in front never rest, nothing. What it has begun goes on to
its end, so it takes things in pieces that are so small that to wait for one is no matter.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from penstock.core.errors import Stopped

LOOK_S = 0.5
"""How often one who waits behind gives a sign of life, and looks whether it is to end."""


class Precedence:
    """Over one thing, which has so many ``places``: nobody begins behind while they are taken, or asked for in front.

    Where the front ``waits`` it is not begun there either while all are taken; else it displaces who is behind, or the
    two overlap. With no places, nobody begins behind while there is one in front.
    """

    def __init__(self, places: int = 0, *, waits: bool = True) -> None:
        self._places, self.waits = places, waits and places > 0
        self._changed = threading.Condition()
        self._waiting = self._front = self._behind = 0
        self.waited_s = 0.0
        """Seconds that those behind have waited, in all."""

    @contextmanager
    def front(self) -> Iterator[None]:
        """As soon as there is a place, or at once."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not self.waits or self._is_place())
            self._waiting -= 1
            self._front += 1
        try:
            yield
        finally:
            with self._changed:
                self._front -= 1
                self._changed.notify_all()

    @contextmanager
    def behind(self, ended: threading.Event, sign: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Once it may begin. Raises Stopped when ``ended`` is set meanwhile; ``sign`` hears while it waits."""
        began = time.perf_counter()
        with self._changed:
            while not self._changed.wait_for(self._is_left, LOOK_S):
                sign()
                if ended.is_set():
                    raise Stopped
            self.waited_s += time.perf_counter() - began
            self._behind += 1
        try:
            yield
        finally:
            with self._changed:
                self._behind -= 1
                self._changed.notify_all()

    def _is_place(self) -> bool:
        return not self._places or self._front + self._behind < self._places

    def _is_left(self) -> bool:
        return self._is_place() and not (self._waiting if self._places else self._front)
