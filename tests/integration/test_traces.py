"""Traces of both workers, as a collector receives them."""

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from penstock.adapters import opentelemetry
from penstock.adapters.kafka.connection import connect_producer
from penstock.core.errors import Misconfigured
from penstock.observe.spans import answer_span
from penstock.settings import QdrantSettings, TraceSettings
from tests.conftest import ROOT, wait_until
from tests.kafka_tools import new_topic
from tests.scraping import monitored, searching, stored_in, value, variables
from tests.workers import PENSTOCK, environment

TRACE, CALLER = "a" * 32, "b" * 16
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
SHIPPED = ROOT / "worker/penstock/data/models"

CLOSING = """
import sys, time
from penstock.adapters.opentelemetry import open_tracer
from penstock.observe.spans import answer_span
from penstock.settings import TraceSettings
tracer = open_tracer(TraceSettings(endpoint=sys.argv[1]), "penstock-index", "1", lambda failures: None)
for n in range(2000):
    tracer.emit(answer_span("POST /v1/search", "server", "", n + 1, {}, 0))
started = time.monotonic()
tracer.close()
sys.stdout.write(str(time.monotonic() - started))
"""
"""Writes how many seconds a tracer takes to close."""


@contextmanager
def collector() -> Iterator[tuple[str, dict[str, list[Span]]]]:
    """Its address, and the spans that came, by service."""
    came: dict[str, list[Span]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the library's name
            sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            for one in sent.resource_spans:
                service = next(a.value.string_value for a in one.resource.attributes if a.key == "service.name")
                came.setdefault(service, []).extend(span for scope in one.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", came
        server.shutdown()


def test_batches_are_linked_to_their_producers_and_answers_belong_to_their_callers(
    broker: str, qdrant_process: QdrantSettings
) -> None:
    topic, queries = new_topic(broker), new_topic(broker)
    store = stored_in(qdrant_process, topic.topic)
    asked = {"QUERY__TOPIC": queries.topic, "QUERY__GROUP": queries.group, "HTTP__PORT": 0, "RERANK__ENABLED": "false"}
    headers = [("traceparent", TRACEPARENT.encode())]
    with collector() as (endpoint, came):
        env = variables(topic, SHIPPED / "embedding", **store, **asked, TRACE__ENDPOINT=endpoint)
        env |= {"OTEL_BSP_SCHEDULE_DELAY": "100"}
        with monitored(env) as (process, worker), searching(env) as query, closing(connect_producer(topic)) as producer:
            producer.send(topic.topic, key=b"doc", value=b'{"id": "doc", "text": "water"}', headers=headers)
            producer.send(topic.topic, key=b"bad", value=b"no json", headers=headers)
            producer.flush()
            wait_until(lambda: value(worker, "penstock_index_records_total") == 2)
            wait_until(lambda: query.get("/readyz").status_code == 200)
            answered = query.post("/v1/search", json={"query": "water"}, headers={"traceparent": TRACEPARENT})
            assert answered.status_code == 200
            producer.send(queries.topic, key=b"q", value=b'{"id": "q", "query": "water"}', headers=headers)
            producer.send(queries.topic, key=b"bad", value=b"no json", headers=headers)
            producer.flush()
            refused = query.post("/v1/search", json={"query": ""}, headers={"traceparent": TRACEPARENT})
            assert refused.status_code == 400
            names = ("POST /v1/search", f"process {queries.topic}")
            wait_until(lambda: all(len(named(came, name)) == 2 for name in names))
            told = query.get("/metrics", headers={"accept": "application/openmetrics-text;version=1.0.0"}).text
            assert kept(told, "penstock_query_seconds") == {"search": {TRACE}, "topic": {TRACE}}
            process.terminate()
            assert process.stderr is not None
            letters = [line for line in map(json.loads, process.stderr) if line["event"] == "dead_letter"]
            assert [(one["key"], one["trace_id"]) for one in letters] == [("bad", TRACE)]
    batches = [span for span in came["penstock-index"] if span.name == f"process {topic.topic}"]
    assert {link.trace_id.hex() for batch in batches for link in batch.links} == {TRACE}
    steps = {span.name for span in came["penstock-index"] if span.parent_span_id == batches[0].span_id}
    assert steps == {"prepare", "embed", "write"}
    for name, errors in zip(names, (set(), {"InvalidEvent"}), strict=True):
        spans = named(came, name)
        assert {(span.trace_id.hex(), span.parent_span_id.hex()) for span in spans} == {(TRACE, CALLER)}
        (steps,) = filter(None, (children(came, span) for span in spans))
        assert {"embed", "retrieve"} <= steps
        assert {text(span, "error.type") for span in spans if span.status.code == Status.STATUS_CODE_ERROR} == errors
        assert all(span.end_time_unix_nano > span.start_time_unix_nano for span in spans)


def kept(told: str, histogram: str) -> dict[str, set[str]]:
    """Trace ids of its exemplars, by endpoint."""
    found: dict[str, set[str]] = {}
    lines = rf'^{histogram}_bucket{{endpoint="(\w+)".* # {{trace_id="(\w+)"}}'
    for endpoint, trace in re.findall(lines, told, re.MULTILINE):
        found.setdefault(endpoint, set()).add(trace)
    return found


def named(came: dict[str, list[Span]], name: str) -> list[Span]:
    return [span for span in came.get("penstock-query", []) if span.name == name]


def children(came: dict[str, list[Span]], parent: Span) -> set[str]:
    return {one.name for one in came["penstock-query"] if one.parent_span_id == parent.span_id}


def text(span: Span, attribute: str) -> str:
    return str(next(one.value.string_value for one in span.attributes if one.key == attribute))


def test_a_collector_that_is_away_keeps_nobody(tmp_path: Path) -> None:
    command = [*PENSTOCK, "index", "--from", "-", "--once"]
    variables_ = {
        "PENSTOCK_TRACE__ENDPOINT": "http://127.0.0.1:9/v1/traces", "PENSTOCK_QDRANT__PATH": str(tmp_path / "points"),
        "PENSTOCK_MODEL__BUNDLE": str(SHIPPED / "embedding"), "PATH": "", "PYTHONPATH": str(ROOT / "worker"),
    }  # fmt: skip
    done = subprocess.run(
        command, env=variables_, cwd=ROOT, input=b'{"id": "1", "text": "water"}', capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b'"indexed": 1' in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_collector_that_never_answers_holds_up_the_end_for_two_seconds() -> None:
    """In a process that ends: the SDK's thread goes on for a minute, and would beside other tests, too."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        command = [sys.executable, "-c", CLOSING, f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"]
        done = subprocess.run(command, env=environment(), capture_output=True, timeout=20, check=True)
    assert float(done.stdout) < 4


def test_a_refusing_collector_is_told_of() -> None:
    failed: list[int] = []
    settings = TraceSettings(endpoint="http://127.0.0.1:9/v1/traces")
    tracer = opentelemetry.open_tracer(settings, "penstock-index", "1", failed.append)
    tracer.emit(answer_span("POST /v1/search", "server", "", 1, {}, 0))
    tracer.close()
    wait_until(lambda: failed == [1])


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://collector/v1", "http://user:secret@collector:4318"])
def test_an_endpoint_that_cannot_be_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        TraceSettings(endpoint=endpoint)


def test_an_endpoint_without_the_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opentelemetry, "WITHOUT", ImportError("No module named 'opentelemetry'"))
    with pytest.raises(Misconfigured, match="install the extra otel"):
        opentelemetry.open_tracer(
            TraceSettings(endpoint="http://collector:4318/v1/traces"), "penstock-index", "1", lambda _: None
        )
    opentelemetry.open_tracer(TraceSettings(), "penstock-index", "1", print).close()
