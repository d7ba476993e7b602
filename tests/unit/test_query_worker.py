"""Queries over a topic, over the shipped fakes: each is answered or given up, and whoever waits hears of it."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from penstock.assembly.stream import Loop, Retries
from penstock.core.errors import NotFinite, Overdue, Unavailable
from penstock.core.queries import Lookup
from penstock.core.records import OF_QUERIES, Headers, Message, Outcome, Partition
from penstock.core.vectors import Vector
from penstock.fakes import MemoryDeadLetters, MemoryProgress, MemoryReplies, MemorySource, OverlapReranker, unchanging
from penstock.observe.live import Reporter
from penstock.observe.query_metrics import QueryMetrics
from penstock.observe.spans import NoTracer
from penstock.query.http.server import EventLoopThread
from penstock.query.requests import Limits
from penstock.query.search import Search
from penstock.query.served import Served
from penstock.query.stages import Decode, QueryRules, QueryWork, Reply, Rerank, Retrieve
from penstock.stream.pipeline import Stage
from penstock.stream.retry import Retry
from tests.unit.test_search import Recorder, encoder, scorer, stored
from tests.unit.test_worker import Overflowing


class Away:
    """Answers that cannot be sent at first."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.inner = MemoryReplies()

    def put(self, messages: Sequence[Message]) -> None:
        if self.times:
            self.times -= 1
            raise Unavailable("away")
        self.inner.put(messages)

    def close(self, timeout_s: float) -> None:
        self.inner.close(timeout_s)


class Bench:
    """A query worker over fakes."""

    def __init__(self, event_loop: EventLoopThread) -> None:
        self.event_loop = event_loop
        self.source = MemorySource("queries", most=50)
        self.letters = MemoryDeadLetters()
        self.replies: Any = MemoryReplies()
        self.store: Any = Recorder(stored(("hydro", "water drives the turbine"), ("sea", "salt water")))
        self.search = Search(Served(encoder(), self.store), scorer())
        self.metrics = QueryMetrics()
        self.rules = QueryRules(Limits(), ("replies", "own.replies"))

    def ask(self, value: object, key: bytes | None = b"key", headers: Headers = ()) -> None:
        raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
        self.source.append(key, raw, headers=headers)

    def run(self) -> Reporter:
        def stages(retries: Retries) -> list[Stage[QueryWork]]:
            retry, _metrics = Retry(lambda _: 0.01, lambda *_: None, retries.ended), self.metrics
            return [
                Stage("decode", Decode(self.rules)),
                Stage("retrieve", Retrieve(self.search, self.event_loop.run, retry)),
                Stage("rerank", Rerank(self.search, self.event_loop.run)),
                Stage(
                    "reply", Reply(unchanging(None), self.replies, self.letters, retry, None, self.metrics, NoTracer())
                ),
            ]

        return Loop(
            source=self.source,
            dead_letters=self.letters,
            stages=stages,
            begin=QueryWork,
            batch_bytes=1 << 30,
            drain_timeout_s=5.0,
            outcomes=OF_QUERIES,
        ).run(threading.Event())

    def answers(self, replies: MemoryReplies | None = None) -> list[tuple[str, Mapping[str, Any]]]:
        messages = (replies or self.replies).messages
        return [(message.topic, json.loads(message.value)) for message in messages]


@pytest.fixture
def bench() -> Iterator[Bench]:
    event_loop = EventLoopThread()
    made = Bench(event_loop)
    yield made
    made.search.close()
    event_loop.close()


def test_every_query_is_answered_with_its_key_and_its_correlation_id(bench: Bench) -> None:
    bench.ask({"id": "1", "query": "water turbine"}, b"k1", (("correlation_id", b"\x00\xff"), ("other", b"x")))
    bench.ask({"query": "salt"}, b"k2")
    report = bench.run()
    first, second = bench.replies.messages
    assert (first.topic, first.key, first.headers) == ("replies", b"k1", (("correlation_id", b"\x00\xff"),))
    body = json.loads(first.value)
    assert (body["id"], body["reranked"], [hit["document"] for hit in body["hits"]]) == ("1", True, ["hydro", "sea"])
    assert json.loads(second.value)["id"] == "k2"
    assert report.totals == {Outcome.ANSWERED: 2}
    assert bench.source.committed == {Partition("queries", 0): 2}


def test_the_queries_of_a_poll_are_embedded_together_and_looked_up_in_one_request(bench: Bench) -> None:
    for n in range(30):
        bench.ask({"query": f"water {n}"}, str(n).encode())
    bench.run()
    assert [body["id"] for _, body in bench.answers()] == [str(n) for n in range(30)]
    assert bench.search.served.embed.batches == 1
    assert bench.store.searches == [30]


