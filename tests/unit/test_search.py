"""The steps of a query over the shipped fakes: what is found, in which order, and what the answer says of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.documents import Chunk, ChunkKey, DocumentKey, Event, Op, Order, Point, Stored
from penstock.core.errors import InvalidEvent, Unavailable
from penstock.core.ports import Reranker, Searcher
from penstock.core.queries import Answer, EmbeddedBy, FacetCounts, Hit, Lookup, Mode, Query, Shaping, Side, Threshold
from penstock.core.records import Partition, Place, Record
from penstock.core.terms import Weighting
from penstock.core.vectors import Vector
from penstock.fakes import HashEmbedder, MemoryProgress, MemoryStore, OverlapReranker, WordPairs, WordTokenizer
from penstock.query.ranking import blend, fused, in_order_of_retrieval, reranked
from penstock.query.search import Search, TooLate
from penstock.query.served import Served
from penstock.query.sides import PairScorer, QueryEncoder

TOKENIZER, EMBEDDER = WordTokenizer(), HashEmbedder()
NOW = datetime(2026, 11, 23, tzinfo=UTC)


BY = EmbeddedBy("m@1", 8)


def encoder(limit: int = 64) -> QueryEncoder:
    return QueryEncoder(TOKENIZER, EMBEDDER, lambda task: f"{task}: " if task else "", True, limit, 1000, BY)


def stored(
    *documents: tuple[str, ...], title: str = "", terms: Weighting | None = None, tenant: str = ""
) -> MemoryStore:
    """Each document a name and its chunks."""
    store = MemoryStore(terms)
    for name, *chunks in documents:
        event = Event(
            Record(Partition("t", 0), 0, None, None), DocumentKey(tenant, name), Order(1, 1), Op.UPSERT, title
        )
        parts = [Chunk(text, 0, len(text), text) for text in chunks]
        hashes = tuple(part.hash for part in parts)
        rows = EMBEDDER.embed(TOKENIZER.encode(chunks))
        store.upsert([Point(event, i, 1, hashes if i == 0 else (), parts[i], rows[i]) for i in range(len(parts))])
    return store


def query(text: str, **fields: Any) -> Query:
    given: dict[str, Any] = {"id": "q", "tenant": "", "top_k": 10, "candidates": 100, "timeout_s": 5.0} | fields
    return Query(text=text, **given)


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(work(), 30))


def ask(search: Search, asked: Query) -> Answer:
    answer: Answer = run(lambda: search.answer(asked))
    search.close()
    return answer


def scorer(reranker: Reranker | None = None, instruction: str | None = None) -> PairScorer:
    return PairScorer(WordPairs(), reranker or OverlapReranker(), 64, instruction)


def test_the_reranker_decides_the_order_and_both_scores_are_told() -> None:
    store = stored(("poem", "roses are red"), ("hydro", "water drives the turbine"), ("sea", "salt water"))
    answer = ask(Search(Served(encoder(), store), scorer()), query("water turbine"))
    assert [one.hit.key.document for one in answer.documents] == ["hydro", "sea", "poem"]
    assert answer.not_reranked == ""
    scores = [one.score for one in answer.documents]
    assert scores == pytest.approx([1 / (1 + np.exp(-2)), 0.5, 1 / (1 + np.exp(2))])
    (near,) = store.search([Lookup(EMBEDDER.embed(TOKENIZER.encode(["water turbine"]))[0], "", 10, NOW)])
    by_retrieval = [hit.key.document for hit in near]
    assert [one.retrieval_rank for one in answer.documents] == [
        by_retrieval.index(one.hit.key.document) + 1 for one in answer.documents
    ]
    assert set(answer.timings_ms) == {"embed", "retrieve", "rerank"}


def test_a_document_is_represented_by_its_best_chunk() -> None:
    store = stored(("a", "nothing here", "water turbine", "water"), ("b", "turbine"))
    answer = ask(Search(Served(encoder(), store), scorer()), query("water turbine"))
    assert [(one.hit.key.document, one.hit.key.chunk) for one in answer.documents] == [("a", 1), ("b", 0)]


def test_the_title_is_judged_with_the_text() -> None:
    answer = ask(
        Search(Served(encoder(), stored(("a", "text"), title="water turbine")), scorer()), query("water turbine")
    )
    assert answer.documents[0].score > 0.8


def test_without_a_reranker_the_order_of_retrieval_stands_and_the_answer_says_so() -> None:
    store = stored(*((f"d{n}", f"text {n}") for n in range(30)))
    for search, asked, said in (
        (Search(Served(encoder(), store), None), query("text 7"), "no reranker"),
        (Search(Served(encoder(), store), scorer()), query("text 7", rerank=False), "asked for none"),
    ):
        answer = ask(search, asked)
        assert said in answer.not_reranked
        assert answer.documents[0].hit.key.document == "d7"
        assert [one.score for one in answer.documents] == [one.hit.score for one in answer.documents]
        assert [one.retrieval_rank for one in answer.documents] == list(range(1, 11))


def test_documents_of_many_chunks_do_not_crowd_out_others() -> None:
    """The first candidates are all of one document: then all candidates are fetched."""
    words = [f"same words {n}" for n in range(40)]
    store = stored(("long", *words), ("b", "other"), ("c", "texts"))
    answer = ask(Search(Served(encoder(), store), None), query("same words 3", top_k=3))
    assert {one.hit.key.document for one in answer.documents} == {"long", "b", "c"}


TEXTS = (
    ("poem", "roses are red"),
    ("hydro", "water drives the turbine"),
    ("sea", "salt water"),
    ("part", "seal HX-200/7 of the pump"),
)


@pytest.mark.parametrize(
    ("text", "mode", "first"),
    [
        ("turbine", None, "hydro"),
        ("turbine", Mode.SPARSE, "hydro"),
        ("HX-200/7", Mode.HYBRID, "part"),
        ('"salt water" and the turbine', Mode.HYBRID, "sea"),
        ('"salt water" and the turbine', Mode.SPARSE, "sea"),
    ],
)
def test_words_are_found_and_the_answer_tells_what_each_way_found(text: str, mode: Mode | None, first: str) -> None:
    answer = ask(Search(Served(encoder(), stored(*TEXTS, terms=Weighting())), None), query(text, mode=mode))
    best = answer.documents[0].hit
    assert (best.key.document, answer.query.mode) == (first, mode or Mode.HYBRID)
    assert best.sparse is not None
    assert best.sparse.rank is not None
    assert (best.dense is None) == (mode is Mode.SPARSE)
    assert set(answer.timings_ms) == ({"retrieve"} if mode is Mode.SPARSE else {"embed", "retrieve"})


def test_what_is_asked_for_as_it_is_written_stays_first_whatever_the_reranker_says() -> None:
    store = stored(
        ("part", "seal HX-200/7"), *((f"d{n}", f"pump with a seal {n}") for n in range(9)), terms=Weighting()
    )
    answer = ask(Search(Served(encoder(), store), scorer()), query("pump with a seal HX-200/7"))
    assert answer.documents[0].hit.key.document == "part"
    assert answer.documents[0].rerank_score < answer.documents[1].rerank_score  # type: ignore[operator]


def test_by_vectors_alone_words_say_nothing() -> None:
    store = stored(*TEXTS, terms=Weighting())
    answer = ask(Search(Served(encoder(), store), None), query("turbine", mode=Mode.DENSE))
    (near,) = store.search([Lookup(EMBEDDER.embed(TOKENIZER.encode(["turbine"]))[0], "", 10, NOW)])
    assert [one.hit for one in answer.documents] == near
    assert all(one.hit.sparse is None for one in answer.documents)


def test_a_collection_without_words_is_searched_by_vectors_and_one_who_asks_for_words_is_told() -> None:
    search = Search(Served(encoder(), stored(*TEXTS)), None)
    answer: Answer = run(lambda: search.answer(query("turbine")))
    assert answer.query.mode is Mode.DENSE
    assert len(answer.documents) == len(TEXTS)
    for mode in (Mode.SPARSE, Mode.HYBRID):
        with pytest.raises(InvalidEvent, match=f"mode: {mode} needs a collection with terms"):
            run(partial(search.answer, query("turbine", mode=mode)))
    search.close()


SIDES = st.lists(st.tuples(st.integers(-100, 100), st.integers(0, 10)), min_size=1, max_size=20)


def found(sides: list[tuple[int, int]], scale: float = 0.01, shift: float = 0.0) -> list[Hit]:
    """By similarity and share of the words, which is 0 where there are none."""
    return [
        Hit(
            ChunkKey("", f"d{n}", 0),
            0.0,
            Stored(Order(1, 1), 1),
            "",
            "",
            {},
            Side(near * scale + shift),
            Side(share / 10),
        )
        for n, (near, share) in enumerate(sides)
    ]


@given(SIDES)
def test_the_fused_order_is_the_same_for_similarities_of_any_scale(sides: list[tuple[int, int]]) -> None:
    """But for ties that rounding makes or breaks."""
    ranked = [hit.key for hit in fused(found(sides), 4.0)]
    for scale, shift in ((0.001, 0.8), (1.0, -3.0)):
        by_key = {hit.key: hit.score for hit in fused(found(sides, scale, shift), 4.0)}
        scores = [by_key[key] for key in ranked]
        assert all(after <= before + 1e-6 * scale for before, after in pairwise(scores))


@given(SIDES)
def test_no_weight_leaves_the_order_of_the_vectors_and_no_match_changes_no_score(sides: list[tuple[int, int]]) -> None:
    for hits in (fused(found(sides), 0.0), fused(found([(near, 0) for near, _ in sides]), 4.0)):
        assert [hit.score for hit in hits] == sorted((near * 0.01 for near, _ in sides), reverse=True)


def test_a_full_match_is_worth_so_many_deviations() -> None:
    hits = fused(found([(10, 0), (0, 10), (-10, 5)]), 2.0)
    deviation = float(np.std([0.1, 0.0, -0.1]))
    scores = {hit.key.document: hit.score for hit in hits}
    assert scores == pytest.approx({"d0": 0.1, "d1": 2 * deviation, "d2": deviation - 0.1})
    assert fused([], 4.0) == []


class Slow:
    """A reranker that takes a while per batch."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.calls = 0

    def logits(self, pairs: Sequence[Sequence[int]]) -> Vector:
        self.calls += 1
        time.sleep(self.seconds)
        return OverlapReranker().logits(pairs)


