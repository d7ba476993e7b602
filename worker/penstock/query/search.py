"""A query's way: instruct, embed, retrieve, drop what its anchor disowns, rerank.

Each step's calls are shared by all queries that are under way: see ``microbatch.py``.
"""

import asyncio
import math
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import accumulate
from typing import Any, TypeVar

from penstock.core.documents import titled
from penstock.core.errors import InvalidEvent, Missing, NotFinite, Unavailable
from penstock.core.ports import Searcher
from penstock.core.queries import NO_TIME, Answer, EmbeddedBy, Hit, Lookup, Mode, Query, Shaping
from penstock.core.records import Place
from penstock.core.vectors import Vector
from penstock.core.work import Stopwatch
from penstock.query.candidates import Found, chosen, first_limit, next_limit
from penstock.query.highlight import highlighted
from penstock.query.microbatch import MicroBatcher
from penstock.query.ranking import in_order_of_retrieval, reranked
from penstock.query.served import Served
from penstock.query.shape import Shaper
from penstock.query.sides import BY_BOTH, PairScorer, Retrieval

FOLLOW_EVERY_S = 5.0
"""Between two looks at which collection is to be served."""

SURELY = 0.8
"""Of the time that is left, what a part of the candidates is chosen for: better fewer than none in time."""

REPLY_S = 0.05
"""Of a query's time, what is kept for answering it: reranking must end before."""

ASKED_FOR_NONE, NO_RERANKER = "the query asked for none", "this worker has no reranker"
"""Why candidates are not reranked, and will not be."""

ASK_PROGRESS_S = (0.02, 0.25)
"""Pauses between two questions whether a record is searchable: the first, and the longest."""


T = TypeVar("T")


class TooLate(Exception):
    """A query's time was over before there was an answer."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Candidates of a query, the best first, and when its time is over; the query says by which mode.

    ``by`` is the model that embedded it.
    """

    query: Query
    hits: list[Hit]
    deadline: float
    by: EmbeddedBy
    tokens: int = 0
    timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def judged(self) -> list[Hit]:
        """Those that the reranker sees: all, or the candidates before what only deeper pages need."""
        return self.hits if self.query.offset is None else self.hits[: self.query.candidates]


