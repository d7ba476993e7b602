"""What Prometheus reads: that the first of anything is a change, and which record is told as new, slow or late."""

import re
from collections.abc import Sequence

import pytest

from penstock.assembly.monitor import Monitor
from penstock.core.errors import InvalidEvent, Refused
from penstock.core.records import OF_QUERIES, Batch, Headers, Outcome, Partition, Record
from penstock.core.work import Work
from penstock.observe.health import Health
from penstock.observe.index_metrics import IndexMetrics
from penstock.observe.lag_metrics import STALE_S, Behind, GroupLag, LagMetrics
from penstock.observe.metrics import Metrics
from penstock.observe.query_metrics import QueryMetrics
from penstock.observe.spans import Span, Tracer, exemplar
from penstock.observe.watch import Watch, kind_of
from penstock.settings import MonitorSettings

HERE = Partition("wiki", 0)
TRACE = "a" * 32
SAMPLED, UNSAMPLED = (f"00-{TRACE}-{'b' * 16}-{flags}" for flags in ("01", "00"))
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


class Collected(Tracer):
    def __init__(self) -> None:
        self.spans: list[Span] = []

    def emit(self, span: Span) -> None:
        self.spans.append(span)

    def close(self) -> None:
        pass


def record(offset: int, produced_s: float = 0.0, headers: Headers = (), partition: Partition = HERE) -> Record:
    return Record(partition, offset, b"", b"", headers, timestamp_ms=int(produced_s * 1000))


