"""A running index worker, as Kubernetes and Prometheus see it."""

import json
import signal
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path

from penstock.adapters.kafka.connection import connect_producer
from penstock.settings import QdrantSettings
from tests.broker import Broker
from tests.conftest import ROOT, wait_until
from tests.kafka_tools import document, new_topic, produce, read_all
from tests.scraping import exporting, monitored, prometheus, searching, shows, stored_in, value, variables
from tests.workers import PENSTOCK


def test_a_worker_tells_how_fresh_and_how_far_behind_it_is(
    broker: str, qdrant_process: QdrantSettings, minilm: Path
) -> None:
    topic = new_topic(broker, partitions=3)
    store = stored_in(qdrant_process, topic.topic)
    with monitored(variables(topic, minilm, **store)) as (process, client):
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/healthz").json() == {"status": "alive"}
        produce(topic, [document(f"doc/{n}", f"water turns turbine {n}") for n in range(50)])
        wait_until(lambda: value(client, "penstock_index_records_total") == 50)
        wait_until(lambda: value(client, "penstock_index_lag_records") == 0)
        assert value(client, "penstock_index_lag_seconds") == 0
        assert value(client, "penstock_index_freshness_seconds_count") == 50
        bucket = 'penstock_index_freshness_seconds_bucket{{kind="{}",le="60.0"'
        assert sum(max(0.0, value(client, bucket.format(kind))) for kind in ("live", "backlog")) == 50
        assert value(client, 'penstock_index_commits_total{result="done"}') >= 1
        assert value(client, 'penstock_index_rebalances_total{event="assigned"}') == 1
        assert value(client, 'penstock_model_info{precision="fp32",provider="cpu"') == 1
        tokens, padded = (value(client, f"penstock_model_{kind}_total") for kind in ("tokens", "padded_tokens"))
        assert 0 < tokens <= padded
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_what_lay_on_the_topic_before_is_told_apart_from_what_comes(
    broker: str, qdrant_process: QdrantSettings, minilm: Path
) -> None:
    topic = new_topic(broker, partitions=2)
    produce(topic, [document(f"old/{n}") for n in range(20)])
    with monitored(variables(topic, minilm, **stored_in(qdrant_process, topic.topic))) as (_, client):
        backlog, live = (f'penstock_index_freshness_seconds_count{{kind="{kind}"' for kind in ("backlog", "live"))
        wait_until(lambda: value(client, backlog) == 20)
        produce(topic, [document(f"new/{n}") for n in range(7)])
        wait_until(lambda: value(client, live) == 7)
        assert value(client, backlog) == 20


def panels(name: str) -> dict[str, list[str]]:
    """The expressions of a dashboard's panels, of all that its variables can choose."""
    board = json.loads((ROOT / "helm/monitoring" / f"{name}.json").read_text())
    chosen = {one["name"]: one["allValue"] for one in board["templating"]["list"] if "allValue" in one}

    def filled(expr: str) -> str:
        for variable, choice in {"__rate_interval": "30s", **chosen}.items():
            expr = expr.replace(f"${variable}", choice)
        return expr

    return {panel["title"]: [filled(target["expr"]) for target in panel["targets"]] for panel in board["panels"]}


SHIPPED = ROOT / "worker/penstock/data/models"
NEEDS_FAULTS = {"Retries, dead letters, refused commits", "GPU"}
"""Panels that are empty while all is well, on a machine without a GPU."""


def test_a_real_prometheus_fills_every_panel_of_the_index_dashboard(
    broker: str, qdrant_process: QdrantSettings, minilm: Path, tmp_path: Path
) -> None:
    topic = new_topic(broker, partitions=2)
    store = stored_in(qdrant_process, topic.topic)
    with (
        monitored(variables(topic, minilm, **store)) as (_, worker),
        exporting(variables(topic, minilm)) as (_, lag),
        prometheus(tmp_path, {"index": worker.base_url.port or 0, "lag-exporter": lag.base_url.port or 0}) as scraped,
    ):
        wait_until(lambda: worker.get("/readyz").status_code == 200)
        wait_until(lambda: bool(shows(scraped, "penstock_build_info")))
        for n in range(4):
            produce(topic, [document(f"doc/{n}/{m}", f"water turns turbine {n} {m}") for m in range(20)])
            time.sleep(1.5)  # rates want several scrapes while something happens
        wait_until(lambda: value(worker, "penstock_index_records_total") == 80)
        wait_until(lambda: shows(scraped, "sum(penstock_index_records_total)") == [80.0])
        for title, exprs in panels("index").items():
            if title not in NEEDS_FAULTS:
                assert all(shows(scraped, expr) for expr in exprs), title
        busy = shows(scraped, panels("index")["Busy share of stages"][0])
        assert len(busy) == 3
        assert all(0 <= one <= 1 for one in busy)