class Search:
    """Answers queries over the collection that is served. For one event loop; ``close`` ends its threads."""

    def __init__(
        self,
        served: Served,
        scorer: PairScorer | None,
        *,
        retrieval: Retrieval = BY_BOTH,
        follow: Callable[[], Served] | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``follow`` says what is to be served from now on; raises Unavailable where that cannot be said, or be."""
        self.served = served
        self._opened = {self.served}
        self._follow, self._followed = follow, clock()
        self.scorer = scorer
        self.retrieval = retrieval
        self._clock = clock
        self._now = now
        self._threads = (ThreadPoolExecutor(2), ThreadPoolExecutor(1))
        self._looking = ThreadPoolExecutor(1)
        self.rank: MicroBatcher[Sequence[int], float] | None = None
        if scorer is not None:
            reranker = scorer.reranker
            self.rank = MicroBatcher(lambda pairs: reranker.logits(pairs).tolist(), scorer.budget, len, scorer.budget)

    async def answer(self, query: Query) -> Answer:
        """Both halves. Raises TooLate, InvalidEvent, or Unavailable when the store is away."""
        return await self.order(await self.retrieve(query))

    async def retrieve(self, query: Query, *, whole: bool = False) -> Retrieved:
        """Instruct, embed, and fetch the candidates, with ``whole`` all of them; raises as ``answer``."""
        deadline = self._clock() + query.timeout_s
        try:
            async with asyncio.timeout(query.timeout_s):
                served = await self.serving()
                try:
                    return await self._retrieve(served, query, deadline, whole=whole)
                except Missing:  # it was dropped, now that readers get another
                    again = await self.serving(anew=True)
                    if again is served:
                        raise
                    return await self._retrieve(again, query, deadline, whole=whole)
                except Unavailable:
                    self._followed = -math.inf  # look again before the next query
                    raise
        except TimeoutError:
            raise TooLate(f"no answer within {query.timeout_s:g} s") from None

    async def _retrieve(self, served: Served, query: Query, deadline: float, *, whole: bool) -> Retrieved:
        watch = Stopwatch(self._clock)
        if query.after is not None:
            await self._wait_for(served, query.after)
            watch.lap("after")
        mode = self._mode(served, query)
        self._check_threshold(query)
        scorer = None if query.rerank is False else self.scorer
        ids = served.encoder.query(query, judged=scorer is not None and scorer.pairs.takes_task)
        vector = None
        if mode is not Mode.SPARSE:
            (vector,) = await served.embed.submit([ids], tenant=query.tenant)
            watch.lap("embed")
        words = "" if mode is Mode.DENSE else query.text
        hits = await self._candidates(served, query, vector, words, deadline, whole=whole)
        watch.lap("retrieve")
        return Retrieved(replace(query, mode=mode), hits, deadline, served.encoder.by, len(ids), watch.laps_ms)

    async def serving(self, *, anew: bool = False) -> Served:
        """What queries are answered from; whoever comes first after a while looks whether it still is."""
        if self._follow is not None and (anew or self._clock() - self._followed > FOLLOW_EVERY_S):
            self._followed = self._clock()
            self.served = await asyncio.get_running_loop().run_in_executor(self._looking, self._follow)
            self._opened |= {self.served}
        return self.served

    @property
    def modes(self) -> list[Mode]:
        """How candidates can be found, the usual way first."""
        if not self.served.store.has_terms:
            return [Mode.DENSE]
        return sorted(Mode, key=lambda mode: mode is not self.retrieval.mode)

    def _mode(self, served: Served, query: Query) -> Mode:
        """How its candidates are found; raises InvalidEvent where it asks for words that the collection lacks."""
        if served.store.has_terms:
            return query.mode or self.retrieval.mode
        if query.mode in (Mode.SPARSE, Mode.HYBRID):
            raise InvalidEvent(f"mode: {query.mode} needs a collection with terms, which one made by this version has")
        return Mode.DENSE

    def _check_threshold(self, query: Query) -> None:
        """Raises InvalidEvent where no hit can pass."""
        threshold = query.shaping.threshold
        if threshold and threshold.rerank_score is not None and (query.rerank is False or self.scorer is None):
            why = ASKED_FOR_NONE if query.rerank is False else NO_RERANKER
            raise InvalidEvent(f"score_threshold.rerank_score: there is no reranking: {why}")

    def renewed(self, retrieved: Retrieved) -> Retrieved:
        """With the query's whole time before it again."""
        return replace(retrieved, deadline=self._clock() + retrieved.query.timeout_s)

    async def in_thread(self, work: Callable[..., T], *given: Any, later: bool = False) -> T:
        """The result of what takes too long for the event loop; ``later`` is what no search may wait for."""
        return await asyncio.get_running_loop().run_in_executor(self._threads[later], work, *given)

    async def look(self, question: Callable[[Searcher, str, datetime], T], tenant: str) -> T:
        """What the store says of a tenant, one question after the other; nothing else waits for it."""
        served = await self.serving()
        work = partial(question, served.store, tenant, self._now())
        return await asyncio.get_running_loop().run_in_executor(self._looking, work)

    async def order(self, retrieved: Retrieved) -> Answer:
        """Let the reranker order the candidates, if it can before the deadline."""
        watch = Stopwatch(self._clock)
        query = retrieved.query
        logits, why_not = await self.score(retrieved)
        shaper = Shaper(query.shaping, self._now(), query.depth)
        if logits is None or self.scorer is None:
            ranked = in_order_of_retrieval(retrieved.hits, shaper)
        else:
            watch.lap("rerank")
            ranked = reranked(retrieved.hits, logits, self.scorer.weight, shaper)
        unjudged = 0 if logits is None else len(retrieved.judged) - len(logits)
        ranked = ranked[query.offset or 0 :]
        if query.highlight:
            ranked = await self.in_thread(highlighted, query.text, ranked)
        return Answer(query, ranked, why_not, {**retrieved.timings_ms, **watch.laps_ms}, unjudged, retrieved.by)

    async def score(self, retrieved: Retrieved) -> tuple[list[float] | None, str]:
        """A logit of each candidate, or of the first that there is time for; or why there is none."""
        query, scorer = retrieved.query, self.scorer
        if query.rerank is False:
            return None, ASKED_FOR_NONE
        if scorer is None or self.rank is None:
            return None, NO_RERANKER
        texts = [titled(hit.title, hit.text) for hit in retrieved.judged]
        instruction = scorer.task(query.instruction)
        try:
            async with asyncio.timeout(retrieved.deadline - REPLY_S - self._clock()):
                pairs = await self.in_thread(scorer.pairs.encode, query.text, texts, instruction) if texts else []
                pairs = pairs[: self._in_time(pairs, retrieved)]
                if texts and not pairs:
                    return None, NO_TIME
                by_length = sorted(range(len(pairs)), key=lambda i: len(pairs[i]))  # neighbours share batches
                scores = await self.rank.submit([pairs[i] for i in by_length], tenant=query.tenant)
        except TimeoutError:
            return None, NO_TIME
        except NotFinite as error:
            return None, f"reranking failed: {error}"
        logits = dict(zip(by_length, scores, strict=True))
        return [logits[i] for i in range(len(pairs))], ""

    def _in_time(self, pairs: Sequence[Sequence[int]], retrieved: Retrieved) -> int:
        """How many of them can be judged before the deadline, as far as is known."""
        left, weights = retrieved.deadline - REPLY_S - self._clock(), list(accumulate(map(len, pairs)))

        def expected_s(weight: int) -> float:
            return self.rank.expected_s(weight, tenant=retrieved.query.tenant) if self.rank else 0.0

        if not weights or expected_s(weights[-1]) <= left:
            return len(weights)
        return bisect_right(weights, left * SURELY, key=expected_s)

    def close(self) -> None:
        """End the threads, once what is under way is done."""
        for served in self._opened:
            served.close()
        if self.rank is not None:
            self.rank.close()
        for threads in (*self._threads, self._looking):
            threads.shutdown(wait=False)

    @property
    def steps(self) -> dict[str, MicroBatcher[Any, Any]]:
        """The calls that queries share at the moment, by name."""
        return self.served.steps | ({} if self.rank is None else {"rerank": self.rank})

    async def _candidates(
        self, served: Served, query: Query, vector: Vector | None, words: str, deadline: float, *, whole: bool
    ) -> list[Hit]:
        """As many chunks as are to be looked at, and of as many documents as are wanted, as far as there is time."""
        reranked = query.rerank is not False and self.scorer is not None
        reordered = whole or reranked or query.shaping != Shaping() or query.offset is not None
        limit = first_limit(query, reordered=reordered)
        began = self._clock()
        found = await self._search(served, query, vector, words, limit)
        while True:
            now = self._clock()
            more = next_limit(query, limit, found, now - began, deadline - now)
            if more is None:
                return chosen(query, found.hits)
            limit, began = more, now
            try:
                async with asyncio.timeout((deadline - now) / 2):
                    found = await self._search(served, query, vector, words, limit)
            except (TimeoutError, Unavailable):
                return chosen(query, found.hits)  # better few than none

    async def _search(self, served: Served, query: Query, vector: Vector | None, words: str, limit: int) -> Found:
        diverse = query.shaping.diversity > 0
        lookup = Lookup(vector, query.tenant, limit, self._now(), query.filter, words, diverse)
        (found,) = await served.lookup.submit([lookup], tenant=query.tenant)
        return found

    async def _wait_for(self, served: Served, place: Place) -> None:
        """Until that record is searchable; the query's deadline ends the waiting."""
        if served.follow is None:
            raise InvalidEvent("after: this worker does not follow the document stream; set query.follow")
        pause, longest = ASK_PROGRESS_S
        while not (await served.follow.submit([place]))[0]:
            await asyncio.sleep(pause)
            pause = min(longest, pause * 1.5)
