"""The overlap: order, queues of one, failures, stopping."""

import threading
import time
from collections.abc import Callable

import pytest

from penstock.core.errors import Stopped, Unavailable
from penstock.stream.pipeline import Pipeline, Stage, StageFailed, StageTimer
from penstock.stream.retry import Retry, backoff
from tests.conftest import wait_until

SECONDS = 10.0


def pipeline(*runs: Callable[[int], int], stop: threading.Event | None = None) -> Pipeline[int]:
    stages = [Stage(f"stage{i}", run) for i, run in enumerate(runs)]
    return Pipeline(stages, stop or threading.Event())


def drain(pipe: Pipeline[int], batches: list[int]) -> list[int]:
    done: list[int] = []
    waiting = list(batches)
    deadline = time.monotonic() + SECONDS
    while waiting or not pipe.idle:
        assert time.monotonic() < deadline
        if waiting and pipe.offer(waiting[0]):
            waiting.pop(0)
        done += pipe.finished(0.01)
    return done


def test_time_is_counted_while_it_is_spent() -> None:
    now = [0.0]
    spent = StageTimer(["read", "write"], clock=lambda: now[0])
    spent.begin("write")
    now[0] = 3.0
    assert dict(spent) == {"read": 0.0, "write": 3.0}
    spent.end("write")
    now[0] = 9.0
    assert spent["write"] == 3.0
    spent.begin("write")
    now[0] = 10.0
    assert spent["write"] == 4.0


def test_a_stage_that_hangs_is_busy_and_who_waits_for_it_waits() -> None:
    release = threading.Event()

    def hang(n: int) -> int:
        release.wait(SECONDS)
        return n

    pipe = pipeline(hang)
    assert pipe.offer(1)
    wait_until(lambda: pipe.offer(2))
    wait_until(lambda: pipe.busy_s["stage0"] > 0 and pipe.waited_s["stage0"] > 0)
    release.set()
    pipe.close(1)


def test_batches_leave_in_the_order_in_which_they_came() -> None:
    def slow(n: int) -> int:
        time.sleep(0.001 * (n % 3))
        return n

    uneven = pipeline(slow, lambda n: n * 10)
    assert drain(uneven, list(range(30))) == [n * 10 for n in range(30)]
    assert uneven.close(1)


def test_stages_work_at_the_same_time_and_no_more_waits_than_one_batch_each() -> None:
    """With the last stage stuck: one batch in each stage, one in each queue, and the next is refused."""
    gate = threading.Event()
    reached = [threading.Event() for _ in range(3)]

    def stage(i: int) -> Callable[[int], int]:
        def run(n: int) -> int:
            reached[i].set()
            if i == 2:
                gate.wait(SECONDS)
            return n

        return run

    pipe = pipeline(*(stage(i) for i in range(3)))
    accepted = 0
    refused_at = time.monotonic() + 0.5
    while time.monotonic() < refused_at:
        if pipe.offer(accepted):
            accepted += 1
            refused_at = time.monotonic() + 0.5
    assert accepted == 6
    assert all(event.is_set() for event in reached)
    gate.set()
    assert drain(pipe, []) == list(range(6))
    pipe.close(1)


def test_a_bug_in_any_stage_reaches_the_owner_at_once() -> None:
    def bug(n: int) -> int:
        raise ZeroDivisionError(f"batch {n}")

    for place in range(3):
        runs: list[Callable[[int], int]] = [lambda n: n] * 3
        runs[place] = bug
        pipe = pipeline(*runs)
        assert pipe.offer(1)
        started = time.monotonic()
        with pytest.raises(StageFailed, match=f"stage{place} failed: ZeroDivisionError: batch 1") as caught:
            pipe.finished(SECONDS)
        assert time.monotonic() - started < 1.0
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        with pytest.raises(StageFailed):
            pipe.offer(2)
        with pytest.raises(StageFailed):
            pipe.wait_for_room(SECONDS)
        assert pipe.close(1)


def test_nothing_waits_on_a_dead_stage() -> None:
    """The first stage wants to hand on to a second that has died: it ends, too."""

    first_is_busy, second_died = threading.Event(), threading.Event()

    def first(n: int) -> int:
        if n == 1:
            first_is_busy.set()
            assert second_died.wait(SECONDS)
        return n

    def second(n: int) -> int:
        assert first_is_busy.wait(SECONDS)
        raise ValueError(n)

    pipe = pipeline(first, second)
    assert pipe.offer(0)
    pipe.wait_for_room(SECONDS)
    assert pipe.offer(1)
    with pytest.raises(StageFailed):
        pipe.finished(SECONDS)
    second_died.set()
    assert pipe.close(1)


def test_close_ends_a_stage_that_waits_for_a_service() -> None:
    stop = threading.Event()
    waiting = threading.Event()
    retry = Retry(lambda _: 60.0, lambda *_: waiting.set(), stop)

    def away() -> int:
        raise Unavailable("away")

    pipe = pipeline(lambda _: retry.call(away), stop=stop)
    pipe.offer(1)
    assert waiting.wait(SECONDS)
    assert pipe.close(1)
    assert pipe.finished() == []


def test_a_call_is_repeated_until_the_service_is_back_and_tells_of_every_failure() -> None:
    told: list[tuple[int, float]] = []
    failures_left = [2]

    def call() -> int:
        if failures_left[0]:
            failures_left[0] -= 1
            raise Unavailable("away")
        return 7

    retry = Retry(lambda failures: failures / 1000, lambda _, failures, pause: told.append((failures, pause)))
    assert retry.call(call) == 7
    assert told == [(1, 0.001), (2, 0.002)]
    retry.stop.set()
    failures_left[0] = 1
    with pytest.raises(Stopped):
        retry.call(call)


def test_pauses_double_up_to_a_limit_and_are_spread() -> None:
    assert [backoff(n, 1.0) for n in (1, 2, 3)] == [0.1, 0.2, 0.4]
    assert backoff(1000, 1.0) == 10.0
    assert backoff(3, 0.0) == 0.2
