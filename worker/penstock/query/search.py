"""A query's way: instruct, embed, retrieve, drop what its anchor disowns, rerank.

Each step's calls are shared by all queries that are under way: see ``microbatch.py``.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from penstock.core.errors import InvalidEvent, NotFinite
from penstock.core.ports import Embedder, PairEncoder, Progress, Reranker, Searcher, Tokenizer
from penstock.core.queries import Answer, Hit, Lookup, Query
from penstock.core.records import Place
from penstock.core.vectors import Vector
from penstock.query.microbatch import MicroBatcher
from penstock.query.ranking import disown, in_order_of_retrieval, reranked

UNRANKED_PER_DOCUMENT = 3
"""Candidates fetched at first per document wanted, where no reranker needs to see them all."""

QUERIES_AHEAD = 8
"""Queries are embedded together up to so many times what the model works on at once, to go on together."""

LOOKUPS = 256
"""Most queries in one request to the store."""

PLACES = 1000
"""Most records in one question about progress."""

REPLY_S = 0.05
"""Of a query's time, what is kept for answering it: reranking must end before."""

ASK_PROGRESS_S = (0.02, 0.25)
"""Pauses between two questions whether a record is searchable: the first, and the longest."""


NO_TIME = "the deadline was near"

T = TypeVar("T")


class TooLate(Exception):
    """A query's time was over before there was an answer."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Candidates of a query, nearest first, and when its time is over."""

    query: Query
    hits: list[Hit]
    deadline: float
    tokens: int = 0
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueryEncoder:
    """The embedding side.

    ``prompt`` is what goes before a query for a task, None for the usual one; it raises InvalidEvent where the model
    takes no task. ``limit`` is the most tokens of a text, ``budget`` what the model works on at once.
    """

    tokenizer: Tokenizer
    embedder: Embedder
    prompt: Callable[[str | None], str]
    takes_task: bool
    limit: int
    budget: int

    def query(self, query: Query, *, judged: bool) -> tuple[int, ...]:
        """The ids of a query with its instruction; raises InvalidEvent when there are too many.

        A task that this model does not take is left to a reranker that does, where the query is ``judged`` by one.
        """
        task = query.instruction if self.takes_task or not judged else None
        (ids,) = self.tokenizer.encode([self.prompt(task) + query.text])
        if len(ids) > self.limit:
            raise InvalidEvent(
                f"query: has {len(ids)} tokens with its instruction; at most {self.limit} are allowed here"
            )
        return ids


@dataclass(frozen=True, slots=True)
class PairScorer:
    """The reranking side. ``instruction`` is used where a query has none; None means the model's own.

    ``weight`` is how much the reranker says in the order of an answer, from 0 to 1: see ``ranking.blend``.
    """

    pairs: PairEncoder
    reranker: Reranker
    budget: int
    instruction: str | None = None
    weight: float = 1.0

    def task(self, asked: str | None) -> str | None:
        """The instruction of a query that asks for this one; None where the reranker takes none."""
        return (asked or self.instruction) if self.pairs.takes_task else None