def test_a_real_prometheus_fills_every_panel_of_the_query_dashboard(
    broker: str, qdrant_process: QdrantSettings, tmp_path: Path
) -> None:
    topic, queries = new_topic(broker), new_topic(broker)
    store = stored_in(qdrant_process, topic.topic)
    asked = {"QUERY__TOPIC": queries.topic, "QUERY__GROUP": queries.group, "HTTP__PORT": 0}
    env = variables(topic, SHIPPED / "embedding", **store, **asked, RERANK__BUNDLE=SHIPPED / "reranker")
    with (
        monitored(env) as (_, worker),
        searching(env) as query,
        prometheus(tmp_path, {"query": query.base_url.port or 0}) as scraped,
    ):
        produce(topic, [document(f"doc/{n}", f"water turns turbine {n}") for n in range(20)])
        wait_until(lambda: value(worker, "penstock_index_records_total") == 20)
        wait_until(lambda: query.get("/readyz").status_code == 200)
        filled: set[str] = set()
        expected = panels("query").keys() - {"Not reranked, by reason"}

        def all_filled() -> bool:
            produce(queries, [("q", json.dumps({"id": "q", "query": "turbine"}).encode())])
            assert query.post("/v1/search", json={"query": "water"}).status_code == 200
            filled.update(
                title for title, given in panels("query").items() if all(shows(scraped, one) for one in given)
            )
            return filled >= expected

        wait_until(all_filled)


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_real_prometheus_keeps_the_trace_of_a_record_that_was_slow_to_be_searchable(
    broker: str, qdrant_process: QdrantSettings, minilm: Path, tmp_path: Path
) -> None:
    topic = new_topic(broker)
    env = variables(topic, minilm, **stored_in(qdrant_process, topic.topic), TRACE__ENDPOINT="http://127.0.0.1:9/")
    with monitored(env) as (_, worker), prometheus(tmp_path, {"index": worker.base_url.port or 0}) as scraped:
        wait_until(lambda: bool(shows(scraped, "penstock_build_info")))
        key, body = document("doc")
        with closing(connect_producer(topic)) as producer:
            header = ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode())
            producer.send(topic.topic, key=key.encode(), value=body, headers=[header])
            producer.flush()

        def traces() -> set[str]:
            asked = {"query": "penstock_index_freshness_seconds_bucket", "start": "0", "end": str(time.time() + 60)}
            found = scraped.get("/api/v1/query_exemplars", params=asked).json()["data"]
            return {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}

        wait_until(lambda: traces() == {TRACE})


def test_a_worker_without_qdrant_is_alive_but_not_ready(broker: str, minilm: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nothing = taken.getsockname()[1]
    store = {"QDRANT__URL": f"http://127.0.0.1:{nothing}", "QDRANT__GRPC_PORT": nothing}
    with monitored(variables(new_topic(broker), minilm, **store)) as (process, client):
        wait_until(lambda: value(client, 'penstock_retries_total{service="qdrant"}') >= 2)
        assert client.get("/healthz").status_code == 200
        assert client.get("/startz").status_code == 200
        assert client.get("/readyz").status_code == 503
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_no_secret_is_in_logs_metrics_or_dead_letters(
    own_broker: Broker, qdrant_process: QdrantSettings, minilm: Path, tmp_path: Path
) -> None:
    """With everything logged that can be, over a login that works and then one that does not."""
    topic = new_topic(own_broker.bootstrap_servers)
    produce(topic, [("bad", b"no json"), document("good")])
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "PENSTOCK_KAFKA__SASL_PASSWORD").write_text("wonder-land")
    more = {
        "KAFKA__BOOTSTRAP_SERVERS": own_broker.secure_servers, "KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA__SASL_USERNAME": "alice", "KAFKA__SSL_CA_FILE": own_broker.ca_file, "SECRETS": tmp_path / "secrets",
        **stored_in(qdrant_process, topic.topic), "SEARCH__API_KEY": "canary-canary-canary", "LOG__LEVEL": "debug",
        "KAFKA__SSL_KEY_PASSWORD": "canary-canary-canary",
    }  # fmt: skip
    env = variables(topic, minilm, **more)
    with monitored(env) as (process, client):
        wait_until(lambda: value(client, "penstock_index_records_total") == 2)
        said = client.get("/metrics").text
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        said += process.stderr.read().decode()
        assert process.wait(30) == 0
    (letter,) = read_all(topic, topic.dead_letters)
    said += repr(letter)
    (tmp_path / "secrets" / "PENSTOCK_KAFKA__SASL_PASSWORD").write_text("canary-canary-canary")
    refused = subprocess.run([*PENSTOCK, "index"], env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    said += refused.stdout + refused.stderr
    assert "dead_letter" in said
    assert "refuses" in said
    for secret in ("wonder-land", "canary"):
        assert secret not in said
