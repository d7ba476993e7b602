"""The failures a worker knows, named by what it does about them. Anything else is a bug and ends the process."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class InvalidEvent(Exception):
    """A record that can never be indexed becomes a dead letter, and the stream goes on."""


class Unforeseen(InvalidEvent):
    """Reading what came from outside raised an error that nobody planned, its cause: our bug, and yet its letter."""


class Refused(InvalidEvent):
    """The store calls the request itself wrong; sent again it would be refused again.

    It is about a document only if the store takes others.
    """


class Unavailable(Exception):
    """A service is away: the same call is made again later, for ever, and nothing is let go.

    ``retry_after_s`` is the least pause, where the service names one.
    """

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Stopped(Exception):
    """The worker was told to stop while a call was being repeated; the batch is left to the next owner."""


class Overdue(Unavailable):
    """No answer in time: the service hangs, or this very request takes it too long."""


class Missing(Unavailable):
    """The store knows no such collection: for good, or only while a node of it starts."""


class OwnershipLost(Exception):
    """Another consumer has taken this worker's place: let go, it does the rest."""


class NotFinite(Exception):
    """A model made numbers of some texts that are none, as half precision does where it overflows.

    ``rows`` are the places of those texts; ``values`` are the model's numbers for all, which the others may use.
    """

    def __init__(self, rows: Sequence[int], values: NDArray[np.float32]) -> None:
        super().__init__(
            f"the model made no finite numbers of {len(rows)} of {len(values)} texts: export it in bf16 or fp32"
        )
        self.rows, self.values = tuple(rows), values


class Misconfigured(Exception):
    """A setting, a file or a collection does not fit: the command ends with this one line and exit code 2."""
