"""Batches without a timer: what comes while one is at work makes up the next."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InvalidEvent, Overdue, Unavailable
from penstock.query.microbatch import HALF_LIFE_S, MicroBatcher


class Doubler:
    """Doubles numbers; waits at a gate, and remembers its batches."""

    def __init__(self, *, shut: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        if not shut:
            self.gate.set()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        self.begun.release()
        assert self.gate.wait(10)
        if 13 in numbers:
            raise InvalidEvent("13 brings bad luck")
        if 500 in numbers:
            raise Unavailable("away")
        return [2 * number for number in numbers]

    async def under_way(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=10)


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(work(), 20))


def test_a_call_that_finds_nothing_under_way_starts_at_once() -> None:
    doubler = Doubler()
    assert run(lambda: MicroBatcher(doubler, 10).submit([1])) == [2]
    assert doubler.batches == [[1]]


def test_calls_that_begin_together_share_a_batch() -> None:
    doubler = Doubler()

    async def work() -> list[list[int]]:
        batcher: MicroBatcher[int, int] = MicroBatcher(doubler, 100)
        return await asyncio.gather(*(batcher.submit([n, n + 1]) for n in range(3)))

    assert run(work) == [[0, 2], [2, 4], [4, 6]]
    assert doubler.batches == [[0, 1, 1, 2, 2, 3]]


def test_what_comes_while_a_batch_is_at_work_makes_up_the_next() -> None:
    doubler = Doubler(shut=True)

    async def work() -> None:
        batcher: MicroBatcher[int, int] = MicroBatcher(doubler, 100)
        first = asyncio.ensure_future(batcher.submit([1]))
        await doubler.under_way()
        others = [asyncio.ensure_future(batcher.submit([n])) for n in range(2, 6)]
        await asyncio.sleep(0)
        doubler.gate.set()
        assert await asyncio.gather(first, *others) == [[2], [4], [6], [8], [10]]
        assert (batcher.batches, batcher.items) == (2, 5)

    run(work)
    assert doubler.batches == [[1], [2, 3, 4, 5]]


@given(st.lists(st.lists(st.integers(1, 9), max_size=6), max_size=8), st.integers(1, 20))
def test_every_job_gets_its_results_in_order_and_no_batch_is_too_heavy(jobs: list[list[int]], budget: int) -> None:
    doubler = Doubler()
    fine = [[n for n in job if n != 13] for job in jobs]

    async def work() -> Any:
        batcher: MicroBatcher[int, int] = MicroBatcher(doubler, budget, weigh=lambda number: number)
        return await asyncio.gather(*(batcher.submit(job) for job in fine))

    assert run(work) == [[2 * n for n in job] for job in fine]
    assert all(sum(batch) <= budget or len(batch) == 1 for batch in doubler.batches)
    assert [n for batch in doubler.batches for n in batch] == [n for job in fine for n in job]


def test_a_job_that_is_cancelled_is_not_run_any_further() -> None:
    doubler = Doubler(shut=True)

    async def work() -> None:
        batcher: MicroBatcher[int, int] = MicroBatcher(doubler, 2)
        long = asyncio.ensure_future(batcher.submit(list(range(20, 30))))
        await doubler.under_way()
        other = asyncio.ensure_future(batcher.submit([1]))
        await asyncio.sleep(0)
        long.cancel()
        await asyncio.sleep(0)
        doubler.gate.set()
        assert await other == [2]

    run(work)
    assert doubler.batches == [[20, 21], [1]]


def test_what_fails_fails_alone() -> None:
    doubler = Doubler()

    async def work() -> Any:
        batcher: MicroBatcher[int, int] = MicroBatcher(doubler, 100)
        return await asyncio.gather(*(batcher.submit(job) for job in ([1], [13], [2, 3])), return_exceptions=True)

    first, second, third = run(work)
    assert (first, third) == ([2], [4, 6])
    assert isinstance(second, InvalidEvent)


def test_an_outage_is_everybodys_and_the_next_call_tries_again() -> None:
    doubler = Doubler()

    async def work() -> Any:
        batcher: MicroBatcher[int, int] = MicroBatcher(doubler, 100)
        failed = await asyncio.gather(batcher.submit([1]), batcher.submit([500]), return_exceptions=True)
        return failed, await batcher.submit([7])

    failed, after = run(work)
    assert [type(error) for error in failed] == [Unavailable, Unavailable]
    assert after == [14]
    assert doubler.batches == [[1, 500], [7]]


def test_the_time_of_a_job_is_foreseen_from_those_before_and_what_was_measured_fades() -> None:
    """Otherwise one stall would keep all work away, and nothing would ever be measured again."""
    now = [0.0]

    def call(numbers: Sequence[int]) -> list[int]:
        now[0] += 6
        return list(numbers)

    batcher: MicroBatcher[int, int] = MicroBatcher(call, 5, lambda number: number, clock=lambda: now[0])

    async def work() -> None:
        assert batcher.expected_s(50) == 0
        await batcher.submit([1, 2])
        assert batcher.expected_s(50) == pytest.approx(100)
        now[0] += HALF_LIFE_S
        assert batcher.expected_s(50) == pytest.approx(50)

    run(work)


def test_small_batches_say_little_of_large_jobs() -> None:
    """What a call costs at least is not to be multiplied by the weight of a job."""
    now = [0.0]

    def call(numbers: Sequence[int]) -> list[int]:
        now[0] += 0.02 + 20e-6 * sum(numbers)
        return list(numbers)

    batcher: MicroBatcher[int, int] = MicroBatcher(call, 256, lambda number: number, clock=lambda: now[0])

    async def work() -> None:
        for _ in range(20):
            await batcher.submit([8])
        assert 0.5 < batcher.alone_s(25_600) < 5
        await batcher.submit([128] * 64)
        began = now[0]
        await batcher.submit([128] * 200)
        assert batcher.alone_s(25_600) == pytest.approx(now[0] - began, rel=0.2)

    run(work)


def test_jobs_for_later_get_what_room_others_leave() -> None:
    doubler = Doubler(shut=True)

    async def work() -> None:
        batcher: MicroBatcher[int, int] = MicroBatcher(doubler, 6, later_budget=4)
        bulk = asyncio.ensure_future(batcher.submit(list(range(20, 30)), later=True))
        await doubler.under_way()
        first = asyncio.ensure_future(batcher.submit([1, 2, 3]))
        await asyncio.sleep(0)
        doubler.gate.set()
        assert await first == [2, 4, 6]
        assert await bulk == [2 * n for n in range(20, 30)]

    run(work)
    assert doubler.batches == [[20, 21, 22, 23], [1, 2, 3, 24], [25, 26, 27, 28], [29]]


def test_what_takes_the_service_too_long_fails_alone_and_two_of_it_are_an_outage() -> None:
    calls: list[list[int]] = []

    def call(numbers: Sequence[int]) -> list[int]:
        calls.append(list(numbers))
        if any(n < 0 for n in numbers):
            raise Overdue("too long")
        return [2 * n for n in numbers]

    async def work(*given: int) -> Any:
        batcher: MicroBatcher[int, int] = MicroBatcher(call, 100)
        return await asyncio.gather(*(batcher.submit([n]) for n in given), return_exceptions=True)

    first, slow, third = run(partial(work, 1, -1, 3))
    assert (first, type(slow), third) == ([2], Overdue, [6])
    calls.clear()
    assert {type(one) for one in run(partial(work, -1, -2, 3, 4))} == {Overdue}
    assert calls == [[-1, -2, 3, 4], [-1], [-2]]


def test_in_an_outage_nobody_is_tried_alone_for_long_and_who_has_gone_not_at_all() -> None:
    calls: list[list[int]] = []

    def call(numbers: Sequence[int]) -> list[int]:
        calls.append(list(numbers))
        raise InvalidEvent("the first time") if len(calls) == 1 else Unavailable("then it is away")

    async def work() -> Any:
        batcher: MicroBatcher[int, int] = MicroBatcher(call, 100)
        return await asyncio.gather(*(batcher.submit([n]) for n in range(5)), return_exceptions=True)

    assert {type(error) for error in run(work)} == {Unavailable}
    assert calls == [[0, 1, 2, 3, 4], [0, 1]]


def test_one_that_is_refused_among_many_is_found_in_few_calls() -> None:
    doubler = Doubler()

    async def work() -> Any:
        batcher: MicroBatcher[int, int] = MicroBatcher(doubler, 1000)
        numbers = [*range(100, 190), 13, *range(200, 360)]
        return await asyncio.gather(*(batcher.submit([n]) for n in numbers), return_exceptions=True)

    results = run(work)
    assert [type(result) for result in results].count(InvalidEvent) == 1
    assert sum(isinstance(result, list) for result in results) == 250
    assert len(doubler.batches) <= 1 + 2 * 8


def test_several_batches_may_be_under_way_and_one_that_is_slow_keeps_nobody() -> None:
    doubler = Doubler(shut=True)

    def call(numbers: Sequence[int]) -> list[int]:
        return doubler(numbers) if 1 in numbers else [2 * n for n in numbers]

    async def work() -> None:
        batcher: MicroBatcher[int, int] = MicroBatcher(call, 100, in_flight=2)
        slow = asyncio.ensure_future(batcher.submit([1]))
        await doubler.under_way()
        assert await batcher.submit([2]) == [4]
        assert not slow.done()
        doubler.gate.set()
        assert await slow == [2]

    run(work)


def test_tenants_take_turns_and_what_is_foreseen_knows_it() -> None:
    doubler = Doubler(shut=True)

    async def work() -> None:
        batcher: MicroBatcher[int, int] = MicroBatcher(doubler, 4)
        head = asyncio.ensure_future(batcher.submit([0]))
        await doubler.under_way()
        greedy = [asyncio.ensure_future(batcher.submit([n, n, n], tenant="greedy")) for n in range(20, 29)]
        modest = asyncio.ensure_future(batcher.submit([1, 2], tenant="modest"))
        await asyncio.sleep(0)
        batcher._full.add(1.0, time.perf_counter())
        assert batcher.expected_s(2, tenant="greedy") == 1 + 27 + 2 + 2
        assert batcher.expected_s(2, tenant="third") == 1 + 2 + 2 + 2
        doubler.gate.set()
        await asyncio.gather(head, modest, *greedy)

    run(work)
    assert doubler.batches[1] == [20, 20, 1, 2]
    assert doubler.batches[2] == [20, 21, 21, 21]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 9), min_size=1, max_size=6)), max_size=12),
    st.integers(1, 20),
)
def test_every_tenants_jobs_are_taken_in_their_order_and_nothing_is_left(
    jobs: list[tuple[str, list[int]]], budget: int
) -> None:
    doubler = Doubler()

    async def work() -> Any:
        batcher: MicroBatcher[int, int] = MicroBatcher(doubler, budget, weigh=lambda number: number)
        return await asyncio.gather(*(batcher.submit(job, tenant=tenant) for tenant, job in jobs))

    assert run(work) == [[2 * n for n in job] for _, job in jobs]
    assert all(sum(batch) <= budget or len(batch) == 1 for batch in doubler.batches)


def test_too_few_results_are_a_bug_that_everyone_hears_of_and_the_next_call_works() -> None:
    def call(numbers: Sequence[int]) -> list[int]:
        return [] if 0 in numbers else list(numbers)

    async def work() -> Any:
        batcher: MicroBatcher[int, int] = MicroBatcher(call, 100)
        with pytest.raises(ValueError, match="0 results of 1 items"):
            await batcher.submit([0])
        return await batcher.submit([1])

    assert run(work) == [1]


def test_a_job_that_is_cancelled_while_it_waits_is_forgotten_at_once() -> None:
    doubler = Doubler(shut=True)

    async def work() -> None:
        batcher: MicroBatcher[int, int] = MicroBatcher(doubler, 1)
        head = asyncio.ensure_future(batcher.submit([1, 2]))
        await doubler.under_way()
        for _ in range(10):
            one = asyncio.ensure_future(batcher.submit([3]))
            await asyncio.sleep(0)
            one.cancel()
            await asyncio.gather(one, return_exceptions=True)
        assert len([job for queue in batcher._queues for job in queue]) == 1
        doubler.gate.set()
        assert await head == [2, 4]

    run(work)
