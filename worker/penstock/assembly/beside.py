"""Two streams into one collection, in one process: the live one in front, a backfill behind.

Each has a loop, a pipeline and a group of its own, so that neither waits in the other's queue. What they share is had
by turns, see ``stream/precedence.py``: the model, where the backfill asks for short passes, and the stages.
"""

import math
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from rich.progress import Progress

from penstock.assembly.stream import Retries
from penstock.core.around import around_calls
from penstock.core.errors import Misconfigured
from penstock.core.ports import Embedder, VectorStore
from penstock.index.in_flight import InFlight
from penstock.models.forward import Turn
from penstock.stream.pipeline import Stage
from penstock.stream.precedence import Precedence

T = TypeVar("T")

PASS_S = 0.05
"""What the backfill has the model for at a time, about: so long a live document may wait for it."""

LOW, LOWEST = 10, 19
"""How much nicer than the process threads are that compute for the backfill on processors: a tenth of the weight."""

BATCH_S = 0.5
"""Seconds of work in one of its batches: what Kafka, Qdrant and the processors have of it at a time."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What both streams need. ``model`` has as many places as it has passes at once.

    A document that one of them has in its pipe the other plans without reuse.
    """

    model: Precedence = field(default_factory=lambda: Precedence(1))
    stages: dict[str, Precedence] = field(default_factory=lambda: {"prepare": Precedence(), "write": Precedence()})
    in_flight: InFlight = field(default_factory=InFlight)

    def waited_s(self) -> dict[str, float]:
        """Seconds that the backfill has waited for live documents, by stage."""
        return {name: one.waited_s for name, one in {**self.stages, "embed": self.model}.items()}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two. ``model`` makes an embedder that takes turns at its passes, each of about so many seconds.

    ``lines`` is the live line that both are shown in, if somebody watches.
    """

    shared: Shared
    model: Callable[[Turn, float], Embedder] | None = None
    behind: bool = False
    lines: Progress | None = None

    @property
    def name(self) -> str:
        """What logs and the live line call it, beside the one in front."""
        return "backfill" if self.behind else ""

    @property
    def batch_s(self) -> float:
        """How many seconds of work are in a batch at most."""
        return BATCH_S if self.behind else math.inf

    def turn(self, of: Precedence, retries: Retries) -> AbstractContextManager[None]:
        """Its turn at one thing; the side behind gives signs of life while it waits."""
        return of.behind(retries.ended, retries.sign) if self.behind else of.front()

    def stage(self, stage: Stage[T], retries: Retries) -> Stage[T]:
        """The same, by turns."""
        if (of := self.shared.stages.get(stage.name)) is None:
            return stage

        def run(work: T) -> T:
            with self.turn(of, retries):
                return stage.run(work)

        return Stage(stage.name, run)

    def store(self, store: VectorStore, retries: Retries) -> VectorStore:
        """The same, each call by turns: live documents that are written meet at most one call of the backfill."""
        return around_calls(store, partial(self._call, retries)) if self.behind else store

    def _call(self, retries: Retries, _method: str, call: Callable[[], T]) -> T:
        with self.turn(self.shared.stages["write"], retries):
            return call()

    def embedder(self, embedder: Embedder, retries: Retries) -> Embedder:
        """The same, by turns: the side in front as it is, the one behind in short passes."""
        if self.model is None:
            return embedder
        return self.model(partial(self._pass, retries), PASS_S if self.behind else math.inf)

    def _pass(self, retries: Retries) -> AbstractContextManager[None]:
        """Where one in front waits for no place, on processors, their scheduler is told who goes first."""
        if self.behind and not self.shared.model.waits:
            lower_priority()
        return self.turn(self.shared.model, retries)


def lower_priority() -> None:
    """Of this thread, for good: whoever else wants the processor gets it at once. Only Linux has such a thing."""
    if sys.platform == "linux":
        own = os.getpriority(os.PRIO_PROCESS, os.getpid())
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(LOWEST, own + LOW))


def run_both(front: Callable[[], T], behind: Callable[[], object], stop: threading.Event) -> T:
    """Both to their ends; what the one in front returns.

    Where one fails, the other finishes what it has in hand. A Misconfigured behind is no reason to stop the front: it
    is raised at the end.
    """

    def to_its_end() -> None:
        try:
            behind()
        except BaseException as error:
            if not isinstance(error, Misconfigured):
                stop.set()
            raise

    with ThreadPoolExecutor(1, "backfill") as pool:
        other = pool.submit(to_its_end)
        try:
            result = front()
        except BaseException:
            stop.set()
            raise
        other.result()
    return result
