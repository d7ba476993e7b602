"""Whatever comes from outside is answered or given up, one by one: nothing in it ends a worker."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from penstock.adapters.qdrant.filters import readable
from penstock.assembly.index import IndexWorker
from penstock.assembly.membership import Stream
from penstock.assembly.monitor import Monitor
from penstock.core.errors import InvalidEvent, Unforeseen
from penstock.core.filters import Filter, matches
from penstock.core.queries import Lookup
from penstock.core.records import Outcome, Partition, Record
from penstock.events.document import decode
from penstock.events.rules import DocumentRules
from penstock.events.validation import parse
from penstock.fakes import HashEmbedder, MemoryDeadLetters, MemorySource, MemoryStore, WordTokenizer, unchanging
from penstock.index.chunking import Chunker, ChunkRules
from penstock.query import stages
from penstock.query.http.model_bodies import EmbeddingsBody, RerankBody
from penstock.query.requests import Limits, read_query
from penstock.query.stages import QueryRules
from penstock.settings import IndexSettings, MonitorSettings
from tests.unit.test_query_worker import Bench, bench  # noqa: F401  # a fixture

NOW = datetime(2026, 11, 27, tzinfo=UTC)

DOCUMENT: dict[str, Any] = {
    "id": "mill/1", "tenant": "acme", "version": 3, "op": "upsert", "title": "Mill", "text": "A mill by a river.",
    "language": "en", "timestamp": "2026-11-27T12:00:00Z", "expires_at": "2030-01-01T00:00:00Z",
    "metadata": {"wheels": [{"metres": 4.5}, {"metres": 3}], "open": True},
}  # fmt: skip
QUERY: dict[str, Any] = {
    "id": "q", "tenant": "acme", "query": "mill", "instruction": "find mills", "top_k": 3, "candidates": 9,
    "rerank": True, "after": {"topic": "documents", "partition": 0, "offset": 4}, "timeout_ms": 100,
    "filter": {
        "all": [
            {"field": "language", "any_of": ["en", "de"]},
            {"any": [{"field": "metadata.open", "equals": True}, {"field": "timestamp", "exists": True}]},
            {"not": {"field": "metadata.metres", "range": {"gt": 1, "lte": 4.5}}},
        ]
    },
}  # fmt: skip
EMBEDDINGS: dict[str, Any] = {"input": ["a", "b"], "dimensions": 8, "input_type": "query", "instruction": "find"}
RERANK: dict[str, Any] = {"query": "a", "documents": ["b", {"text": "c"}], "top_n": 1, "return_documents": True}

JUNK: st.SearchStrategy[object] = st.sampled_from(
    [None, [], {}, "", " ", 0, -1, 2**63, 2**64, 1e308, True, [None], {"all": None}, {"": {}}]
)


def with_each_part_as(value: Any, junk: Any) -> Iterator[Any]:
    """The value once for each of its parts, itself among them, with junk in that place."""
    yield junk
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        for changed in with_each_part_as(part, junk):
            copy = value.copy()
            copy[name] = changed
            yield copy


def read_document(value: bytes) -> None:
    for rules in (DocumentRules(tenant_from="fixed", tenant="acme"), DocumentRules(order="event", keyed=False)):
        decode(Record(Partition("documents", 0), 0, None, value), rules)


def read_and_translate(value: bytes) -> None:
    query = stages.decode(Record(Partition("queries", 0), 0, b"key", value), QueryRules(Limits(), ("replies",)))
    readable(Lookup(np.zeros(2, dtype=np.float32), query.tenant, 5, NOW, query.filter))
    if query.filter is not None:
        matches(query.filter, DOCUMENT)


READERS = [
    (DOCUMENT, read_document),
    (QUERY, read_and_translate),
    (EMBEDDINGS, lambda value: parse(EmbeddingsBody, value)),
    (RERANK, lambda value: parse(RerankBody, value)),
]


@pytest.mark.parametrize(("body", "read"), READERS, ids=["document", "query", "embeddings", "rerank"])
@given(junk=JUNK)
def test_a_body_with_junk_anywhere_is_read_or_refused_and_surprises_nobody(body: Any, read: Any, junk: object) -> None:
    for changed in with_each_part_as(body, junk):
        refusal = ""
        try:
            read(json.dumps(changed).encode())
        except Unforeseen as surprise:
            pytest.fail(f"{changed}: {surprise}")
        except InvalidEvent as error:
            refusal = str(error)
        assert "\n" not in refusal


@pytest.mark.parametrize(
    "only",
    [
        {"all": None},
        {"any": None},
        {"not": None},
        {"field": "language", "any_of": None},
        {"field": "language", "equals": None},
        {"field": "timestamp", "range": None},
        {"all": [{"all": None}]},
    ],
    ids=json.dumps,
)
def test_null_is_no_condition(only: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent, match="null is no condition"):
        read_query(json.dumps({"query": "x", "filter": only}).encode(), Limits())


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ({"field": "timestamp", "range": {"gte": "20260301"}}, "filter.range.gte.moment: not RFC 3339, like "),
        (
            {"field": "timestamp", "range": {"lt": "2026-03-01T00:00:00"}},
            "filter.range.lt.moment: a moment needs a zone",
        ),
        ({"field": "language", "any_of": ["de", 5]}, "filter.any_of.words.1: Input should be a valid string"),
        ({"field": "metadata.year", "any_of": [5, "de"]}, "filter.any_of.integers.1: Input should be a valid integer"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_value_is_told_of_the_kind_that_it_seems_to_be(only: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        read_query(json.dumps({"query": "x", "filter": only}).encode(), Limits())
    assert str(caught.value).startswith(said)
    assert ";" not in str(caught.value).replace("; this is", "")


def test_a_filter_without_null_is_read_as_before() -> None:
    body = read_query(json.dumps(QUERY).encode(), Limits())
    assert body.filter == Filter.model_validate(QUERY["filter"])


def test_a_record_whose_reading_is_a_bug_is_a_letter_with_a_stack_trace_and_the_stream_goes_on() -> None:
    """The rules of this worker cannot be right: it raises where it compares."""
    source, letters = MemorySource(), MemoryDeadLetters()
    source.append(b"a", b'{"id": "a", "text": "whole"}')
    source.append(b"b", None)
    monitor = Monitor.of(["documents"], MonitorSettings())
    broken: Any = None
    stream = Stream(source, letters, DocumentRules(max_bytes=broken))
    chunks = Chunker(WordTokenizer(), ChunkRules(16, 4, title=True, prompt="", most=6))
    worker = IndexWorker(IndexSettings(), stream, unchanging, MemoryStore(), chunks, 1, HashEmbedder(), monitor)
    with structlog.testing.capture_logs() as logged:
        report = worker.run(threading.Event())
    assert report.totals[Outcome.DEAD_LETTERED] == 1
    assert report.totals.total() == 2
    (letter,) = letters.letters
    assert isinstance(letter.error, Unforeseen)
    assert "cannot be read: TypeError" in str(letter.error)
    (line,) = [line for line in logged if line["event"] == "dead_letter"]
    assert isinstance(line["exc_info"], TypeError)
    assert line["exc_info"].__traceback__ is not None
    assert 'penstock_unforeseen_total{where="decode"} 1.0' in monitor.metrics.text().decode()


def test_a_query_whose_reading_is_a_bug_is_a_letter_and_its_sender_hears(bench: Bench) -> None:  # noqa: F811
    broken: Any = None
    bench.rules = QueryRules(Limits(most_characters=broken), ("replies",))
    bench.ask({"query": "water"})
    bench.ask({"query": ""})
    assert bench.run().totals[Outcome.DEAD_LETTERED] == 2
    assert "cannot be read: TypeError" in bench.answers()[0][1]["error"]
    assert 'penstock_unforeseen_total{where="decode"} 1.0' in bench.metrics.text().decode()


def test_a_filter_of_nulls_ends_no_query_worker(bench: Bench) -> None:  # noqa: F811
    bench.ask({"query": "water", "filter": {"all": None}})
    bench.ask({"query": "water"})
    assert +bench.run().totals == {Outcome.ANSWERED: 1, Outcome.DEAD_LETTERED: 1}
    assert "null is no condition" in bench.answers()[1][1]["error"]