def test_near_the_deadline_the_order_of_retrieval_is_returned_in_time() -> None:
    slow = Slow(0.2)
    store = stored(*((f"d{n}", f"text number {n}") for n in range(50)))
    search = Search(Served(encoder(), store), scorer(slow))
    started = time.monotonic()
    answer: Answer = run(lambda: search.answer(query("text number 7", timeout_s=0.6)))
    assert time.monotonic() - started < 0.7
    assert (answer.not_reranked, answer.documents[0].hit.key.document) == ("the deadline was near", "d7")
    calls = slow.calls
    assert calls < 6  # of many batches: the rest was given up with the query

    search.close()


def test_when_time_is_short_the_best_that_fit_are_reranked() -> None:
    slow = Slow(0.05)
    store = stored(*((f"d{n}", f"text number {n}") for n in range(100)))
    search = Search(Served(encoder(), store), scorer(slow))

    async def work() -> tuple[float, Answer, Answer]:
        await search.answer(query("text", candidates=20, top_k=1))
        started = time.monotonic()
        answer = await search.answer(query("text", candidates=100, top_k=100, timeout_s=0.4))
        took = time.monotonic() - started
        return took, answer, await search.answer(query("text", candidates=100, timeout_s=0.06))

    took, answer, none = run(work)
    search.close()
    assert took < 0.4
    assert (answer.not_reranked, len(answer.documents)) == ("", 100)
    judged = 100 - answer.unjudged
    assert 0 < judged < 100
    assert {one.rerank_score is None for one in answer.documents[:judged]} == {False}
    others = answer.documents[judged:]
    assert [one.retrieval_rank for one in others] == list(range(judged + 1, 101))
    assert {one.rerank_score for one in others} == {None}
    scores = [one.score for one in answer.documents]
    assert scores == sorted(scores, reverse=True)
    assert none.not_reranked == "the deadline was near"


