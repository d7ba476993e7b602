"""Single calls made in batches, without a timer: what comes while one batch is at work makes up the next.

So a call that finds nothing under way starts at once, and batches grow with the load.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from penstock.core.errors import Overdue, Unavailable

I = TypeVar("I")  # noqa: E741  # an item
O = TypeVar("O")  # noqa: E741  # its outcome

SMOOTHING = 0.3
"""How much the latest batch counts in the measured seconds per unit of weight."""

HALF_LIFE_S = 5.0
"""A measurement that no batch renews counts half as much: one stall must not keep work away for ever."""


@dataclass(slots=True, eq=False)
class _Job(Generic[I, O]):
    """Items that were submitted together; ``taken`` of them are in a batch or done."""

    items: Sequence[I]
    weights: Sequence[int]
    future: asyncio.Future[list[O]]
    results: dict[int, O] = field(default_factory=dict)
    taken: int = 0

    @property
    def over(self) -> bool:
        """Whether nothing of it is left to take: all is taken, or nobody waits any more."""
        return self.future.done() or self.taken == len(self.items)

    def finish(self, index: int, result: O) -> None:
        self.results[index] = result
        if len(self.results) == len(self.items) and not self.future.done():
            self.future.set_result([self.results[i] for i in range(len(self.items))])

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class MicroBatcher(Generic[I, O]):
    """Runs ``call`` in a thread of its own, one batch at a time, first come, first served.

    For one event loop. A job that is cancelled is not run any further; what fails, fails alone.
    """

    def __init__(
        self,
        call: Callable[[Sequence[I]], Sequence[O]],
        budget: int,
        weigh: Callable[[I], int] = lambda _: 1,
        later_budget: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """A batch weighs at most ``budget``, unless a single item weighs more; with jobs for later ``later_budget``."""
        self._call = call
        self._budgets = (budget, later_budget or budget)
        self._weigh = weigh
        self._clock = clock
        self._queues: tuple[deque[_Job[I, O]], deque[_Job[I, O]]] = (deque(), deque())
        self._thread = ThreadPoolExecutor(1)
        self._task: asyncio.Task[None] | None = None
        self._under_way = 0
        self._seconds_per_weight = self._measured_at = 0.0
        self.batches = self.items = 0

    async def submit(self, items: Sequence[I], *, later: bool = False) -> list[O]:
        """The results, in order; raises what the call raises. With ``later``, only what others leave room for."""
        if not items:
            return []
        loop = asyncio.get_running_loop()
        job: _Job[I, O] = _Job(items, [self._weigh(item) for item in items], loop.create_future())
        self._queues[later].append(job)
        if self._task is None:
            self._task = loop.create_task(self._run())  # begins after whoever else submits in this turn of the loop
        try:
            return await job.future
        except asyncio.CancelledError:
            if job in self._queues[later]:
                self._queues[later].remove(job)
            raise

    def expected_s(self, weight: int) -> float:
        """How long a job of that weight would take from now on, as far as batches have been measured."""
        ahead = sum(sum(job.weights[job.taken :]) for job in self._queues[0] if not job.future.done())
        age = 0.0 if self._under_way else max(0.0, self._clock() - self._measured_at)
        faded: float = 0.5 ** (age / HALF_LIFE_S)
        return (self._under_way + ahead + weight) * self._seconds_per_weight * faded

    def close(self) -> None:
        """Let the thread end, once what is under way is done."""
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        try:
            while batch := self._next():
                await self._work(batch)
        finally:
            self._task = None
            for job in (*self._queues[0], *self._queues[1]):  # only when the loop is ending
                job.future.cancel()

    def _next(self) -> list[tuple[_Job[I, O], int]]:
        """The next batch: items of the jobs at the front, then of those for later."""
        batch: list[tuple[_Job[I, O], int]] = []
        weight = 0
        for queue, budget in zip(self._queues, self._budgets, strict=True):
            while queue:
                job = queue[0]
                if job.over:
                    queue.popleft()
                    continue
                if batch and weight + job.weights[job.taken] > budget:
                    break
                weight += job.weights[job.taken]
                batch.append((job, job.taken))
                job.taken += 1
        self._under_way = weight
        return batch

    async def _work(self, batch: Sequence[tuple[_Job[I, O], int]]) -> None:
        started = self._clock()
        try:
            await self._deliver(batch)
        except Exception as error:  # noqa: BLE001  # it belongs to whoever awaits the job
            await self._blame(batch, error)
        else:
            self.batches += 1
            self.items += len(batch)
            self._measured_at = self._clock()
            pace = (self._measured_at - started) / max(1, self._under_way)
            known = self._seconds_per_weight or pace
            self._seconds_per_weight = known + SMOOTHING * (pace - known)
        finally:
            self._under_way = 0

    async def _blame(self, batch: Sequence[tuple[_Job[I, O], int]], error: Exception) -> None:
        """Find out whose fault it was: each job's items once more, alone. An outage is nobody's, and everybody's.

        What is overdue may be one job's fault: only when a second one is, too, it is an outage.
        """
        by_job: dict[_Job[I, O], list[tuple[_Job[I, O], int]]] = {}
        for job, i in batch:
            by_job.setdefault(job, []).append((job, i))
        alone, overdue = len(by_job) == 1, 0
        for job, items in by_job.items():
            if alone or _outage(error) or overdue > 1:
                job.fail(error)
            elif not job.future.done():
                try:
                    await self._deliver(items)
                except Unavailable as outage:
                    overdue += isinstance(outage, Overdue)
                    error = outage if _outage(outage) or overdue > 1 else error
                    job.fail(outage)
                except Exception as its_own:  # noqa: BLE001  # as above
                    job.fail(its_own)

    async def _deliver(self, batch: Sequence[tuple[_Job[I, O], int]]) -> None:
        items = [job.items[i] for job, i in batch]
        results = await asyncio.get_running_loop().run_in_executor(self._thread, self._call, items)
        if len(results) != len(items):
            raise ValueError(f"{len(results)} results of {len(items)} items. This is a bug.")
        for (job, i), result in zip(batch, results, strict=True):
            job.finish(i, result)


def _outage(error: Exception) -> bool:
    return isinstance(error, Unavailable) and not isinstance(error, Overdue)
