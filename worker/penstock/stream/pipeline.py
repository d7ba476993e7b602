"""The overlap: stages in threads of their own, joined by queues of one, first in, first out.

While the model works on one batch, the next is prepared and the one before is written; one more waits before each,
and no more than that is ever in memory. Nothing waits on a stage that has died: its failure reaches whoever touches
the pipeline next.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from penstock.core.errors import Stopped
from penstock.core.work import Interval

T = TypeVar("T")

STAGE = "stage-"
"""How the names of the stages' threads begin."""


@dataclass(frozen=True, slots=True)
class Stage(Generic[T]):
    """One step of the path; ``run`` is called by one thread only, batch after batch."""

    name: str
    run: Callable[[T], T]


class StageTimer(Mapping[str, float]):
    """Seconds by stage, what is under way included: a stage that hangs is seen to be busy while it hangs."""

    def __init__(
        self,
        stages: Sequence[str],
        clock: Callable[[], float] = time.perf_counter,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """``clock`` in seconds, which only go on; ``now_ns`` says where they lie, in nanoseconds since 1970."""
        self._clock, self._now_ns, self._lock = clock, now_ns, threading.Lock()
        self._ended = dict.fromkeys(stages, 0.0)
        self._began: dict[str, tuple[float, int]] = {}
        self._signs: dict[str, float] = {}

    def begin(self, stage: str) -> None:
        """Counts from now on."""
        with self._lock:
            self._began[stage] = self._clock(), self._now_ns()

    def sign(self, stage: str) -> None:
        """A sign of life of a stage that is under way: a call of a service has ended, or a part of its work."""
        with self._lock:
            self._signs[stage] = self._clock()

    def silent(self) -> tuple[str, float]:
        """The stage that has been under way for longest without a sign, and for how many seconds."""
        with self._lock:
            now = self._clock()
            since = {stage: max(began, self._signs.get(stage, began)) for stage, (began, _) in self._began.items()}
        return max(((stage, now - at) for stage, at in since.items()), key=lambda one: one[1], default=("", 0.0))

    def end(self, stage: str) -> Interval:
        """Counts no longer; when it did."""
        with self._lock:
            began, began_ns = self._began.pop(stage)
            seconds = self._clock() - began
            self._ended[stage] += seconds
            return Interval(began_ns, began_ns + int(seconds * 1e9))

    def __getitem__(self, stage: str) -> float:
        with self._lock:
            return self._ended[stage] + (self._clock() - self._began[stage][0] if stage in self._began else 0.0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ended)

    def __len__(self) -> int:
        return len(self._ended)


class StageFailed(Exception):
    """A bug in a stage: the process must end, and the offsets of what is in the pipe have not moved."""


class Pipeline(Generic[T]):
    """Runs batches through the stages. All methods are for the one thread that owns the pipeline.

    ``busy_s`` are the seconds that each stage has worked, ``waited_s`` those that batches have waited for it.
    """

    def __init__(
        self,
        stages: Sequence[Stage[T]],
        stop: threading.Event,
        timed: Callable[[T, str, Interval], None] = lambda _batch, _stage, _interval: None,
    ) -> None:
        """Start a thread per stage. ``stop`` makes a stage that waits for a service raise Stopped.

        ``timed`` hears when a stage had a batch, as soon as it has left it.
        """
        self._timed = timed
        self._stages = tuple(stages)
        self._stop = stop
        self._changed = threading.Condition()
        self._queues: list[T | None] = [None] * len(self._stages)
        self._finished: list[T] = []
        self._in_flight = 0
        self._failure: tuple[str, BaseException] | None = None
        self.busy_s, self.waited_s = (StageTimer([stage.name for stage in stages]) for _ in range(2))
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"{STAGE}{stage.name}", daemon=True)
            for i, stage in enumerate(self._stages)
        ]
        for thread in self._threads:
            thread.start()

    def offer(self, batch: T) -> bool:
        """Put a batch in if the first queue has room, and say whether it had. Raises StageFailed."""
        with self._changed:
            self._check()
            if self._queues[0] is not None:
                return False
            self._put(0, batch)
            self._in_flight += 1
            self._changed.notify_all()
            return True

    def finished(self, timeout_s: float = 0.0) -> list[T]:
        """The batches that left the last stage since the last call, in order. Raises StageFailed.

        With a timeout, waits for one to leave, for room in the first queue, or for nothing more to be in flight.
        """
        with self._changed:
            if timeout_s > 0:
                self._changed.wait_for(lambda: self._failure or self._finished or not self._in_flight, timeout_s)
            self._check()
            done, self._finished = self._finished, []
            return done

    def left(self) -> list[T]:
        """As ``finished``, when a stage has failed."""
        with self._changed:
            done, self._finished = self._finished, []
            return done

    def wait_for_room(self, timeout_s: float) -> None:
        """Wait until a batch can be offered or one has finished, at most so long. Raises StageFailed."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._finished or self._queues[0] is None, timeout_s)
            self._check()

    def sign(self) -> None:
        """Called by a stage's own thread, when a call of a service has ended, well or not."""
        stage = threading.current_thread().name.removeprefix(STAGE)
        if stage in self.busy_s:
            self.busy_s.sign(stage)

    @property
    def idle(self) -> bool:
        """Whether every batch that was offered has been handed out by ``finished``."""
        with self._changed:
            return self._in_flight == 0 and not self._finished

    def close(self, timeout_s: float) -> bool:
        """End the threads; whether they ended in time. What is still in the pipe is dropped."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _check(self) -> None:
        if self._failure is not None:
            name, error = self._failure
            raise StageFailed(f"stage {name} failed: {type(error).__name__}: {error}") from error

    def _work(self, i: int) -> None:
        """A stage's thread: take, run, hand on, until told to stop or something breaks."""
        stage = self._stages[i]
        try:
            while (batch := self._take(i)) is not None:
                self.busy_s.begin(stage.name)
                try:
                    result = stage.run(batch)
                finally:
                    interval = self.busy_s.end(stage.name)
                self._timed(result, stage.name, interval)
                self._hand_on(i, result)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001  # whatever it is must end the process, not one thread
            with self._changed:
                self._failure = self._failure or (stage.name, error)
                self._changed.notify_all()

    def _put(self, i: int, batch: T) -> None:
        self._queues[i] = batch
        self.waited_s.begin(self._stages[i].name)

    def _take(self, i: int) -> T | None:
        """Take the batch waiting for stage ``i``; None when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queues[i] is not None or self._ending)
            if self._ending:
                return None
            batch, self._queues[i] = self._queues[i], None
            self.waited_s.end(self._stages[i].name)
            self._changed.notify_all()
            return batch

    def _hand_on(self, i: int, batch: T) -> None:
        with self._changed:
            if i + 1 == len(self._stages):
                self._finished.append(batch)
                self._in_flight -= 1
            else:
                self._changed.wait_for(lambda: self._queues[i + 1] is None or self._ending)
                if self._ending:
                    return
                self._put(i + 1, batch)
            self._changed.notify_all()

    @property
    def _ending(self) -> bool:
        return self._stop.is_set() or self._failure is not None