@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize("terms", [Weighting(), None])
def test_long_documents_crowd_nobody_out(judged: bool, terms: Weighting | None) -> None:
    books = ((f"book{n}", *(f"water turbine part {i}" for i in range(150))) for n in range(3))
    notes = ((f"note{n}", f"a remark about salt number {n}") for n in range(20))
    store = stored(*books, *notes, terms=terms)
    search = Search(Served(encoder(), store), scorer() if judged else None)
    answer: Answer = run(lambda: search.answer(query("water turbine", candidates=100, top_k=10)))
    names = [one.hit.key.document for one in answer.documents]
    assert len(set(names)) == len(names) == 10
    assert {"book0", "book1", "book2"} < set(names)
    all_there: Answer = run(lambda: search.answer(query("water turbine", candidates=100, top_k=50)))
    assert len(all_there.documents) == 23
    search.close()


MANY = [(f"d{n:02}", f"water {'turbine ' * (n % 7)}number {n}") for n in range(40)]


@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize("terms", [None, Weighting()])
def test_pages_of_a_query_agree_and_leave_nothing_out(judged: bool, terms: Weighting | None) -> None:
    store, judge = stored(*MANY, terms=terms), scorer() if judged else None
    whole = ask(Search(Served(encoder(), store), judge), query("water turbine", top_k=40, offset=0))
    pages = [
        ask(Search(Served(encoder(), store), judge), query("water turbine", top_k=9, offset=offset))
        for offset in range(0, 45, 9)
    ]
    assert [hit.hit.key for page in pages for hit in page.documents] == [hit.hit.key for hit in whole.documents]
    assert [len(page.documents) for page in pages] == [9, 9, 9, 9, 4]
    assert [hit.retrieval_rank for hit in pages[1].documents] == [hit.retrieval_rank for hit in whole.documents[9:18]]


