"""Ends a worker whose stream has become something else: a flood of records that cannot be decoded is a bad deploy."""

from collections import deque

from penstock.core.errors import Misconfigured


class Breaker:
    """Counts records as they are decoded. For one thread."""

    def __init__(self, run: int, share: float, window: int) -> None:
        """Breaks at ``run`` invalid records in a row, or at that ``share`` of the latest ``window``; 0 means never."""
        self._run, self._share, self._window = run, share, window
        self._in_a_row = self._invalid = 0
        self._latest: deque[bool] = deque()

    def decoded(self) -> None:
        """A record was what it should be."""
        self._in_a_row = 0
        self._note(invalid=False)

    def invalid(self, reason: str) -> Misconfigured | None:
        """One was not; returns what ends the worker when that makes too many."""
        self._in_a_row += 1
        self._note(invalid=True)
        if self._run and self._in_a_row >= self._run:
            return Misconfigured(
                f"{self._in_a_row} records in a row could not be decoded, the last one: {reason}. Mend the producer; "
                "to make dead letters of them all set PENSTOCK_INDEX__STOP_AFTER_INVALID=0"
            )
        full = len(self._latest) == self._window
        if self._share and full and self._invalid >= self._share * self._window:
            return Misconfigured(
                f"{self._invalid} of the latest {self._window} records could not be decoded, the last one: {reason}. "
                "Mend the producer; to make dead letters of them all set PENSTOCK_INDEX__STOP_AT_INVALID_SHARE=0"
            )
        return None

    def _note(self, *, invalid: bool) -> None:
        if not self._share:
            return
        self._latest.append(invalid)
        self._invalid += invalid
        if len(self._latest) > self._window:
            self._invalid -= self._latest.popleft()