def test_the_answer_goes_where_the_header_wants_if_that_is_allowed(bench: Bench) -> None:
    bench.ask({"query": "a"}, headers=(("reply_to", b"own.replies"),))
    bench.ask({"query": "b"}, headers=(("reply_to", b"secrets"),))
    bench.ask({"query": "c"}, headers=(("reply_to", b"\xff\xfe"),))
    bench.run()
    answers = dict(bench.answers())
    assert "error" not in answers["own.replies"]
    errors = [body["error"] for topic, body in bench.answers() if topic == "replies"]
    assert errors[0].startswith("header reply_to names 'secrets'; allowed are replies, own.replies")
    assert errors[1].startswith("header reply_to is not UTF-8")
    assert [letter.record.offset for letter in bench.letters.letters] == [1, 2]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"\xff", "not UTF-8: byte 0xff"),
        (b"", "the value is empty"),
        (None, "the value is null"),
        ({"query": ""}, "query: is empty"),
        ({"query": "x" * 8193}, "8193 characters"),
        ({"query": "x", "top_k": 0}, "top_k"),
        ({"query": "x", "top_k": 10**6}, "1000000 is more than 100"),
        ({"query": "x", "candidates": 501}, "501 is more than 500"),
        ({"query": "x", "timeout_ms": 60001}, "60001 is more than 60000"),
        ({"query": "word " * 70}, "at most 64 are allowed"),
        ({"query": "x", "filter": {"field": "tenant", "equals": "other"}}, "there is no field 'tenant'"),
        ({"query": "x", "after": {"topic": "t", "partition": 0, "offset": 1}}, r"query\.follow"),
        ({"query": b"\xed\xa0\x80".decode("utf-8", "surrogatepass")}, "surrogate|unicode|Invalid JSON"),
    ],
)
def test_what_is_no_query_becomes_a_dead_letter_and_its_sender_hears(bench: Bench, value: object, said: str) -> None:
    bench.ask(value, b"mine", (("correlation_id", b"7"),))
    bench.ask({"query": "water"}, b"next")
    report = bench.run()
    (letter,) = bench.letters.letters
    assert (letter.record.offset, letter.record.key) == (0, b"mine")
    refused = next(one for one in bench.replies.messages if one.key == b"mine")
    assert refused.headers == (("correlation_id", b"7"),)
    assert json.loads(refused.value) == {"id": "mine", "error": str(letter.error)}
    assert re.search(said, str(letter.error))
    assert report.totals == {Outcome.ANSWERED: 1, Outcome.DEAD_LETTERED: 1}


def test_a_query_that_nobody_could_tell_from_others_is_refused(bench: Bench) -> None:
    bench.ask({"query": "water"}, None)
    bench.run()
    assert "neither id nor key" in str(bench.letters.letters[0].error)


def test_an_outage_of_the_store_is_waited_out_and_nothing_is_lost(bench: Bench) -> None:
    bench.ask({"query": "water"})
    bench.store.away = True
    threading.Timer(0.3, lambda: setattr(bench.store, "away", False)).start()
    report = bench.run()
    assert len(bench.store.searches) > 2
    assert report.totals == {Outcome.ANSWERED: 1}
    assert bench.letters.letters == []


def test_a_query_that_takes_the_store_too_long_is_given_up_and_the_others_are_answered(bench: Bench) -> None:
    search: Callable[..., Any] = bench.store.search

    def slow(lookups: Sequence[Lookup]) -> Any:
        if any(one.tenant == "huge" for one in lookups):
            raise Overdue("deadline_exceeded")
        return search(lookups)

    bench.store.search = slow
    bench.ask({"id": "slow", "query": "water", "tenant": "huge"})
    bench.ask({"id": "fast", "query": "water"})
    assert bench.run().totals == {Outcome.ANSWERED: 1, Outcome.TOO_LATE: 1}
    said = {body["id"]: body.get("error", "") for _, body in bench.answers()}
    assert said["fast"] == ""
    assert "no answer in time" in said["slow"]


def test_a_query_of_which_the_model_makes_no_number_is_refused_and_the_others_are_answered(bench: Bench) -> None:
    bench.search = Search(Served(replace(encoder(), embedder=Overflowing()), bench.store), scorer())
    bench.ask({"query": "water turbine"}, b"k1")
    bench.ask({"query": "huge"}, b"k2")
    report = bench.run()
    assert report.totals == {Outcome.ANSWERED: 1, Outcome.DEAD_LETTERED: 1}
    assert "made no finite numbers" in str(bench.letters.letters[0].error)


def test_where_the_reranker_makes_no_number_the_order_of_the_search_stands_and_that_is_said(bench: Bench) -> None:
    class Broken(OverlapReranker):
        def logits(self, pairs: Sequence[Sequence[int]]) -> Vector:
            values = super().logits(pairs)
            values[0] = np.nan
            raise NotFinite([0], values)

    bench.search = Search(Served(encoder(), bench.store), scorer(Broken()))
    bench.ask({"query": "water turbine"}, b"k1")
    bench.run()
    ((_, answer),) = bench.answers()
    assert answer["reranked"] is False
    assert "made no finite numbers" in answer["not_reranked"]