def series(metrics: Metrics, name: str) -> dict[str, float]:
    """By labels, as they are written."""
    found = re.findall(rf"^{name}{{(.*)}} (\S+)$", metrics.text().decode(), re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def done(metrics: IndexMetrics, records: Sequence[Record], *, traced: bool = False) -> None:
    metrics.batch(Work(Batch(tuple(records), {})), traced=traced)


def watched(metrics: IndexMetrics) -> Watch:
    watch = Watch()
    metrics.watch(watch, {}, {})
    return watch


@pytest.mark.parametrize(("offset", "kind"), [(99, "backlog"), (100, "live"), (101, "live")])
def test_a_record_is_live_from_where_its_partition_ended_when_it_was_assigned(offset: int, kind: str) -> None:
    assert kind_of(offset, 100) == kind


def test_the_end_at_the_assignment_is_what_the_broker_told_first_and_is_told_anew_after_another() -> None:
    watch = Watch()
    watch.polled(HERE, 5, 8, [])
    assert watch.assigned_ends() == {}, "what was read is no end"
    for end in (20, 30):
        watch.ends({HERE: end})
    assert watch.assigned_ends() == {HERE: 20}
    watch.revoked([HERE])
    assert watch.assigned_ends() == {HERE: 20}, "its last batches may still be under way"
    watch.polled(HERE, 30, 30, [])
    watch.ends({HERE: 40})
    assert watch.assigned_ends() == {HERE: 40}


def test_freshness_of_what_lay_there_before_is_told_apart() -> None:
    metrics = IndexMetrics(["wiki"], clock=lambda: 1000.0)
    watch = watched(metrics)
    watch.polled(HERE, 0, 2, [])
    watch.ends({HERE: 2})
    done(metrics, [record(0, 10.0), record(1, 20.0), record(2, 995.0), record(0, 999.0, partition=Partition("new", 3))])
    count = "penstock_index_freshness_seconds_count"
    assert series(metrics, count) == {
        'kind="backlog",topic="wiki"': 2, 'kind="live",topic="wiki"': 1, 'kind="live",topic="new"': 1,
    }  # fmt: skip
    newest = "penstock_index_newest_record_timestamp_seconds"
    assert series(metrics, newest) == {'topic="wiki"': 995.0, 'topic="new"': 999.0}


def test_what_an_alert_waits_for_is_there_before_the_first_of_it() -> None:
    metrics = IndexMetrics(["wiki"])
    watch = watched(metrics)
    for topic in ("wiki", "later"):
        watch.polled(Partition(topic, 1), 7, 7, [])
        letters = series(metrics, "penstock_index_dead_letters_total")
        reasons = {("decode", "InvalidEvent"), ("decode", "Unforeseen"), ("chunk", "InvalidEvent"),
                   ("embed", "InvalidEvent"), ("write", "InvalidEvent"), ("write", "Refused")}  # fmt: skip
        assert {f'reason="{reason}",stage="{stage}",topic="{topic}"' for stage, reason in reasons} <= letters.keys()
        assert f'topic="{topic}"' in series(metrics, "penstock_index_gap_offsets_total")
        assert series(metrics, "penstock_index_records_total")[f'outcome="superseded",topic="{topic}"'] == 0
        assert series(metrics, "penstock_index_freshness_seconds_count")[f'kind="live",topic="{topic}"'] == 0
    query = QueryMetrics()
    assert {f'outcome="{outcome}"' for outcome in OF_QUERIES} == series(query, "penstock_query_records_total").keys()
    assert series(query, "penstock_query_requests_total")['endpoint="search",status="504"'] == 0
    assert {f'service="{name}"' for name in ("kafka", "qdrant", "registry")} == set(
        series(query, "penstock_retries_total")
    )


def test_a_dead_letter_is_counted_by_stage_and_reason() -> None:
    metrics, work = IndexMetrics(["wiki"]), Work(Batch((record(1), record(2)), {}))
    work.give_up(record(1), InvalidEvent("no json"), "decode")
    work.give_up(record(2), Refused("too long"), "write")
    metrics.batch(work)
    told = {labels: count for labels, count in series(metrics, "penstock_index_dead_letters_total").items() if count}
    assert told == {
        'reason="InvalidEvent",stage="decode",topic="wiki"': 1, 'reason="Refused",stage="write",topic="wiki"': 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("traceparent", "kept"),
    [(SAMPLED, {"trace_id": TRACE}), (UNSAMPLED, None), (f"{UNSAMPLED[:-1]}2", None), ("", None)],
)
def test_only_a_trace_that_is_recorded_is_an_exemplar(traceparent: str, kept: dict[str, str] | None) -> None:
    assert exemplar(traceparent) == kept


def test_who_asks_for_openmetrics_gets_exemplars_and_who_does_not_plain_text() -> None:
    monitor = Monitor.of(["wiki"], MonitorSettings(), Collected())
    headers = (("traceparent", SAMPLED.encode()),)
    monitor.finished(Work(Batch((record(0, 1.0, headers),), {})))
    _, body, kind = monitor.health.answer("/metrics", OPENMETRICS)
    assert kind == b"application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert body.endswith(b"# EOF\n")
    assert f'# {{trace_id="{TRACE}"}}'.encode() in body
    for accept in ("", "*/*", "text/plain;version=0.0.4"):
        _, body, kind = monitor.health.answer("/metrics", accept)
        assert kind == b"text/plain; version=0.0.4; charset=utf-8"
        assert b"trace_id" not in body
        assert b"# EOF" not in body


def test_without_traces_there_are_no_exemplars() -> None:
    monitor = Monitor.of(["wiki"], MonitorSettings())
    monitor.finished(Work(Batch((record(0, 1.0, (("traceparent", SAMPLED.encode()),)),), {})))
    assert b"trace_id" not in monitor.health.answer("/metrics", OPENMETRICS)[1]


def test_every_worker_tells_of_its_process() -> None:
    for metrics in (IndexMetrics([]), QueryMetrics(), LagMetrics()):
        text = metrics.text().decode()
        for name in ("process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"):
            assert re.search(rf"^{name} [1-9]", text, re.MULTILINE), name
        assert "python_gc_collections_total" in text
        assert "python_info" in text


def test_a_query_of_the_topic_takes_as_long_as_since_it_was_sent() -> None:
    metrics = QueryMetrics()
    metrics.took_on_topic(record(0, 100.0), 109.0)
    metrics.took_on_topic(Record(HERE, 1, b"", b""), 109.0)
    assert series(metrics, "penstock_query_seconds_sum") == {'endpoint="topic"': 9.0}
    assert series(metrics, "penstock_query_seconds_bucket")['endpoint="topic",le="5.0"'] == 0


def test_the_lag_of_the_topic_of_queries_is_told() -> None:
    metrics, watch = QueryMetrics(), Watch()
    metrics.follow(watch)
    watch.polled(HERE, 0, 1, [record(0)])
    watch.ends({HERE: 4})
    assert series(metrics, "penstock_query_lag_records") == {'partition="0",topic="wiki"': 4}
    assert series(metrics, "penstock_query_lag_seconds")['partition="0",topic="wiki"'] > 0
    assert metrics.lag is not None
    assert metrics.lag() == 4


def test_lag_from_outside_ages_until_it_is_too_old_to_be_told() -> None:
    now = [1000.0]
    metrics = LagMetrics(clock=lambda: now[0])
    answered = "penstock_lag_answered_timestamp_seconds"
    assert f"{answered} 1000.0" in metrics.text().decode(), "an exporter that never hears of Kafka is blind, too"
    partitions = {HERE: Behind(3, 990.0), Partition("wiki", 1): Behind(0, None), Partition("wiki", 2): Behind(5, None)}
    metrics.answered([GroupLag("group", 2, partitions)])
    now[0] += STALE_S - 1
    of = 'group="group",partition="{}",topic="wiki"'
    assert series(metrics, "penstock_lag_records") == {of.format(0): 3, of.format(1): 0, of.format(2): 5}
    assert series(metrics, "penstock_lag_seconds") == {of.format(0): 10.0 + STALE_S - 1, of.format(1): 0}
    assert series(metrics, "penstock_lag_members") == {'group="group"': 2}
    now[0] += 1
    assert series(metrics, "penstock_lag_records") == series(metrics, "penstock_lag_members") == {}
    assert f"{answered} 1000.0" in metrics.text().decode()


def test_a_group_that_is_watched_twice_is_told_once() -> None:
    metrics = LagMetrics()
    metrics.answered([GroupLag("one", 2, {HERE: Behind(3, None)}), GroupLag("one", 2, {HERE: Behind(3, None)})])
    text = metrics.text().decode()
    assert text.count("penstock_lag_members{") == text.count("penstock_lag_records{") == 1


def test_health_alone_has_no_metrics() -> None:
    assert Health().answer("/metrics")[:2] == (200, b"")


def test_an_outcome_of_a_query_is_a_change() -> None:
    metrics = QueryMetrics()
    metrics.records({Outcome.TOO_LATE: 2})
    assert series(metrics, "penstock_query_records_total")['outcome="too_late"'] == 2


def test_a_letter_that_was_sent_back_says_nothing_of_how_fresh_the_index_is() -> None:
    metrics, name = IndexMetrics(["wiki"]), "penstock_index_newest_record_timestamp_seconds"
    done(metrics, [record(1, 1.0, (("penstock.sequence", b"1"),))])
    assert not any(series(metrics, name).values())
    done(metrics, [record(2, 1.0)])
    assert any(series(metrics, name).values())