class Search:
    """Answers queries over one collection. For one event loop; ``close`` ends its threads."""

    def __init__(
        self,
        encoder: QueryEncoder,
        store: Searcher,
        scorer: PairScorer | None,
        progress: Progress | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.encoder = encoder
        self._store = store
        self.scorer = scorer
        self._clock = clock
        self._now = now
        self._threads = ThreadPoolExecutor(2)
        self.embed: MicroBatcher[Sequence[int], Vector] = MicroBatcher(
            lambda texts: list(encoder.embedder.embed(texts)), encoder.budget * QUERIES_AHEAD, len, encoder.budget
        )
        self.lookup: MicroBatcher[Lookup, list[Hit]] = MicroBatcher(self._look_up, LOOKUPS)
        self.rank: MicroBatcher[Sequence[int], float] | None = None
        self._follow: MicroBatcher[Place, bool] | None = None
        if progress is not None:
            self._follow = MicroBatcher(progress.searchable, PLACES)
        if scorer is not None:
            reranker = scorer.reranker
            self.rank = MicroBatcher(lambda pairs: reranker.logits(pairs).tolist(), scorer.budget, len, scorer.budget)

    async def answer(self, query: Query) -> Answer:
        """Both halves. Raises TooLate, InvalidEvent, or Unavailable when the store is away."""
        return await self.order(await self.retrieve(query))

    async def retrieve(self, query: Query) -> Retrieved:
        """Instruct, embed, and fetch the candidates; raises as ``answer``."""
        deadline = self._clock() + query.timeout_s
        try:
            async with asyncio.timeout(query.timeout_s):
                watch = Stopwatch(self._clock)
                if query.after is not None:
                    await self._wait_for(query.after)
                    watch.lap("after")
                scorer = None if query.rerank is False else self.scorer
                ids = self.encoder.query(query, judged=scorer is not None and scorer.pairs.takes_task)
                (vector,) = await self.embed.submit([ids])
                watch.lap("embed")
                hits = await self._candidates(query, vector)
                watch.lap("retrieve")
        except TimeoutError:
            raise TooLate(f"no answer within {query.timeout_s:g} s") from None
        return Retrieved(query, hits, deadline, len(ids), watch.laps_ms)

    def renewed(self, retrieved: Retrieved) -> Retrieved:
        """With the query's whole time before it again."""
        return replace(retrieved, deadline=self._clock() + retrieved.query.timeout_s)

    async def in_thread(self, work: Callable[..., T], *given: Any) -> T:
        """The result of what takes too long for the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    async def order(self, retrieved: Retrieved) -> Answer:
        """Let the reranker order the candidates, if it can before the deadline."""
        watch = Stopwatch(self._clock)
        query = retrieved.query
        logits, why_not = await self.score(retrieved)
        if logits is None or self.scorer is None:
            ranked = in_order_of_retrieval(retrieved.hits)
        else:
            watch.lap("rerank")
            ranked = reranked(retrieved.hits, logits, self.scorer.weight)
        return Answer(query, ranked[: query.top_k], why_not, {**retrieved.timings_ms, **watch.laps_ms})

    async def score(self, retrieved: Retrieved) -> tuple[list[float] | None, str]:
        """A logit per candidate, or why there is none."""
        query, scorer = retrieved.query, self.scorer
        if query.rerank is False:
            return None, "the query asked for none"
        if scorer is None or self.rank is None:
            return None, "this worker has no reranker"
        texts = [f"{hit.title}\n{hit.text}" if hit.title else hit.text for hit in retrieved.hits]
        instruction = scorer.task(query.instruction)
        try:
            async with asyncio.timeout(retrieved.deadline - REPLY_S - self._clock()):
                pairs = await self.in_thread(scorer.pairs.encode, query.text, texts, instruction) if texts else []
                left = retrieved.deadline - REPLY_S - self._clock()
                if self.rank.expected_s(sum(map(len, pairs))) > left:
                    return None, NO_TIME
                by_length = sorted(range(len(pairs)), key=lambda i: len(pairs[i]))  # neighbours share batches
                scores = await self.rank.submit([pairs[i] for i in by_length])
        except TimeoutError:
            return None, NO_TIME
        except NotFinite as error:
            return None, f"reranking failed: {error}"
        logits = dict(zip(by_length, scores, strict=True))
        return [logits[i] for i in range(len(pairs))], ""

    def close(self) -> None:
        """End the threads, once what is under way is done."""
        for step in (self.embed, self.lookup, self.rank, self._follow):
            if step is not None:
                step.close()
        self._threads.shutdown(wait=False)

    @property
    def steps(self) -> dict[str, MicroBatcher[Any, Any]]:
        """The calls that queries share, by name."""
        named: dict[str, MicroBatcher[Any, Any] | None] = {
            "embed": self.embed,
            "retrieve": self.lookup,
            "rerank": self.rank,
        }
        return {name: step for name, step in named.items() if step is not None}

    async def _candidates(self, query: Query, vector: Vector) -> list[Hit]:
        """Without a reranker a few chunks per document wanted nearly always do; all candidates, where they do not."""
        few = query.top_k * UNRANKED_PER_DOCUMENT
        if (query.rerank is not False and self.scorer is not None) or few >= query.candidates:
            return await self._search(query, vector, query.candidates)
        hits = await self._search(query, vector, few)
        if len({hit.key.document for hit in hits}) >= query.top_k:
            return hits
        return await self._search(query, vector, query.candidates)

    async def _search(self, query: Query, vector: Vector, limit: int) -> list[Hit]:
        (hits,) = await self.lookup.submit([Lookup(vector, query.tenant, limit, self._now(), query.filter)])
        return hits

    def _look_up(self, lookups: Sequence[Lookup]) -> list[list[Hit]]:
        """One request for the candidates of all, one for the anchors that did not come with them."""
        candidates = self._store.search(lookups)
        return disown(candidates, self._store.read)

    async def _wait_for(self, place: Place) -> None:
        """Until that record is searchable; the query's deadline ends the waiting."""
        if self._follow is None:
            raise InvalidEvent("after: this worker does not follow the document stream; set query.follow")
        pause, longest = ASK_PROGRESS_S
        while not (await self._follow.submit([place]))[0]:
            await asyncio.sleep(pause)
            pause = min(longest, pause * 1.5)


class Stopwatch:
    """Milliseconds of one step after the other."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = clock()
        self.laps_ms: dict[str, float] = {}

    def lap(self, step: str) -> None:
        """The step is over, the next one begins."""
        now = self._clock()
        self.laps_ms[step] = round((now - self._started) * 1000, 3)
        self._started = now
