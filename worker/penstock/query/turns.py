"""Who is next: jobs of many tenants, each tenant's in their order, the tenants by turns. Pure but for the futures."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

I = TypeVar("I")  # noqa: E741  # an item
O = TypeVar("O")  # noqa: E741  # its outcome


@dataclass(slots=True, eq=False)
class Job(Generic[I, O]):
    """Items that were submitted together; ``taken`` of them are in a batch or done."""

    items: Sequence[I]
    weights: Sequence[int]
    future: asyncio.Future[list[O]]
    tenant: str = ""
    results: dict[int, O] = field(default_factory=dict)
    taken: int = 0

    @property
    def over(self) -> bool:
        """Whether nothing of it is left to take: all is taken, or nobody waits any more."""
        return self.future.done() or self.taken == len(self.items)

    @property
    def left(self) -> int:
        """What is left to take weighs so much."""
        return 0 if self.future.done() else sum(self.weights[self.taken :])

    def finish(self, index: int, result: O) -> None:
        """One item's outcome is there."""
        self.results[index] = result
        if len(self.results) == len(self.items) and not self.future.done():
            self.future.set_result([self.results[i] for i in range(len(self.items))])

    def fail(self, error: Exception) -> None:
        """There will be none."""
        if not self.future.done():
            self.future.set_exception(error)


Taken = list[tuple[Job[I, O], int]]
"""Items, each by its job and its place in it."""


class Turns(Generic[I, O]):
    """Where jobs wait. Tenants that wait share what a batch has room for; within one, first come is first."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Job[I, O]]] = {}

    def __iter__(self) -> Iterator[Job[I, O]]:
        return (job for jobs in self._waiting.values() for job in jobs)

    def add(self, job: Job[I, O]) -> None:
        """It is the last of its tenant's."""
        self._waiting.setdefault(job.tenant, deque()).append(job)

    def remove(self, job: Job[I, O]) -> None:
        """Nobody waits for it any more."""
        if job in (jobs := self._waiting.get(job.tenant, deque())):
            jobs.remove(job)
            if not jobs:
                del self._waiting[job.tenant]

    def take(self, budget: int, batch: Taken[I, O], weight: int) -> int:
        """Add to the ``batch`` of that ``weight`` what is next; the new weight, at most ``budget`` but for one item.

        Round after round each tenant may add what is left of the budget by their number, the one first that has waited
        longest for its turn.
        """
        moved = True
        while moved:
            moved = False
            share = max(1, (budget - weight) // max(1, len(self._waiting)))
            for tenant in list(self._waiting):
                got = 0
                while got < share and (job := self._first(tenant)) is not None:
                    heavy = job.weights[job.taken]
                    if batch and weight + heavy > budget:
                        break
                    weight, got, moved = weight + heavy, got + max(1, heavy), True
                    batch.append((job, job.taken))
                    job.taken += 1
                if got and tenant in self._waiting:
                    self._waiting[tenant] = self._waiting.pop(tenant)
        return weight

    def before(self, tenant: str, weight: int) -> int:
        """What will be taken before a new job of the tenant's is done: its own, and as much of each of the others."""
        left = {name: sum(job.left for job in jobs) for name, jobs in self._waiting.items()}
        own = left.pop(tenant, 0)
        return own + sum(min(others, own + weight) for others in left.values())

    def _first(self, tenant: str) -> Job[I, O] | None:
        jobs = self._waiting.get(tenant, deque())
        while jobs and jobs[0].over:
            jobs.popleft()
        if not jobs:
            self._waiting.pop(tenant, None)
            return None
        return jobs[0]
