"""What a query may ask of the order beside relevance."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.documents import ChunkKey, Order, Stored
from penstock.core.queries import Boost, Hit, Query, Ranked, Shaping
from penstock.fakes import MemoryStore
from penstock.query.ranking import in_order_of_retrieval, reranked
from penstock.query.search import Search
from penstock.query.served import Served
from penstock.query.shape import Shaper, diverse, freshness
from tests.unit.test_search import ask, encoder, query, scorer, stored

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def hit(document: str, score: float, chunk: int = 0, **fields: Any) -> Hit:
    fields = {"metadata": {}, "timestamp": None, "vector": None} | fields
    stored_form = Stored(Order(1, 1), 1)
    return Hit(ChunkKey("", document, chunk), score, stored_form, "", "", **fields)


def days_ago(days: float) -> str:
    return (NOW - timedelta(days=days)).isoformat()


def shaped(hits: list[Hit], limit: int | None = None, **wishes: Any) -> list[str]:
    ranked = in_order_of_retrieval(hits, Shaper(Shaping(**wishes), NOW, limit))
    return [f"{one.hit.key.document}/{one.hit.key.chunk}" for one in ranked]


@pytest.mark.parametrize(
    ("fields", "fresh"),
    [
        ({"timestamp": days_ago(0)}, 1.0),
        ({"timestamp": days_ago(10)}, 0.5),
        ({"timestamp": days_ago(20)}, 0.25),
        ({"timestamp": days_ago(-5)}, 1.0),
        ({}, 0.0),
        ({"timestamp": "yesterday"}, 0.0),
    ],
)
def test_freshness_halves_with_the_half_life(fields: dict[str, Any], fresh: float) -> None:
    assert freshness(hit("a", 1.0, **fields), Boost("timestamp", 10), NOW) == pytest.approx(fresh)


def test_the_newest_moment_in_the_metadata_counts() -> None:
    metadata = {"edits": [{"at": days_ago(40)}, {"at": days_ago(10)}, {"at": 7}]}
    assert freshness(hit("a", 1.0, metadata=metadata), Boost("metadata.edits[].at", 10), NOW) == pytest.approx(0.5)


def test_a_new_document_is_lifted_by_so_many_deviations_and_no_more() -> None:
    hits = [hit("old", 0.9, timestamp=days_ago(1000)), hit("new", 0.8, timestamp=days_ago(0)), hit("bad", 0.1)]
    assert shaped(hits) == ["old/0", "new/0", "bad/0"]
    assert shaped(hits, boost=Boost("timestamp", 10, 1.0)) == ["new/0", "old/0", "bad/0"]
    assert shaped(hits, boost=Boost("timestamp", 10, 0.1)) == ["old/0", "new/0", "bad/0"]
    ranked = in_order_of_retrieval(hits, Shaper(Shaping(Boost("timestamp", 10, 1.0)), NOW))
    assert ranked[0].score == pytest.approx(0.8 + float(np.std([0.9, 0.8, 0.1])))
    assert [one.retrieval_rank for one in ranked] == [2, 1, 3]
    by_both = reranked(hits, [2.0, 1.9, -3.0], 0.5, Shaper(Shaping(Boost("timestamp", 10, 1.0)), NOW))
    assert [one.hit.key.document for one in by_both] == ["new", "old", "bad"]
    assert all(0 <= one.score <= 1 for one in by_both)


def test_so_many_chunks_of_a_document_are_among_the_hits() -> None:
    hits = [hit("a", 0.9, 0), hit("a", 0.8, 1), hit("b", 0.7), hit("a", 0.6, 2)]
    assert shaped(hits) == ["a/0", "b/0"]
    assert shaped(hits, chunks_per_document=2) == ["a/0", "a/1", "b/0"]
    assert shaped(hits, 2, chunks_per_document=3) == ["a/0", "a/1"]


def test_of_what_says_the_same_the_best_comes_first_and_the_others_later() -> None:
    same, other = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)
    hits = [hit("a", 0.9, vector=same), hit("copy", 0.89, vector=same), hit("b", 0.5, vector=other), hit("c", 0.1)]
    assert shaped(hits) == ["a/0", "copy/0", "b/0", "c/0"]
    assert shaped(hits, diversity=0.5) == ["a/0", "b/0", "c/0", "copy/0"]
    assert shaped(hits, 2, diversity=0.5) == ["a/0", "b/0"]


VECTORS = st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 6)), min_size=1, max_size=12)


@given(VECTORS, st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_diversity_is_the_greedy_rule_written_out(rows: list[tuple[int, int]], share: float) -> None:
    """Against the definition, one step at a time; ties may fall either way."""
    angles = [(score, np.array([np.cos(at), np.sin(at)])) for score, at in sorted(rows, reverse=True)]
    ranked = [
        Ranked(hit(f"d{n}", float(score), vector=row.astype(np.float32)), float(score), n + 1)
        for n, (score, row) in enumerate(angles)
    ]
    low, wide = min(one.score for one in ranked), max(one.score for one in ranked) - min(one.score for one in ranked)
    before: list[Ranked] = []
    for one in diverse(ranked, share, None):

        def value(candidate: Ranked, before: list[Ranked] = before) -> float:
            likeness = max((float(candidate.hit.vector @ b.hit.vector) for b in before), default=0.0)  # type: ignore[operator]
            return (1 - share) * (candidate.score - low) / (wide or 1.0) - share * likeness

        left = [candidate for candidate in ranked if candidate not in before]
        if share:
            assert value(one) == pytest.approx(max(map(value, left)), abs=1e-5)
        before.append(one)
    assert len(before) == len(ranked)


def test_a_search_shapes_its_answer_and_fetches_vectors_only_to_compare_them() -> None:
    """Two copies of a text fill no two places where a query wants diversity."""
    texts = ("water drives the turbine", "water drives the turbine", "salt water")
    store: MemoryStore = stored(*((f"d{n}", text) for n, text in enumerate(texts)))
    for with_reranker in (None, scorer()):
        plain = ask(Search(Served(encoder(), store), with_reranker), query("water turbine", top_k=2))
        assert all(one.hit.vector is None for one in plain.documents)
        wanted: Query = query("water turbine", top_k=2, shaping=Shaping(diversity=0.6))
        various = ask(Search(Served(encoder(), store), with_reranker), wanted)
        assert len(various.documents) == 2
        assert "d2" in {one.hit.key.document for one in various.documents}
        assert all(one.hit.vector is not None for one in various.documents)