@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize("terms", [None, Weighting()])
def test_pages_agree_where_documents_are_long_and_beyond_the_candidates(judged: bool, terms: Weighting | None) -> None:
    long = [(f"book{n}", *(f"water turbine of book {n}, part {i}" for i in range(30))) for n in range(4)]
    store, judge = stored(*MANY, *long, terms=terms), scorer() if judged else None
    asked = {"candidates": 20, "offset": 0, "fetched": 200, "top_k": 44}
    whole = ask(Search(Served(encoder(), store), judge), query("water turbine", **asked))
    assert len({one.hit.key.document for one in whole.documents}) == 44
    assert not whole.unjudged
    pages = [
        ask(Search(Served(encoder(), store), judge), query("water turbine", **{**asked, "top_k": 7, "offset": offset}))
        for offset in range(0, 49, 7)
    ]
    assert [one.hit.key for page in pages for one in page.documents] == [one.hit.key for one in whole.documents]


def test_what_is_below_the_threshold_is_left_out_and_others_take_its_place() -> None:
    store = stored(*MANY, terms=Weighting())
    every = ask(Search(Served(encoder(), store), scorer()), query("water turbine", top_k=40)).documents
    least = sorted(one.rerank_score or 0 for one in every)[20]
    above = ask(
        Search(Served(encoder(), store), scorer()),
        query("water turbine", top_k=40, shaping=Shaping(threshold=Threshold(rerank_score=least))),
    )
    assert [one.hit.key for one in above.documents] == [
        one.hit.key for one in every if (one.rerank_score or 0) >= least
    ]
    near = sorted(one.hit.score for one in every)[-3]
    threshold = Shaping(threshold=Threshold(retrieval_score=near))
    assert (
        len(
            ask(
                Search(Served(encoder(), store), scorer()), query("water turbine", top_k=40, shaping=threshold)
            ).documents
        )
        == 3
    )
    assert (
        len(
            ask(
                Search(Served(encoder(), store), scorer()), query("water turbine", rerank=False, shaping=threshold)
            ).documents
        )
        == 3
    )


