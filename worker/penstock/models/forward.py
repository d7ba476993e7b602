"""Token ids through a graph: in batches by padded tokens, halved where memory does not suffice."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import numpy as np

from penstock.core.errors import Misconfigured, NotFinite
from penstock.core.vectors import Vector
from penstock.models.batches import plan_batches, round_up
from penstock.models.session import Feeds, OutOfMemory

Turn = Callable[[], AbstractContextManager[object]]

FIRST_TOKEN_S, LATEST = 0.0005, 0.2
"""Seconds for a padded token before one was measured, and the weight of the latest pass after that."""

MASKED = ("input_ids", "attention_mask", "token_type_ids")


class GraphRunner(Protocol):
    """A loaded graph. ``run`` raises OutOfMemory, and nothing has happened then."""

    inputs: frozenset[str]
    width: int
    provider: str

    def run(self, feeds: Feeds) -> Vector:
        """The graph's output, ``[batch, width]``."""


class Usage:
    """What a graph has computed so far. Counted by the threads that run it, read by any."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._lock, self._clock = threading.Lock(), clock
        self._passes = self._tokens = self._padded = 0
        self._began: dict[object, float] = {}
        self._busy_s = self._since = 0.0
        self.failed_in_a_row = 0
        """Passes that failed since the last one that did not."""
        self.ended: Callable[[], None] = lambda: None
        """Hears of the end of every pass."""

    @contextmanager
    def counted(self, tokens: int, padded: int) -> Iterator[None]:
        """Around a pass over so many tokens, with and without their padding; one that fails is not counted."""
        this = object()
        with self._lock:
            self._began[this] = self._clock()
            if len(self._began) == 1:
                self._since = self._began[this]
        done = False
        try:
            yield
            done = True
        finally:
            with self._lock:
                del self._began[this]
                if not self._began:
                    self._busy_s += self._clock() - self._since
                self.failed_in_a_row = 0 if done else self.failed_in_a_row + 1
                if done:
                    self._passes += 1
                    self._tokens += tokens
                    self._padded += padded
            self.ended()

    def read(self) -> tuple[int, int, int, float]:
        """Passes, tokens, tokens with padding, and seconds in which at least one pass was under way."""
        with self._lock:
            running_s = self._clock() - self._since if self._began else 0.0
            return self._passes, self._tokens, self._padded, self._busy_s + running_s

    def longest_s(self) -> float:
        """Seconds of the oldest pass that is under way; 0 while none is."""
        with self._lock:
            return self._clock() - min(self._began.values()) if self._began else 0.0


class Forward:
    """Runs texts of any number and length.

    Graphs of ours take lengths, and see nothing after them; others take a mask.
    """

    def __init__(
        self,
        session: GraphRunner,
        token_budget: int,
        multiple: int = 1,
        passes: int = 1,
        usage: Usage | None = None,
        *,
        turn: Turn = nullcontext,
        pass_s: float = math.inf,
    ) -> None:
        """``token_budget`` is in padded tokens per pass; lengths are padded to a ``multiple`` in graphs of ours.

        ``passes`` run at once: on processors, several of few threads waste less than one of many. ``turn`` is around
        each; by the measured speed of the latest none takes much longer than ``pass_s``, unless one text does.
        """
        self._session = session
        self._token_budget = token_budget
        self._multiple = multiple if "lengths" in session.inputs else 1
        self.passes = passes
        self.provider = session.provider
        self.usage = usage or Usage()
        self._turn, self._pass_s, self._token_s = turn, pass_s, 0.0

    @property
    def at_once(self) -> int:
        """Padded tokens that it works on at one time."""
        return self._token_budget * self.passes

    def with_budget(self, token_budget: int) -> "Forward":
        """The same graph in batches of another size."""
        return Forward(self._session, token_budget, self._multiple, self.passes, self.usage)

    def by_turns(self, turn: Turn, pass_s: float = math.inf) -> "Forward":
        """The same graph, for one who shares it with others."""
        given = self._session, self._token_budget, self._multiple, self.passes, self.usage
        return Forward(*given, turn=turn, pass_s=pass_s)

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Which texts of these lengths share a pass."""
        padded = [round_up(length, self._multiple) for length in lengths]
        share = -(-sum(padded) // self.passes)
        in_time = self._pass_s / (self._token_s or FIRST_TOKEN_S)
        return plan_batches(padded, int(min(self._token_budget, share, in_time)))

    def padding_share(self, lengths: Sequence[int]) -> float:
        """The part of all computed tokens that is padding."""
        batches = self.batches(lengths)
        computed = sum(round_up(max(lengths[i] for i in batch), self._multiple) * len(batch) for batch in batches)
        return 1 - sum(lengths) / computed if computed else 0.0

    def run(self, texts: Sequence[Sequence[int]]) -> Vector:
        """``[len(texts), width of the graph's output]``, in the order of the texts; raises NotFinite."""
        joined = np.empty((len(texts), self._session.width), dtype=np.float32)
        with ThreadPoolExecutor(self.passes) as pool:
            for done in pool.map(lambda batch: self._run(batch, texts), self.batches([len(text) for text in texts])):
                for batch, values in done:
                    joined[batch] = values
        finite = np.isfinite(joined).all(axis=1)
        if not finite.all():
            raise NotFinite(np.flatnonzero(~finite).tolist(), joined)
        return joined

    def _run(self, batch: list[int], texts: Sequence[Sequence[int]]) -> list[tuple[list[int], Vector]]:
        feeds = self._feeds([texts[i] for i in batch])
        try:
            with self._turn(), self.usage.counted(sum(len(texts[i]) for i in batch), feeds["input_ids"].size):
                began = time.perf_counter()
                values = self._session.run(feeds)
                self._measured(feeds["input_ids"].size, time.perf_counter() - began)
                return [(batch, values)]
        except OutOfMemory as error:
            if len(batch) == 1:
                tokens = len(texts[batch[0]])
                raise Misconfigured(
                    f"a text of {tokens} tokens does not fit into memory on {self.provider} ({error}): "
                    "cut texts shorter, see index.chunk_tokens"
                ) from error
        middle = len(batch) // 2
        return [*self._run(batch[:middle], texts), *self._run(batch[middle:], texts)]

    def _measured(self, tokens: int, took_s: float) -> None:
        """Written by several threads: it does not matter whose figure stays."""
        token_s = took_s / tokens
        self._token_s = self._token_s + LATEST * (token_s - self._token_s) if self._token_s else token_s

    def _feeds(self, texts: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
        """Ids padded on the right, with their lengths or a mask of what is real."""
        lengths = np.array([len(text) for text in texts], dtype=np.int32)
        takes_lengths = "lengths" in self._session.inputs
        ids = np.zeros(
            (len(texts), round_up(int(lengths.max()), self._multiple)), np.int32 if takes_lengths else np.int64
        )
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text
        if takes_lengths:
            return {"input_ids": ids, "lengths": lengths}
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
        feeds = dict(zip(MASKED, (ids, mask, np.zeros_like(ids)), strict=True))
        return {name: value for name, value in feeds.items() if name in self._session.inputs}