def test_an_outage_of_the_topic_for_answers_is_waited_out(bench: Bench) -> None:
    bench.replies = Away(3)
    bench.ask({"query": "water"})
    assert bench.run().totals == {Outcome.ANSWERED: 1}
    assert len(bench.answers(bench.replies.inner)) == 1


def test_an_answer_too_large_for_its_topic_is_a_dead_letter_and_the_others_are_sent(bench: Bench) -> None:
    bench.replies = MemoryReplies(most=700)
    bench.ask({"id": "large" * 50, "query": "water"}, b"large")
    bench.ask({"query": "water", "top_k": 1}, b"small")
    assert bench.run().totals == {Outcome.ANSWERED: 1, Outcome.DEAD_LETTERED: 1}
    said = {body["id"]: body.get("error", "") for _, body in bench.answers()}
    assert said["small"] == ""
    assert "too many for replies" in said["large" * 50]


@pytest.mark.parametrize(
    ("rules", "headers", "body", "tenant"),
    [
        ({"tenant_from": "body"}, (), {"tenant": "acme"}, "acme"),
        ({"tenant_from": "fixed", "tenant": "acme"}, (), {}, "acme"),
        ({"tenant_from": "header"}, (("tenant", b"acme"),), {"tenant": "acme"}, "acme"),
        ({"tenant_from": "header"}, (("tenant", b"acme"),), {"tenant": "other"}, "names tenant 'other'"),
        ({"tenant_from": "header"}, (), {}, "has 0 headers"),
        ({"tenant_from": "fixed", "tenant": "acme"}, (), {"tenant": "other"}, "its fixed says 'acme'"),
    ],
)
def test_the_tenant_comes_from_where_the_rules_say(
    bench: Bench, rules: dict[str, Any], headers: Headers, body: dict[str, str], tenant: str
) -> None:
    bench.rules = QueryRules(Limits(), ("replies",), **rules)
    asked: list[str] = []
    search: Callable[..., Any] = bench.store.search

    def watched(lookups: Sequence[Lookup]) -> Any:
        asked.extend(one.tenant for one in lookups)
        return search(lookups)

    bench.store.search = watched
    bench.ask({"query": "water"} | body, headers=headers)
    bench.run()
    if bench.letters.letters:
        assert tenant in str(bench.letters.letters[0].error)
        assert asked == []
    else:
        assert set(asked) == {tenant}


def test_a_query_that_is_too_late_is_told_so_and_is_no_dead_letter(bench: Bench) -> None:
    search = bench.store.search

    def slow(lookups: Any) -> Any:
        threading.Event().wait(0.3)
        return search(lookups)

    bench.store.search = slow
    bench.ask({"query": "water", "timeout_ms": 50}, b"late")
    assert +bench.run().totals == {Outcome.TOO_LATE: 1}
    assert bench.answers() == [("replies", {"id": "late", "error": "no answer within 0.05 s"})]
    assert bench.letters.letters == []


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ({"query": "x", "y" * 900_000: 1}, b"k"),
        ({"query": "x", "filter": {"field": "y" * 900_000, "equals": 1}}, b"k"),
        ({"query": "x", "top_k": 0}, b"\xff" * 5000),
    ],
    ids=["field", "filter", "key"],
)
def test_however_long_what_is_wrong_the_refusal_is_short(bench: Bench, value: object, key: bytes) -> None:
    bench.replies = MemoryReplies(most=1000)
    bench.ask(value, key)
    bench.ask({"query": "water", "top_k": 1}, b"next")
    assert +bench.run().totals == {Outcome.ANSWERED: 1, Outcome.DEAD_LETTERED: 1}
    assert len(str(bench.letters.letters[0].error)) < 700
    assert len(bench.answers()) == 2


def test_a_refusal_that_no_topic_takes_is_left_to_the_dead_letter(bench: Bench) -> None:
    bench.replies = MemoryReplies(most=10)
    bench.ask({"query": ""})
    assert +bench.run().totals == {Outcome.DEAD_LETTERED: 1}


def test_one_query_that_waits_costs_the_others_of_its_poll_no_reranking(bench: Bench) -> None:
    progress = MemoryProgress("documents")
    bench.search = Search(Served(encoder(), bench.store, progress), scorer())
    threading.Timer(0.6, lambda: progress.done.update({0: 1})).start()
    bench.ask({"query": "water", "after": {"topic": "documents", "partition": 0, "offset": 0}}, b"waits")
    bench.ask({"query": "water", "timeout_ms": 400}, b"does not")
    assert +bench.run().totals == {Outcome.ANSWERED: 2}
    assert [body["reranked"] for _, body in bench.answers()] == [True, True]


def test_records_of_the_topic_are_in_the_metrics(bench: Bench) -> None:
    bench.ask({"query": "water"})
    bench.ask({"query": ""})
    report = bench.run()
    text = bench.metrics.text().decode()
    for line in (
        'penstock_query_records_total{outcome="answered"} 1.0',
        'penstock_query_records_total{outcome="dead_lettered"} 1.0',
        'penstock_query_step_seconds_count{step="rerank"} 1.0',
    ):
        assert line in text
    assert report.tokens == 2
