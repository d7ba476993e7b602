"""Single calls made in batches, without a timer: what comes while one batch is at work makes up the next.

So a call that finds nothing under way starts at once, and batches grow with the load.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic

from penstock.core.errors import Overdue, Unavailable
from penstock.query.turns import I, Job, O, Taken, Turns

SMOOTHING = 0.3
"""How much the latest batch counts in what is measured."""

FULL = 0.5
"""Of its budget; what such a batch takes goes by its weight, what a smaller one takes may be the cost of any."""

HALF_LIFE_S = 5.0
"""A measurement that no batch renews counts half as much: one stall must not keep work away for ever."""


@dataclass(slots=True)
class _Measured:
    """A duration, smoothed; 0 before any."""

    seconds: float = 0.0
    at: float = 0.0

    def add(self, seconds: float, now: float) -> None:
        known = self.seconds or seconds
        self.seconds, self.at = known + SMOOTHING * (seconds - known), now

    def now(self, now: float | None) -> float:
        """What it counts by now; None while more is being measured."""
        age = 0.0 if now is None else max(0.0, now - self.at)
        return float(self.seconds * 0.5 ** (age / HALF_LIFE_S))


class MicroBatcher(Generic[I, O]):
    """Runs ``call`` in threads of its own, at most ``in_flight`` batches at a time, the tenants by turns.

    For one event loop. A job that is cancelled is not run any further; what fails, fails alone.
    """

    def __init__(
        self,
        call: Callable[[Sequence[I]], Sequence[O]],
        budget: int,
        weigh: Callable[[I], int] = lambda _: 1,
        later_budget: int | None = None,
        *,
        in_flight: int = 1,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """A batch weighs at most ``budget``, unless a single item weighs more; with jobs for later ``later_budget``.

        One batch at a time is right for a model, which a second one would only slow down; several for a service.
        """
        self._call = call
        self._budgets = (budget, later_budget or budget)
        self._weigh = weigh
        self._clock = clock
        self._queues: tuple[Turns[I, O], Turns[I, O]] = (Turns(), Turns())
        self._threads = ThreadPoolExecutor(in_flight)
        self._in_flight = in_flight
        self._running: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._woken = False
        self._full, self._small = _Measured(), _Measured()
        self.batches = self.items = 0

    async def submit(self, items: Sequence[I], *, tenant: str = "", later: bool = False) -> list[O]:
        """The results, in order; raises what the call raises. With ``later``, only what others leave room for."""
        if not items:
            return []
        loop = asyncio.get_running_loop()
        job: Job[I, O] = Job(items, [self._weigh(item) for item in items], loop.create_future(), tenant)
        self._queues[later].add(job)
        if not self._woken and len(self._running) < self._in_flight:
            self._woken = True
            loop.call_soon(self._start)  # after whoever else submits in this turn of the loop
        try:
            return await job.future
        except asyncio.CancelledError:
            self._queues[later].remove(job)
            raise

    def expected_s(self, weight: int, *, tenant: str = "", later: bool = False) -> float:
        """How long a job of that weight would take from now on, as far as batches have been measured."""
        soon, others = self._queues
        ahead = soon.before(tenant, weight)
        if later:
            ahead = sum(job.left for job in soon) + others.before(tenant, weight)
        return self.alone_s(self._under_way + ahead + weight)

    def alone_s(self, weight: int) -> float:
        """How long it would take if nothing else were to be done.

        By the weight, where full batches have been measured; else as many small batches as it needs at least.
        """
        now = None if self._under_way else self._clock()
        by_weight = weight * self._full.now(now)
        return by_weight or math.ceil(weight / max(self._budgets)) * self._small.now(now)

    def close(self) -> None:
        """Let the threads end, once what is under way is done."""
        self._threads.shutdown(wait=False)

    def _start(self) -> None:
        """As many batches as may be under way."""
        self._woken = False
        while len(self._running) < self._in_flight and (batch := self._next())[0]:
            task = asyncio.get_running_loop().create_task(self._work(*batch))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        if task.cancelled():  # only when the loop is ending
            for queue in self._queues:
                for job in queue:
                    job.future.cancel()
        else:
            self._start()

    def _next(self) -> tuple[Taken[I, O], int]:
        """The next batch and its weight: what waits, then what is for later."""
        batch: Taken[I, O] = []
        weight = 0
        for queue, budget in zip(self._queues, self._budgets, strict=True):
            weight = queue.take(budget, batch, weight)
        return batch, weight

    async def _work(self, batch: Taken[I, O], weight: int) -> None:
        started = self._clock()
        self._under_way += weight
        try:
            await self._deliver(batch)
        except Exception as error:  # noqa: BLE001  # it belongs to whoever awaits the job
            await self._blame(_by_job(batch), error)
        else:
            self.batches += 1
            self.items += len(batch)
            now = self._clock()
            if weight >= FULL * min(self._budgets):
                self._full.add((now - started) / weight, now)
            else:
                self._small.add(now - started, now)
        finally:
            self._under_way -= weight

    async def _blame(self, jobs: Sequence[Taken[I, O]], error: Exception) -> Exception | None:
        """Find out whose fault it was, by halves. An outage is nobody's and everybody's; returns it."""
        if len(jobs) == 1 or _outage(error):
            _fail(jobs, error)
            return error if _outage(error) else None
        if isinstance(error, Overdue):
            return await self._blame_slow(jobs)
        middle = len(jobs) // 2
        outage: Exception | None = None
        for half in (jobs[:middle], jobs[middle:]):
            try:
                if outage is not None:
                    raise outage
                await self._deliver([item for job in half for item in job])
            except Exception as its_own:  # noqa: BLE001  # as above
                outage = await self._blame(half, its_own)
        return outage

    async def _blame_slow(self, jobs: Sequence[Taken[I, O]]) -> Exception | None:
        """What is overdue may be one job's fault: each once more, alone. When a second one is, too, it is an outage."""
        overdue = 0
        for place, job in enumerate(jobs):
            try:
                await self._deliver(job)
            except Exception as its_own:  # noqa: BLE001  # as above
                overdue += isinstance(its_own, Overdue)
                if _outage(its_own) or overdue > 1:
                    _fail(jobs[place:], its_own)
                    return its_own
                _fail([job], its_own)
        return None

    async def _deliver(self, batch: Taken[I, O]) -> None:
        wanted = [(job, i) for job, i in batch if not job.future.done()]
        if not wanted:
            return
        items = [job.items[i] for job, i in wanted]
        results = await asyncio.get_running_loop().run_in_executor(self._threads, self._call, items)
        if len(results) != len(items):
            raise ValueError(f"{len(results)} results of {len(items)} items. This is a bug.")
        for (job, i), result in zip(wanted, results, strict=True):
            job.finish(i, result)


def _by_job(batch: Taken[I, O]) -> list[Taken[I, O]]:
    by_job: dict[Job[I, O], Taken[I, O]] = {}
    for job, i in batch:
        by_job.setdefault(job, []).append((job, i))
    return list(by_job.values())


def _fail(jobs: Sequence[Taken[I, O]], error: Exception) -> None:
    for items in jobs:
        items[0][0].fail(error)


def _outage(error: Exception) -> bool:
    return isinstance(error, Unavailable) and not isinstance(error, Overdue)
