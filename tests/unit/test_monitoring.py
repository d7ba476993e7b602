"""What an operator sees: lag, health."""

import io
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from penstock.assembly import stream as assembly
from penstock.assembly.index import IndexWorker
from penstock.assembly.membership import Stream
from penstock.assembly.monitor import Monitor
from penstock.core.documents import ChunkKey, Stored
from penstock.core.errors import Unavailable
from penstock.core.queries import Answer, Query
from penstock.core.records import OF_DOCUMENTS, Batch, Outcome, Partition, Record
from penstock.core.vectors import Vector
from penstock.core.work import Work
from penstock.events.rules import DocumentRules
from penstock.fakes import HashEmbedder, MemoryDeadLetters, MemorySource, MemoryStore, WordTokenizer, unchanging
from penstock.index.chunking import Chunker, ChunkRules
from penstock.models.forward import Usage
from penstock.observe.health import Health
from penstock.observe.index_metrics import IndexMetrics
from penstock.observe.live import Reporter, live
from penstock.observe.log import Libraries
from penstock.observe.query_metrics import QueryMetrics
from penstock.observe.watch import Watch
from penstock.settings import IndexSettings, MonitorSettings
from tests.conftest import wait_until

HERE = Partition("documents", 0)


def record(offset: int, produced_s: float | None = None) -> Record:
    return Record(HERE, offset, b"", b"", timestamp_ms=None if produced_s is None else int(produced_s * 1000))


def test_lag_counts_what_is_not_committed_and_ages_with_the_oldest_of_it() -> None:
    watch = Watch()
    watch.polled(HERE, 5, 8, [record(5, 100.0), record(6, 101.0), record(7, 102.0)])
    watch.polled(HERE, 8, 10, [record(8, 110.0), record(9, 111.0)])
    watch.ends({HERE: 20})
    assert watch.behind(130.0) == {HERE: (15, 30.0)}
    watch.committed(HERE, 8)
    assert watch.behind(130.0) == {HERE: (12, 20.0)}
    watch.committed(HERE, 10)
    assert watch.behind(130.0) == {HERE: (10, 0.0)}, "what was not read yet has no known age"


def test_time_without_records_is_no_lag() -> None:
    watch = Watch()
    watch.polled(HERE, 0, 1, [record(0, 100.0)])
    watch.committed(HERE, 1)
    watch.polled(HERE, 1, 2, [record(1, 4000.0)])
    assert watch.behind(4001.0) == {HERE: (1, 1.0)}


def test_a_partition_has_no_lag_before_the_broker_has_told_of_its_end() -> None:
    watch = Watch()
    watch.ends({HERE: 9})
    watch.polled(HERE, 5, 5, [])
    assert watch.behind(1.0) == {}
    watch.ends({HERE: 9})
    assert watch.behind(1.0) == {HERE: (4, 0.0)}


def test_lag_of_a_partition_is_gone_with_the_partition() -> None:
    watch = Watch()
    watch.polled(HERE, 0, 1, [record(0, 1.0)])
    watch.revoked([HERE])
    watch.committed(HERE, 1)
    assert watch.behind(2.0) == {}


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_lag_is_never_negative_and_zero_when_all_is_committed(sizes: list[int], data: st.DataObject) -> None:
    watch, at = Watch(), 0
    for size in sizes:
        watch.polled(HERE, at, at + size, [record(at + n, float(at + n)) for n in range(size)])
        at += size
        watch.committed(HERE, data.draw(st.integers(0, at)))
        records, seconds = watch.behind(data.draw(st.floats(0, 100)))[HERE]
        assert records >= 0
        assert seconds >= 0
    watch.committed(HERE, at)
    assert watch.behind(1e9)[HERE] == (0, 0.0)


