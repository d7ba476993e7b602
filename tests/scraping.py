"""A worker whose port is asked, and a real Prometheus that does so."""

import json
import math
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx

from penstock.settings import KafkaSettings, QdrantSettings
from tests.conftest import running, unavailable, wait_until
from tests.workers import Worker, environment, worker


def variables(kafka: KafkaSettings, bundle: Path, **more: object) -> dict[str, str]:
    stream = {"BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "TOPIC": kafka.topic, "GROUP": kafka.group}
    own = {f"KAFKA__{name}": value for name, value in stream.items()} | {"MODEL__BUNDLE": bundle, "MONITOR__PORT": 0}
    own |= more
    return environment(**own)


def stored_in(qdrant: QdrantSettings, collection: str) -> dict[str, object]:
    """What tells a worker where to write."""
    return {"QDRANT__URL": qdrant.url, "QDRANT__GRPC_PORT": qdrant.grpc_port, "QDRANT__COLLECTION": collection}


@contextmanager
def _started(
    env: Mapping[str, str], command: str, event: str
) -> Iterator[tuple["subprocess.Popen[bytes]", httpx.Client]]:
    """A worker, and a client of the port that it names in its log."""
    with worker(command, env=env) as started, started.client(event) as client:
        yield started.process, client


def monitored(
    env: Mapping[str, str],
) -> AbstractContextManager[tuple["subprocess.Popen[bytes]", httpx.Client]]:
    """An index worker."""
    return _started(env, "index", "monitored")


@contextmanager
def exporting(env: Mapping[str, str], *options: str) -> Iterator[tuple[Worker, httpx.Client]]:
    """A lag exporter that asks often."""
    with (
        worker("lag-exporter", "--every-s", "0.2", *options, env=env) as started,
        started.client("monitored") as client,
    ):
        yield started, client


@contextmanager
def searching(env: Mapping[str, str]) -> Iterator[httpx.Client]:
    """A query worker, as its client; its metrics are where its searches are."""
    own = {name: value for name, value in env.items() if name != "PENSTOCK_MONITOR__PORT"}
    with _started(own, "query", "listening") as (_, client):
        yield client


def value(client: httpx.Client, series: str) -> float:
    """Of a series, or the sum of those that begin so; -1 where there is none."""
    found = re.findall(rf"^{re.escape(series)}[^ ]* (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return sum(map(float, found)) if found else -1.0


@contextmanager
def prometheus(
    folder: Path, ports: Mapping[str, int], rules: Mapping[str, object] | None = None
) -> Iterator[httpx.Client]:
    """Scrapes the workers every second, with a port per component; ``rules`` are looked at as often.

    Labels are those that the chart gives to a release named release.
    """
    if (binary := shutil.which("prometheus")) is None:
        unavailable("no prometheus: it is a package of Debian's")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    of = {"namespace": "default", "release": "release"}
    targets = [
        {"targets": [f"127.0.0.1:{one}"], "labels": {**of, "component": name, "pod": name}}
        for name, one in ports.items()
    ]
    (folder / "rules.yaml").write_text(json.dumps(rules or {"groups": []}))
    config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": ["rules.yaml"],
              "scrape_configs": [{"job_name": "penstock", "static_configs": targets}]}  # fmt: skip
    (folder / "prometheus.yaml").write_text(json.dumps(config))
    command = [str(binary), f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data",
               f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage"]  # fmt: skip
    with running(command, stderr=subprocess.DEVNULL), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        wait_until(lambda: ready(client))
        yield client


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def shows(client: httpx.Client, expr: str) -> list[float]:
    """The values that Prometheus has for an expression now, as far as they are numbers."""
    answer = client.get("/api/v1/query", params={"query": expr}).json()
    assert answer["status"] == "success", answer
    values = [float(one["value"][1]) for one in answer["data"]["result"]]
    return [one for one in values if not math.isnan(one)]