def test_a_threshold_that_nothing_can_pass_is_refused() -> None:
    wish = Shaping(threshold=Threshold(rerank_score=0.5))
    with pytest.raises(InvalidEvent, match=r"score_threshold.rerank_score: there is no reranking: the query asked"):
        ask(Search(Served(encoder(), stored(*TEXTS)), scorer()), query("water", rerank=False, shaping=wish))
    with pytest.raises(InvalidEvent, match="this worker has no reranker"):
        ask(Search(Served(encoder(), stored(*TEXTS)), None), query("water", shaping=wish))


def test_what_was_not_judged_for_want_of_time_passes_no_threshold_of_the_reranker() -> None:
    search = Search(Served(encoder(), stored(*TEXTS)), scorer(Slow(1.0)))
    wish = Shaping(threshold=Threshold(rerank_score=0.0))
    answer = ask(search, query("water turbine", timeout_s=0.3, shaping=wish))
    assert (answer.documents, answer.not_reranked) == ([], "the deadline was near")


def test_where_a_larger_lookup_takes_too_long_what_is_there_is_the_answer() -> None:
    class Wide(MemoryStore):
        def search(self, lookups: Sequence[Lookup]) -> list[list[Hit]]:
            limits.append(lookups[0].limit)
            time.sleep(0.01 * lookups[0].limit)
            return super().search(lookups)

    limits: list[int] = []
    store = Wide()
    store.points |= stored(("book", *(f"water part {i}" for i in range(1500))), ("note", "salt")).points
    search = Search(Served(encoder(), store), None)
    answer: Answer = run(lambda: search.answer(query("water", candidates=100, timeout_s=10.0)))
    assert [one.hit.key.document for one in answer.documents][:1] == ["book"]
    assert limits == [30, 100]
    search.close()


def test_many_chunks_of_an_older_event_hide_no_document() -> None:
    names = [f"d{n}" for n in range(40)]
    fresh = stored(*((name, f"water number {name}") for name in names))
    left_behind = stored(*((name, "water", "water", "water") for name in names[:14]))
    fresh.points = left_behind.points | fresh.points
    search = Search(Served(encoder(), fresh), None)
    answer: Answer = run(lambda: search.answer(query("water", candidates=100)))
    assert len(answer.documents) == 10
    search.close()