def test_a_worker_is_alive_until_its_loop_has_not_turned_for_too_long() -> None:
    now = [0.0]
    health = Health(stall_s=60.0, clock=lambda: now[0])
    now[0] = 1000.0
    assert health.answer("/healthz")[0] == 200, "models may take long to load"
    health.turn()
    now[0] = 1059.0
    assert health.answer("/healthz")[0] == 200
    now[0] = 1061.0
    status, body, _ = health.answer("/healthz")
    assert (status, body) == (503, b'{"status":"stuck","where":"loop","seconds":61}')
    health.turn()
    assert health.answer("/healthz")[0] == 200
    assert health.answer("/startz") == (503, b'{"started":false}', b"application/json")
    assert health.answer("/readyz")[0] == 503
    health.started = health.ready = True
    assert health.answer("/startz")[0] == 200
    assert health.answer("/readyz")[0] == 200
    assert health.answer("/")[0] == 404


def test_busy_time_of_passes_that_overlap_counts_once() -> None:
    now = [0.0]
    usage = Usage(clock=lambda: now[0])
    with usage.counted(3, 4):
        now[0] = 1.0
        with usage.counted(5, 8):
            now[0] = 2.0
        assert usage.read() == (1, 5, 8, 2.0)
        now[0] = 4.0
    now[0] = 9.0
    assert usage.read() == (2, 8, 12, 4.0)


def test_a_pass_that_does_not_end_is_seen_while_it_hangs_and_failures_in_a_row_are_counted() -> None:
    now = [0.0]
    usage = Usage(clock=lambda: now[0])
    assert usage.longest_s() == 0.0
    with usage.counted(3, 4):
        now[0] = 5.0
        with usage.counted(3, 4):
            now[0] = 7.0
            assert usage.longest_s() == 7.0
    for _ in range(2):
        with suppress(ValueError), usage.counted(1, 1):
            raise ValueError
    assert usage.failed_in_a_row == 2
    with usage.counted(1, 1):
        pass
    assert usage.failed_in_a_row == 0


def test_a_worker_whose_embedding_hangs_is_stuck_and_one_that_waits_for_a_service_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """/healthz stayed 200 for ever: the loop turned beside the pass that did not end."""
    monkeypatch.setattr(assembly, "backoff", lambda _failures, _spread: 0.01)
    go_on, hanging, away = threading.Event(), threading.Event(), threading.Event()

    class Hanging(HashEmbedder):
        def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
            hanging.set()
            assert go_on.wait(30)
            return super().embed(texts)

    class Away(MemoryStore):
        def read(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
            if not away.is_set():
                raise Unavailable("away")
            return super().read(keys)

    monitor = Monitor.of(["documents"], MonitorSettings(hang_s=0.3))
    source = MemorySource()
    source.append(b"a", b'{"id": "a", "text": "some words"}')
    stream = Stream(source, MemoryDeadLetters(), DocumentRules())
    chunks = Chunker(WordTokenizer(), ChunkRules(16, 4, title=True, prompt="", most=6))
    worker = IndexWorker(IndexSettings(), stream, unchanging, Away(), chunks, 1, Hanging(), monitor)
    running = threading.Thread(target=worker.run, args=(threading.Event(),))
    running.start()
    health = monitor.health
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        assert health.answer("/healthz")[0] == 200, "an outage is waited out"
        time.sleep(0.02)
    away.set()
    assert hanging.wait(10)
    wait_until(lambda: health.answer("/healthz")[0] == 503)
    assert b'"where":"embed"' in health.answer("/healthz")[1]
    go_on.set()
    running.join(20)
    assert health.answer("/healthz")[0] == 200


def test_every_record_is_counted_by_what_became_of_it() -> None:
    source, store = MemorySource(), MemoryStore()
    for key, text in ((b"a", "one"), (b"a", "two"), (b"b", "three"), (b"c", None)):
        body = b'{"id": "%s", "text": "%s"}' % (key, text.encode()) if text else None
        source.append(key, body)
    source.append(b"d", b"no json")
    monitor = Monitor.of(["documents"], MonitorSettings())
    stream = Stream(source, MemoryDeadLetters(), DocumentRules())
    chunks = Chunker(WordTokenizer(), ChunkRules(16, 4, title=True, prompt="", most=6))
    IndexWorker(IndexSettings(), stream, unchanging, store, chunks, 1, HashEmbedder(), monitor).run(threading.Event())
    text = monitor.metrics.text().decode()
    for outcome, count in {"indexed": 2, "superseded": 1, "deleted_unknown": 1, "dead_lettered": 1}.items():
        assert f'penstock_index_records_total{{outcome="{outcome}",topic="documents"}} {count}.0' in text
    assert 'penstock_index_dead_letters_total{reason="InvalidEvent",stage="decode",topic="documents"} 1.0' in text
    assert 'penstock_index_chunks_total{result="embedded"} 2.0' in text
    assert re.search(r'store_seconds_count{operation="upsert"} [1-9]', text)
    assert re.search(r'stage_busy_seconds_total{stage="write"} \d', text)
    assert monitor.health.stalled_s < 60


def test_chunks_that_are_kept_are_counted_apart_from_those_that_are_embedded() -> None:
    source, store = MemorySource(), MemoryStore()
    chunks = Chunker(WordTokenizer(), ChunkRules(16, 4, title=True, prompt="", most=6))
    body = b'{"id": "a", "text": "%s"}' % " ".join(f"word{n}" for n in range(40)).encode()
    counted = []
    for _ in range(2):
        source.append(b"a", body)
        monitor = Monitor.of(["documents"], MonitorSettings())
        stream = Stream(source, MemoryDeadLetters(), DocumentRules())
        IndexWorker(IndexSettings(), stream, unchanging, store, chunks, 1, HashEmbedder(), monitor).run(
            threading.Event()
        )
        series = re.findall(r'chunks_total{result="(\w+)"} (\S+)', monitor.metrics.text().decode())
        counted.append({result: float(value) for result, value in series})
    number = float(len(store.points))
    assert number > 1
    assert counted == [{"embedded": number, "kept": 0.0}, {"embedded": 0.0, "kept": number}]


def test_on_a_terminal_a_live_line_shows_what_is_done_and_left() -> None:
    now, shown = [0.0], io.StringIO()
    console = Console(file=shown, force_terminal=True, width=160)
    busy_s = {"prepare": 0.2, "embed": 1.9}
    reporter = Reporter(lambda: 30, busy_s, outcomes=OF_DOCUMENTS, console=console, clock=lambda: now[0])
    work = Work(Batch((), {}), outcomes=Counter({Outcome.INDEXED: 10}), chunks=12, tokens=3000)
    now[0] = 2.0
    reporter(work)
    reporter.close()
    line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue())
    assert "10/40" in line
    assert "12 chunks  1,500 tokens/s  prepare 10% embed 95%" in line


