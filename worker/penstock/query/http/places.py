"""Who may have how many requests under way, and how much of their bodies is in memory."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from penstock.query.http.errors import Rejected

BODIES_BYTES = 256 << 20
"""Of all bodies that are being read."""


@dataclass(slots=True)
class Places:
    """For requests whose bodies are there: a client that sends slowly takes none."""

    most: int
    most_per_tenant: int
    _taken: Counter[str] = field(default_factory=Counter)
    _bytes: int = 0

    @contextmanager
    def taken(self, tenant: str) -> Iterator[None]:
        """One of them, while it lasts; raises Rejected where there is none for this tenant."""
        if self._taken.total() >= self.most:
            raise Rejected("busy", f"{self.most} requests are under way")
        if self._taken[tenant] >= self.most_per_tenant:
            raise Rejected("busy", f"{self.most_per_tenant} requests of this tenant are under way")
        self._taken[tenant] += 1
        try:
            yield
        finally:
            self._taken[tenant] -= 1
            if not self._taken[tenant]:
                del self._taken[tenant]

    @contextmanager
    def room(self, most_bytes: int) -> Iterator[None]:
        """For a body of at most so many bytes, while it is read; raises Rejected."""
        if self._bytes + most_bytes > BODIES_BYTES:
            raise Rejected("busy", "too many bodies are being read")
        self._bytes += most_bytes
        try:
            yield
        finally:
            self._bytes -= most_bytes