class Recorder:
    """A store that remembers how it was asked."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.searches: list[int] = []
        self.reads: list[list[ChunkKey]] = []
        self.away = False

    @property
    def has_terms(self) -> bool:
        return self.store.has_terms

    def search(self, lookups: Sequence[Lookup]) -> list[list[Hit]]:
        self.searches.append(len(lookups))
        if self.away:
            raise Unavailable("away")
        return self.store.search(lookups)

    def read(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
        self.reads.append(list(keys))
        return self.store.read(keys)

    def documents(self, tenant: str, now: datetime) -> int:
        return self.store.documents(tenant, now)

    def facet(self, tenant: str, now: datetime, field: str, most: int) -> FacetCounts:
        return self.store.facet(tenant, now, field, most)


def test_queries_that_come_together_are_looked_up_in_one_request() -> None:
    store: Any = Recorder(stored(("a", "one", "two"), ("b", "three")))
    search = Search(Served(encoder(), store), scorer())

    async def work() -> list[Answer]:
        return await asyncio.gather(*(search.answer(query(f"text {n}")) for n in range(20)))

    assert len(run(work)) == 20
    search.close()
    assert store.searches == [20]
    assert store.reads == []  # every anchor was among the hits
    assert search.served.embed.batches == 1


def test_anchors_that_did_not_come_with_the_hits_are_read_in_one_request() -> None:
    store: Any = Recorder(stored(("a", "nothing", "exactly this"), ("b", "nothing else", "or that")))
    answer = ask(Search(Served(encoder(), store), None), query("exactly this", top_k=1, candidates=1))
    assert answer.documents[0].hit.key == ChunkKey("", "a", 1)
    assert store.reads == [[ChunkKey("", "a", 0)]]


def test_an_outage_is_told_and_the_next_query_is_answered() -> None:
    store: Any = Recorder(stored(("a", "text")))
    search = Search(Served(encoder(), store), None)

    async def work() -> Answer:
        store.away = True
        with pytest.raises(Unavailable):
            await search.answer(query("text"))
        store.away = False
        return await search.answer(query("text"))

    assert len(run(work).documents) == 1
    search.close()


class Stuck:
    """A store that does not answer for a while."""

    has_terms = False

    def search(self, lookups: Sequence[Lookup]) -> list[list[Hit]]:
        time.sleep(0.5)
        return [[] for _ in lookups]

    def read(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
        raise NotImplementedError(keys)

    def documents(self, tenant: str, now: datetime) -> int:
        raise NotImplementedError(tenant, now)

    def facet(self, tenant: str, now: datetime, field: str, most: int) -> FacetCounts:
        raise NotImplementedError(tenant, now, field, most)


def test_a_store_that_does_not_answer_in_time_makes_the_answer_too_late() -> None:
    stuck: Searcher = Stuck()
    search = Search(Served(encoder(), stuck), None)
    with pytest.raises(TooLate, match=r"within 0\.1 s"):
        run(lambda: search.answer(query("text", timeout_s=0.1)))
    search.close()


def test_a_query_of_too_many_tokens_is_refused() -> None:
    search = Search(Served(encoder(limit=5), stored(("a", "text"))), None)
    with pytest.raises(InvalidEvent, match="has 7 tokens with its instruction; at most 5 are allowed"):
        run(lambda: search.answer(query("one two three four five", instruction="task")))
    search.close()


class Watched(WordPairs):
    """Remembers the tasks."""

    def __init__(self) -> None:
        self.tasks: list[str | None] = []

    def encode(self, query: str, documents: Sequence[str], instruction: str | None = None) -> list[tuple[int, ...]]:
        self.tasks.append(instruction)
        return super().encode(query, documents, instruction)


def test_both_models_read_a_query_with_its_instruction_or_the_usual_one() -> None:
    embedded: list[str | None] = []
    pairs = Watched()

    def prompt(task: str | None) -> str:
        embedded.append(task)
        return ""

    search = Search(
        Served(QueryEncoder(TOKENIZER, EMBEDDER, prompt, True, 64, 1000), stored(("a", "text"))),
        PairScorer(pairs, OverlapReranker(), 64, "the settings' task"),
    )
    run(lambda: search.answer(query("text", instruction="my task")))
    run(lambda: search.answer(query("text")))
    search.close()
    assert embedded == ["my task", None]
    assert pairs.tasks == ["my task", "the settings' task"]


def test_a_query_waits_for_the_record_that_it_names() -> None:
    store, progress = MemoryStore(), MemoryProgress("documents")
    search = Search(Served(encoder(), store, progress), None)
    asked = query("text", after=Place("documents", 0, 4))

    async def work() -> Answer:
        waiting = asyncio.ensure_future(search.answer(asked))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        store.points = stored(("new", "text")).points
        progress.done[0] = 5
        return await waiting

    answer: Answer = run(work)
    assert [one.hit.key.document for one in answer.documents] == ["new"]
    assert "after" in answer.timings_ms
    with pytest.raises(TooLate):
        run(lambda: search.answer(query("text", after=Place("documents", 0, 5), timeout_s=0.1)))
    with pytest.raises(InvalidEvent, match="not in the stream"):
        run(lambda: search.answer(query("text", after=Place("elsewhere", 0, 5))))
    search.close()


def test_a_worker_that_does_not_follow_the_stream_says_so() -> None:
    search = Search(Served(encoder(), MemoryStore()), None)
    with pytest.raises(InvalidEvent, match=r"query\.follow"):
        run(lambda: search.answer(query("text", after=Place("documents", 0, 0))))
    search.close()


ROWS = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(-3, 3)), max_size=20)


def candidates(rows: list[tuple[str, int]]) -> tuple[list[Hit], list[float]]:
    """A hit per row, the nearest first, and what a reranker makes of it."""
    hits = [
        Hit(ChunkKey("", name, i), 1.0 - i / 100, Stored(Order(1, 1), 1), "", "", {})
        for i, (name, _) in enumerate(rows)
    ]
    return hits, [float(logit) for _, logit in rows]


@given(ROWS, st.sampled_from([None, 0.0, 0.5, 1.0]))
def test_documents_are_ranked_by_their_best_chunk(rows: list[tuple[str, int]], weight: float | None) -> None:
    hits, logits = candidates(rows)
    ranked = in_order_of_retrieval(hits) if weight is None else reranked(hits, logits, weight)
    by_retrieval = list(dict.fromkeys(name for name, _ in rows))
    assert {one.hit.key.document for one in ranked} == set(by_retrieval)
    assert all(by_retrieval[one.retrieval_rank - 1] == one.hit.key.document for one in ranked)
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)
    if weight == 1:
        best = {name: max(logit for other, logit in rows if other == name) for name in by_retrieval}
        assert [rows[one.hit.key.chunk][1] for one in ranked] == [best[one.hit.key.document] for one in ranked]
        assert [one.score for one in ranked] == [one.rerank_score for one in ranked]
    elif weight is None or (weight == 0 and len(set(logits)) > 1):
        assert [one.hit.key.document for one in ranked] == by_retrieval


def test_what_both_say_counts_by_how_far_it_stands_out() -> None:
    """The reranker hardly prefers the last candidate, the search clearly prefers the first."""
    scores = blend([0.9, 0.3, 0.2], [1.0, -2.0, 1.1], 0.5)
    assert sorted(range(3), key=lambda i: -scores[i]) == [0, 2, 1]
    assert np.mean(scores) == pytest.approx(np.mean([1.0, -2.0, 1.1])), "on the scale of the logits"


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-30, 30)), max_size=30), st.floats(0.25, 4), st.floats(-1, 1))
def test_the_scale_of_the_search_does_not_matter(rows: list[tuple[float, float]], times: float, more: float) -> None:
    """Other models have other cosines."""
    found, logits = [score for score, _ in rows], [logit for _, logit in rows]
    moved = [score * times + more for score in found]
    if not rows or np.ptp(found) > 1e-3 or np.ptp(found) * times < 1e-7:
        assert blend(moved, logits, 0.5) == pytest.approx(blend(found, logits, 0.5), abs=1e-6)


def test_scores_that_are_all_alike_say_nothing() -> None:
    logits = [0.1, 3.0, -2.0]
    assert blend([0.7, 0.7 + 1e-9, 0.7], logits, 0.5) == pytest.approx(
        [0.5 * logit + 0.5 * np.mean(logits) for logit in logits]
    )
    assert blend([0.2, 0.9], [1.0, 1.0], 0.5) == [1.0, 1.0]
    assert blend([0.4], [2.0], 0.5) == [2.0]
    assert blend([], [], 0.5) == []