def test_the_query_worker_has_a_live_line_too() -> None:
    shown, metrics = io.StringIO(), QueryMetrics()
    metrics.lag = lambda: 7
    query = Query("q", "", "water", 10, 50, 1.0)
    for took_ms in (10.0, 30.0):
        metrics.answer(Answer(query, [], "disabled", {"embed": took_ms}))
    with metrics.under_way(), live(Console(file=shown, force_terminal=True, width=160), metrics.line):
        pass
    line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue())
    assert "2 answers" in line
    assert "1 under way  lag 7  embed 20 ms" in line
    assert metrics.line(4.0).startswith("2 answers  0.5/s")


def test_the_store_being_away_is_counted_and_is_no_reason_for_a_restart() -> None:
    metrics = IndexMetrics(["documents"])
    metrics.retry("qdrant")
    metrics.retry("qdrant")
    assert 'penstock_retries_total{service="qdrant"} 2.0' in metrics.text().decode()


def test_what_libraries_log_is_a_line_like_ours_and_of_one_kind_a_few_a_minute(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    with structlog.testing.capture_logs() as lines:
        handler = Libraries(lambda: now[0])
        for second in range(100):
            now[0] = float(second)
            handler.emit(logging.makeLogRecord({"name": "uvicorn.error", "msg": "Invalid", "levelname": "WARNING"}))
        handler.emit(logging.makeLogRecord({"name": "other", "msg": "%s", "args": ("said",), "levelname": "ERROR"}))
    assert [line["logger"] for line in lines] == ["uvicorn.error"] * 10 + ["other"]
    assert {key: lines[-1][key] for key in ("event", "log_level", "message")} == {
        "event": "library", "log_level": "error", "message": "said"
    }  # fmt: skip
    assert capsys.readouterr() == ("", "")
