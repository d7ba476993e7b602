"""A running index worker, as Kubernetes and Prometheus see it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.conftest import ROOT, wait_until
from tests.kafka_tools import document, new_topic, produce
from worker.settings import KafkaSettings, QdrantSettings


def variables(kafka: KafkaSettings, bundle: Path, **more: object) -> dict[str, str]:
    stream = {"BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "TOPIC": kafka.topic, "GROUP": kafka.group}
    own = {f"KAFKA__{name}": value for name, value in stream.items()} | {"MODEL__BUNDLE": bundle, "MONITOR__PORT": 0}
    own |= more
    return os.environ | {f"PENSTOCK_{name}": str(value) for name, value in own.items()}


@contextmanager
def monitored(env: Mapping[str, str]) -> Iterator[tuple["subprocess.Popen[bytes]", httpx.Client]]:
    """A worker and a client of its port."""
    command = [sys.executable, "-m", "worker", "index"]
    with subprocess.Popen(command, env=env, cwd=ROOT, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                said = json.loads(line)
                if said["event"] == "monitored":
                    break
            with httpx.Client(base_url=f"http://127.0.0.1:{said['port']}") as client:
                yield process, client
        finally:
            process.kill()


def value(client: httpx.Client, series: str) -> float:
    """Of a series, or the sum of those that begin so; -1 where there is none."""
    found = re.findall(rf"^{re.escape(series)}[^ ]* (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return sum(map(float, found)) if found else -1.0


def test_a_worker_tells_how_fresh_and_how_far_behind_it_is(
    broker: str, qdrant_process: QdrantSettings, minilm: Path
) -> None:
    topic = new_topic(broker, partitions=3)
    store = {"QDRANT__URL": qdrant_process.url, "QDRANT__GRPC_PORT": qdrant_process.grpc_port,
             "QDRANT__COLLECTION": topic.topic}  # fmt: skip
    with monitored(variables(topic, minilm, **store)) as (process, client):
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/healthz").json() == {"status": "alive"}
        produce(topic, [document(f"doc/{n}", f"water turns turbine {n}") for n in range(50)])
        wait_until(lambda: value(client, "penstock_index_records_total") == 50)
        wait_until(lambda: value(client, "penstock_index_lag_records") == 0)
        assert value(client, "penstock_index_lag_seconds") == 0
        assert value(client, "penstock_index_freshness_seconds_count") == 50
        assert value(client, 'penstock_index_freshness_seconds_bucket{le="60.0"') == 50
        assert value(client, 'penstock_index_commits_total{result="done"}') >= 1
        assert value(client, 'penstock_index_rebalances_total{event="assigned"}') == 1
        assert value(client, 'penstock_model_info{precision="fp32",provider="cpu"') == 1
        tokens, padded = (value(client, f"penstock_model_{kind}_total") for kind in ("tokens", "padded_tokens"))
        assert 0 < tokens <= padded
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


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
