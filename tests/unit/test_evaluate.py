"""How good a search is: the metrics on small cases done by hand, and the files that say what is relevant."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.documents import ChunkKey, Order, Stored
from penstock.core.errors import Misconfigured
from penstock.core.queries import Hit
from penstock.evaluate.advice import compared, weight_of_both
from penstock.evaluate.bootstrap import gain
from penstock.evaluate.exact import dimensions, documents, ranked
from penstock.evaluate.labelled import LabelledQuery, read, sampled
from penstock.evaluate.metrics import measure, ndcg_by_query
from penstock.models.quality import ndcg


def test_metrics_are_those_done_by_hand() -> None:
    judged = {"q1": {"a": 1, "b": 1}, "q2": {"c": 1}}
    found = measure(judged, {"q1": ["x", "a", "y"], "q2": []}, (1, 3))
    ideal = 1 + 1 / math.log2(3)
    assert found == {
        "nDCG@10": pytest.approx((1 / math.log2(3)) / ideal / 2),
        "R@1": 0.0,
        "R@3": pytest.approx(0.25),
        "RR@10": pytest.approx(0.25),
    }


def test_grades_count_in_ndcg() -> None:
    judged = {"q": {"good": 2, "fair": 1}}
    best, worse = (measure(judged, {"q": run}, (10,))["nDCG@10"] for run in (["good", "fair"], ["fair", "good"]))
    assert best == pytest.approx(1)
    assert worse == pytest.approx((1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3)))


@given(st.lists(st.sampled_from("abcdefghijklmn"), unique=True), st.sets(st.sampled_from("abcdefghijklmn"), min_size=1))
def test_binary_ndcg_agrees_with_the_one_of_the_quality_gate(run: list[str], relevant: set[str]) -> None:
    judged = {"q": dict.fromkeys(relevant, 1)}
    assert measure(judged, {"q": run}, (10,))["nDCG@10"] == pytest.approx(ndcg(run, relevant))


def test_each_query_has_its_own_ndcg_and_one_that_found_nothing_has_none() -> None:
    judged = {"q2": {"c": 1}, "q1": {"a": 1}, "q3": {"d": 1}}
    run = {"q1": ["x", "a"], "q2": ["c"], "q3": ["x"]}
    assert ndcg_by_query(judged, run) == [1.0, pytest.approx(1 / math.log2(3)), 0.0]
    assert ndcg_by_query(judged, {}) == [0.0, 0.0, 0.0]


def test_the_interval_of_a_gain_is_that_of_the_normal_law_for_many_queries() -> None:
    rng = np.random.default_rng(3)
    before = rng.uniform(size=2000)
    after = before + rng.normal(0.05, 0.2, 2000)
    found = gain(before.tolist(), after.tolist(), 1)
    error = float(np.std(after - before)) / math.sqrt(2000)
    assert found.difference == pytest.approx(float(np.mean(after - before)))
    assert found.low == pytest.approx(found.difference - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(found.difference + 1.96 * error, abs=0.1 * error)
    assert gain(before.tolist(), after.tolist(), 1) == found
    assert gain([0.2, 0.9], [0.2, 0.9], 1) == (0.0, 0.0, 0.0)


def test_a_sample_of_the_queries_is_always_the_same_and_in_their_order() -> None:
    labelled = [LabelledQuery(str(n), "text", {"a": 1}) for n in range(100)]
    some = sampled(labelled, 10)
    assert some == sampled(labelled, 10)
    assert [int(one.id) for one in some] == sorted({int(one.id) for one in some})
    assert len(some) == 10
    assert sampled(labelled, 1000) == labelled


def test_the_shipped_queries_name_documents_of_the_demo() -> None:
    import json

    from penstock.demo import corpus

    names = {json.loads(line)["id"] for line in corpus.event_lines()}
    labelled = read(corpus.LABELLED, None)
    assert len(labelled) == 64
    assert {document for one in labelled for document in one.relevant} <= names


def test_json_lines_and_trec_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"id": "1", "query": "wind", "relevant": {"a": 2, "b": 0}}\n\n'
        '{"id": "2", "query": "water", "relevant": ["c"]}\n{"id": "3", "query": "none", "relevant": []}\n'
    )
    (tmp_path / "qrels.txt").write_text("1 0 a 2\n1 0 b 0\n2 0 c 1\n")
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t2\n2\tc\t1\n")
    (tmp_path / "topics.tsv").write_text("1\twind\n2\twater\n9\tnobody asks\n")
    (tmp_path / "topics.jsonl").write_text('{"_id": "1", "text": "wind"}\n{"id": 2, "query": "water"}\n')
    (tmp_path / "b.jsonl").write_text('{"id": "1", "query": "a\u2028b", "relevant": ["a"]}\n', encoding="utf-8")
    assert read(tmp_path / "b.jsonl", None)[0].text == "a\u2028b"
    expected = [LabelledQuery("1", "wind", {"a": 2}), LabelledQuery("2", "water", {"c": 1})]
    assert read(tmp_path / "a.jsonl", None) == expected
    for name in ("a.jsonl", "topics.tsv"):  # as Windows saves them
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (tmp_path / name).read_bytes())
    assert read(tmp_path / "a.jsonl", None) == expected
    for qrels in ("qrels.txt", "qrels.tsv"):
        for topics in ("topics.tsv", "topics.jsonl"):
            assert read(tmp_path / qrels, tmp_path / topics) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no query has a relevant document"),
        ("1 0 a 1\n", "line 1: not .*--queries"),
        ('{"query": "x", "relevant": ["a"]}\n[]\n', "line 2"),
        ('{"query": "", "relevant": ["a"]}\n', "line 1: .*a query is a text"),
        ('{"query": "x", "relevant": {"a": "much"}}\n', "line 1"),
        ('{"query": "x", "relevant": "abc"}\n', "line 1: .*relevant is a list"),
        ('{"query": "x", "relevant": {"a": 1.5}}\n', "line 1: .*whole grades"),
        ('{"query": "x", "relevant": ["a", 7]}\n', "line 1: .*relevant is a list"),
        ('{"id": 1, "query": "x", "relevant": ["a"]}\n{"id": 1, "query": "y", "relevant": ["a"]}\n', "same id"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(Misconfigured, match=said):
        read(tmp_path / "a.jsonl", None)


def test_wrong_qrels_and_topics_are_named(tmp_path: Path) -> None:
    (tmp_path / "topics").write_text("1\twind\n")
    for qrels, said in (
        ("1 0 a 1\n2 0 b 1\n", "query '2' is not in"),
        ("1 0 a 1\n1 a\n", "line 2"),
        ("1 0 a 1.5\n1 0 b 1\n", "line 1: .*whole grade"),
    ):
        (tmp_path / "qrels").write_text(qrels)
        with pytest.raises(Misconfigured, match=said):
            read(tmp_path / "qrels", tmp_path / "topics")
    (tmp_path / "topics").write_text("no tab\n")
    with pytest.raises(Misconfigured, match="line 1: an id, a tab and a text"):
        read(tmp_path / "qrels", tmp_path / "topics")
    with pytest.raises(Misconfigured, match="No such file"):
        read(tmp_path / "nothing", None)
    (tmp_path / "qrels").write_bytes(b"\xff")
    with pytest.raises(Misconfigured, match="not UTF-8"):
        read(tmp_path / "qrels", None)


def test_exact_search_cuts_then_normalizes() -> None:
    chunks = [Hit(ChunkKey("", name, n), 0, Stored(Order(1, 1), 1), "", "", {}) for n, name in enumerate("aab")]
    rows = np.array([[1, 0, 0], [0.1, 0, 1], [0.6, 0.8, 0]], dtype=np.float32)
    query = np.array([[1, 0, 0]], dtype=np.float32)
    (short,) = ranked(chunks, rows, query, 1, 3)
    assert [round(hit.score, 6) for hit in short] == [1, 1, 1]
    (whole,) = ranked(chunks, rows, query, 3, 3)
    assert [hit.key.chunk for hit in whole] == [0, 2, 1]
    assert documents(whole) == ["a", "b"]


def test_dimensions_are_powers_of_two_and_the_widest() -> None:
    assert dimensions(384) == [32, 64, 128, 256, 384]
    assert dimensions(64) == [32, 64]
    assert dimensions(20) == [20]


def test_what_to_serve_is_what_is_better_and_surely_so() -> None:
    low, middle, high = [0.2, 0.4] * 50, [0.4, 0.6] * 50, [0.7, 0.8] * 50
    gains, said = compared({"search": low, "reranker": middle, "both": high}, 0.5)
    assert set(gains) == {"reranker over search", "both over search", "both over reranker"}
    assert gains["both over search"].difference == pytest.approx(0.45)
    assert gains["both over search"].low > 0.4
    assert said.startswith("serve PENSTOCK_RERANK__WEIGHT=0.5: +0.4500 over the search")
    assert compared({"search": low, "reranker": high, "both": middle}, 0.5)[1].startswith(
        "serve PENSTOCK_RERANK__WEIGHT=1: "
    )
    assert "PENSTOCK_RERANK__ENABLED=false" in compared({"search": high, "reranker": low}, 1.0)[1]
    assert "PENSTOCK_RERANK__ENABLED=false" in compared({"search": low, "reranker": low}, 1.0)[1], "for nothing"


def test_a_smaller_gain_that_is_sure_goes_before_a_larger_one_that_may_be_chance() -> None:
    search, noisy, steady = [0.5] * 100, [1.06, 0.06] * 50, [0.54] * 100
    gains, said = compared({"search": search, "reranker": noisy, "both": steady}, 0.5)
    assert gains["reranker over search"].difference > gains["both over search"].difference
    assert said == "serve PENSTOCK_RERANK__WEIGHT=0.5: +0.0400 over the search alone"


def test_both_are_measured_even_where_one_alone_is_served() -> None:
    assert [weight_of_both(served) for served in (0.0, 0.3, 1.0)] == [0.5, 0.3, 0.5]


def test_a_gain_that_may_be_chance_is_called_so() -> None:
    search, both = [0.5, 0.5, 0.5, 0.5], [1.0, 0.2, 0.9, 0.1]
    gains, said = compared({"search": search, "reranker": [0.0] * 4, "both": both}, 0.25)
    assert gains["both over search"].low < 0 < gains["both over search"].difference
    assert said == "PENSTOCK_RERANK__WEIGHT=0.25 looks best, but 4 queries cannot tell it from the search alone"
