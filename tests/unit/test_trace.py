"""Spans as values: what a batch and an answer become."""

from collections.abc import Sequence

import pytest

from penstock.core.records import Headers, Partition, Record
from penstock.core.work import Interval
from penstock.observe.spans import Span, answer_span, batch_span, context_of, record_failure, request_failure, trace_id

ONE = f"00-{'a' * 32}-{'b' * 16}-01"
OTHER = f"00-{'c' * 32}-{'d' * 16}-00"


def record(offset: int, headers: Headers = ()) -> Record:
    return Record(Partition("documents", 3), offset, b"key", b"value", headers)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([("traceparent", ONE.encode())], ONE),
        ([("Traceparent", OTHER.encode())], OTHER),
        ([("traceparent", b"nonsense")], ""),
        ([("traceparent", b"\xff")], ""),
        ([("traceparent", None)], ""),
        ([("traceparent", f"00-{'0' * 32}-{'b' * 16}-01".encode())], ""),
        ([("other", ONE.encode())], ""),
    ],
)
def test_the_context_of_a_record_is_its_traceparent_if_that_is_valid(
    headers: Sequence[tuple[str, bytes | None]], found: str
) -> None:
    assert context_of(tuple(headers)) == found
    assert trace_id(found) == (found[3:35] if found else "")


def test_a_batch_spans_its_stages_and_links_each_producer_once() -> None:
    headers = (("traceparent", ONE.encode()),)
    records = [record(5, headers), record(6), record(7, headers), record(8, (("traceparent", OTHER.encode()),))]
    stages = {"prepare": Interval(10, 20), "embed": Interval(25, 50), "write": Interval(50, 60)}
    span = batch_span(records, stages, {"indexed": 4})
    assert span is not None
    assert (span.name, span.kind, span.interval) == ("process documents", "consumer", Interval(10, 60))
    assert span.links == (ONE, OTHER)
    assert [(child.name, child.interval) for child in span.children] == list(stages.items())
    assert span.attributes["messaging.batch.message_count"] == 4
    assert (span.attributes["penstock.first"], span.attributes["penstock.last"]) == ("3:5", "3:8")
    assert span.attributes["penstock.indexed"] == 4


def test_a_batch_without_records_has_no_span() -> None:
    assert batch_span([], {"prepare": Interval(1, 2)}, {}) is None


def test_an_answer_ends_now_and_its_steps_fill_it() -> None:
    span = answer_span("POST /v1/search", "server", ONE, 1_000_000_000, {"embed": 2.0, "retrieve": 5.0}, 3)
    assert (span.kind, span.parent, span.interval) == ("server", ONE, Interval(993_000_000, 1_000_000_000))
    assert [child.interval for child in span.children] == [
        Interval(993_000_000, 995_000_000), Interval(995_000_000, 1_000_000_000),
    ]  # fmt: skip


def test_a_caller_whose_context_is_none_is_no_parent() -> None:
    span: Span = answer_span("POST /v1/search", "server", "nonsense", 10, {}, 0)
    assert span.parent == ""


@pytest.mark.parametrize(("status", "error"), [(400, ""), (499, ""), (500, "500"), (504, "504")])
def test_only_the_servers_own_fault_is_an_error_of_its_span(status: int, error: str) -> None:
    span = request_failure("search", ONE, Interval(1, 2), status)
    assert (span.name, span.parent, span.interval, span.error) == ("POST /v1/search", ONE, Interval(1, 2), error)
    assert span.attributes == {"http.response.status_code": status}


def test_a_query_without_an_answer_is_a_failed_span_under_its_sender() -> None:
    span = record_failure(record(7, (("traceparent", ONE.encode()),)), Interval(1, 2), "InvalidEvent")
    assert (span.name, span.kind, span.parent, span.error) == ("process documents", "consumer", ONE, "InvalidEvent")
    assert (span.attributes["messaging.destination.partition.id"], span.attributes["messaging.kafka.offset"]) == (
        "3",
        7,
    )
