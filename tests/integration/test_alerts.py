"""The chart's alerts in a real Prometheus, on real faults of real workers; a minute of the rules lasts seconds here.

Missing: what is asked of Kubernetes (pods that are missing, end, or want memory), PenstockGpuIdle, which wants a GPU,
PenstockCommitsRefused, since a worker whose Kafka is away waits before it commits, PenstockGap, and queries that are
slow, late or waiting on their topic; promtool tests those (test_helm).
"""

import itertools
import json
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.adapters.kafka.source import KafkaSource
from penstock.settings import KafkaSettings
from tests.broker import Broker
from tests.chart import CHART, of_kind, render
from tests.conftest import own_qdrant, wait_until
from tests.kafka_tools import document, new_topic, produce, source
from tests.scraping import exporting, monitored, prometheus, searching, shows, stored_in, variables

MINUTE_S = 2
OBJECTIVE_S = 5
LOOK_BACK = {"FreshnessBurn", "FreshnessBurnSlow", "DeadLetters"}
"""These end when an hour or six have no fault in them; promtool tells whether they do."""


def scaled_rules() -> dict[str, Any]:
    """As the chart renders them, but quicker."""
    options = f"monitoring.rules=true,monitoring.freshnessObjectiveSeconds={OBJECTIVE_S}"
    (rules,) = of_kind(render("-f", CHART / "ci/default-values.yaml", "--set", options), "PrometheusRule").values()
    minutes = re.sub(r"\b(\d+)h\b", lambda found: f"{int(found[1]) * 60}m", json.dumps(rules["spec"]))
    quicker = re.sub(r"\b(\d+)m\b", lambda found: f"{int(found[1]) * MINUTE_S}s", minutes)
    return dict(json.loads(quicker))


@contextmanager
def repeating(action: Callable[[], None], pause_s: float) -> Iterator[None]:
    """In a thread of its own, until left."""
    stop, failures = threading.Event(), list[Exception]()

    def run() -> None:
        try:
            while not stop.wait(pause_s):
                action()
        except Exception as error:  # noqa: BLE001  # told when left
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not failures


def firing(scraped: httpx.Client) -> set[str]:
    answer = scraped.get("/api/v1/query", params={"query": 'ALERTS{alertstate="firing"}'}).json()
    return {one["metric"]["alertname"].removeprefix("Penstock") for one in answer["data"]["result"]}


def quiet(scraped: httpx.Client) -> None:
    """Returns when no alert fires any more but those that look back for long; else says which still do."""
    with suppress(AssertionError):
        wait_until(lambda: firing(scraped) <= LOOK_BACK, 240)
    assert firing(scraped) <= LOOK_BACK


def fired(scraped: httpx.Client, alerts: set[str]) -> set[str]:
    """Which of the alerts fire before long."""
    seen: set[str] = set()

    def all_seen() -> bool:
        seen.update(firing(scraped))
        return alerts <= seen

    with suppress(AssertionError):
        wait_until(all_seen, 200)
    return seen & alerts


@contextmanager
def member(kafka: KafkaSettings) -> Iterator[KafkaSource]:
    """Of the workers' group; it does no work."""
    joined = source(kafka, once=False)
    try:
        yield joined
    finally:
        joined.close(5)


@pytest.mark.timeout(1500)
def test_every_alert_fires_on_a_real_fault(own_broker: Broker, minilm: Path, tmp_path: Path) -> None:
    kafka = new_topic(own_broker.bootstrap_servers, partitions=4, session_timeout_s=2.0)
    numbers = itertools.count()
    with ExitStack() as opened:
        qdrant, known = opened.enter_context(own_qdrant())
        more = {"QDRANT__TIMEOUT_S": 2, "KAFKA__SESSION_TIMEOUT_S": 2, "RERANK__ENABLED": "false"}
        env = variables(kafka, minilm, **stored_in(known, kafka.topic), **more, HTTP__PORT=0, QUERY__TIMEOUT_S=1)
        process, worker = opened.enter_context(monitored(env))
        _, lag = opened.enter_context(exporting(env))
        query = opened.enter_context(searching(env))
        wait_until(lambda: {client.get("/readyz").status_code for client in (worker, query)} == {200})
        clients = {"index": worker, "query": query, "lag-exporter": lag}
        ports = {name: client.base_url.port or 0 for name, client in clients.items()}
        scraped = opened.enter_context(prometheus(tmp_path, ports, scaled_rules()))
        bad = threading.Event()

        def traffic() -> None:
            events = [document(f"doc/{next(numbers)}") for _ in range(5)]
            produce(kafka, [*events, *([("bad", b"no json")] if bad.is_set() else [])])
            query.post("/v1/search", json={"query": "water"})

        def join_and_leave() -> None:
            with member(kafka) as joined:
                wait_until(lambda: joined.poll(0.1) is not None, most_pause_s=0.01)

        with repeating(traffic, 0.5):
            wait_until(lambda: shows(scraped, "sum(penstock_index_records_total) > 100") != [], 60)
            wait_until(lambda: firing(scraped) == set(), 60)  # the first batch may have been late
            qdrant.send_signal(signal.SIGSTOP)
            with repeating(join_and_leave, 0.1):
                away = {"ServiceAway", "Stalled", "LagPersists", "QueriesFail", "Rebalances"}
                assert fired(scraped, away) == away
            qdrant.send_signal(signal.SIGCONT)
            bad.set()
            late = {"FreshnessBurn", "FreshnessBurnSlow", "DeadLetters"}
            assert fired(scraped, late) == late
            bad.clear()
            process.send_signal(signal.SIGSTOP)  # the group has no member any more
            assert fired(scraped, {"Unattended"}) == {"Unattended"}
            process.send_signal(signal.SIGCONT)
            quiet(scraped)
            qdrant.send_signal(signal.SIGSTOP)  # so that there is something to commit when Kafka is gone
            wait_until(lambda: shows(scraped, "sum(penstock_index_lag_records) > 50") != [])
        own_broker.stop()
        try:
            qdrant.send_signal(signal.SIGCONT)
            silent = {"KafkaSilent", "ServiceAway", "LagUnknown"}
            assert fired(scraped, silent) == silent
        finally:
            own_broker.start()
        wait_until(lambda: shows(scraped, "sum(penstock_index_lag_records)") == [0.0], 240)
        quiet(scraped)
