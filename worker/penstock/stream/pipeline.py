"""The overlap: stages in threads of their own, joined by queues of one, first in, first out.

While the model works on one batch, the next is prepared and the one before is written, and no more than that is
ever in memory. Nothing waits on a stage that has died: its failure reaches whoever touches the pipeline next.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from penstock.stream.patience import Stopped

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stage(Generic[T]):
    """One step of the path; ``run`` is called by one thread only, batch after batch."""

    name: str
    run: Callable[[T], T]


class Spent(Mapping[str, float]):
    """Seconds by name, what is under way included: a stage that hangs is seen to be busy while it hangs."""

    def __init__(self, names: Sequence[str], clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._ended = dict.fromkeys(names, 0.0)
        self._since: dict[str, float] = {}

    def begin(self, name: str) -> None:
        """Counts from now on."""
        with self._lock:
            self._since[name] = self._clock()

    def end(self, name: str) -> None:
        """Counts no longer."""
        with self._lock:
            self._ended[name] += self._clock() - self._since.pop(name)

    def __getitem__(self, name: str) -> float:
        with self._lock:
            return self._ended[name] + (self._clock() - self._since[name] if name in self._since else 0.0)

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

    def __init__(self, stages: Sequence[Stage[T]], stop: threading.Event) -> None:
        """Start a thread per stage. ``stop`` makes a stage that waits for a service raise Stopped."""
        self._stages = tuple(stages)
        self._stop = stop
        self._changed = threading.Condition()
        self._queues: list[T | None] = [None] * len(self._stages)
        self._finished: list[T] = []
        self._in_flight = 0
        self._failure: tuple[str, BaseException] | None = None
        self.busy_s, self.waited_s = (Spent([stage.name for stage in stages]) for _ in range(2))
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"stage-{stage.name}", daemon=True)
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

    def wait_for_room(self, timeout_s: float) -> None:
        """Wait until a batch can be offered or one has finished, at most so long. Raises StageFailed."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._finished or self._queues[0] is None, timeout_s)
            self._check()

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
                    self.busy_s.end(stage.name)
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
