"""What the chart's probes make of real workers: who is restarted, who is left alone, and who drains in time.

A probe's second lasts SCALE seconds here; test_helm holds that the real ones restart a frozen worker within 90 s.
"""

import fcntl
import signal
import time
from pathlib import Path
from typing import Any

import httpx

from penstock.settings import KafkaSettings, MonitorSettings, QdrantSettings
from tests.chart import CHART, of_kind, render
from tests.conftest import own_qdrant, stored, wait_until
from tests.kafka_tools import committed, document, ends, new_topic, produce
from tests.scraping import monitored, stored_in, value, variables

SCALE = 0.1
STALL_S = MonitorSettings().stall_s


def index_pod(*options: object) -> dict[str, Any]:
    return dict(
        of_kind(render("-f", CHART / "ci/default-values.yaml", *options), "Deployment")[
            "release-penstock-index-documents"
        ]["spec"]["template"]["spec"]
    )


def restarts_after(client: httpx.Client, seconds: float) -> float | None:
    """When the kubelet would restart the container within so many seconds of its own time, if it would."""
    probe = index_pod()["containers"][0]["livenessProbe"]
    started, failed = time.monotonic(), 0
    while (at := (time.monotonic() - started) / SCALE) < seconds:
        try:
            alive = client.get("/healthz", timeout=probe["timeoutSeconds"] * SCALE).status_code == 200
        except httpx.TransportError:
            alive = False
        failed = 0 if alive else failed + 1
        if failed == probe["failureThreshold"]:
            return at
        time.sleep(probe["periodSeconds"] * SCALE)
    return None


def test_a_loop_that_is_frozen_is_restarted_within_90_seconds(
    broker: str, qdrant_process: QdrantSettings, minilm: Path
) -> None:
    """The log's pipe is full, so the loop waits for ever to write a line; the port is still answered."""
    kafka = new_topic(broker)
    env = variables(kafka, minilm, **stored_in(qdrant_process, kafka.topic), MONITOR__STALL_S=STALL_S * SCALE)
    with monitored(env) as (process, client):
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert process.stderr is not None
        fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        assert restarts_after(client, 30) is None
        produce(kafka, [(f"bad/{n}", b"no json " + b"x" * 3000) for n in range(2000)], batch_size=1)
        restarted = restarts_after(client, 120)
        assert restarted is not None
        assert client.get("/healthz").json()["status"] == "stuck"
        assert restarted <= 90


def test_a_process_that_is_stopped_is_restarted(broker: str, qdrant_process: QdrantSettings, minilm: Path) -> None:
    kafka = new_topic(broker)
    with monitored(variables(kafka, minilm, **stored_in(qdrant_process, kafka.topic))) as (process, client):
        wait_until(lambda: client.get("/readyz").status_code == 200)
        process.send_signal(signal.SIGSTOP)
        restarted = restarts_after(client, 90)
        process.send_signal(signal.SIGCONT)
        assert restarted is not None


def test_the_probes_of_ten_minutes_without_qdrant_restart_nobody_and_nothing_is_lost(broker: str, minilm: Path) -> None:
    kafka = new_topic(broker, partitions=2)
    with own_qdrant() as (qdrant, known):
        env = variables(
            kafka, minilm, **stored_in(known, kafka.topic), QDRANT__TIMEOUT_S=1, MONITOR__STALL_S=STALL_S * SCALE
        )
        with monitored(env) as (process, client):
            wait_until(lambda: client.get("/readyz").status_code == 200)
            qdrant.send_signal(signal.SIGSTOP)
            produce(kafka, [document(f"doc/{n}") for n in range(100)])
            assert restarts_after(client, 600) is None
            assert value(client, 'penstock_retries_total{service="qdrant"}') > 0
            assert committed(kafka).get(0, 0) == 0
            qdrant.send_signal(signal.SIGCONT)
            wait_until(lambda: committed(kafka) == ends(kafka, 2))
            assert process.poll() is None
        assert len(stored(known.model_copy(update={"collection": kafka.topic}), minilm)) == 100


def test_a_worker_under_load_drains_within_its_grace_period(
    broker: str, qdrant_process: QdrantSettings, minilm: Path
) -> None:
    """What it has committed is stored; what it has not is left to the next, of which there is a lot."""
    kafka = new_topic(broker, partitions=2)
    produce(kafka, [document(f"doc/{n}", "water turns the turbine " * 40 + str(n)) for n in range(2000)])
    with monitored(variables(kafka, minilm, **stored_in(qdrant_process, kafka.topic), KAFKA__MAX_POLL_RECORDS=40)) as (
        process,
        client,
    ):
        wait_until(lambda: value(client, "penstock_index_records_total") > 100, 60)
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert process.wait(60) == 0
        assert time.monotonic() - started < index_pod()["terminationGracePeriodSeconds"]
    done = sum(committed(kafka).values())
    assert 100 < done < 2000
    assert len(stored(qdrant_process.model_copy(update={"collection": kafka.topic}), minilm)) >= done


def keda_lag(kafka: KafkaSettings, partitions: int) -> int:
    """As KEDA's Kafka scaler: the ends less what the group has committed; all there is, where it has nothing yet.

    Source: pkg/scalers/kafka_scaler.go, getLagForPartition, with offsetResetPolicy: earliest.
    """
    done = committed(kafka)
    return sum(end - done.get(partition, 0) for partition, end in ends(kafka, partitions).items())


def test_keda_and_the_worker_see_the_same_lag_of_the_rendered_group(broker: str, minilm: Path) -> None:
    kafka = new_topic(broker, partitions=3)
    values = f"index.autoscaling.by=keda,settings.kafka.bootstrap_servers={broker}"
    names = f"settings.kafka.topic={kafka.topic},settings.kafka.group={kafka.group}"
    (scaled,) = of_kind(
        render("-f", CHART / "ci/default-values.yaml", "--set", f"{values},{names}"), "ScaledObject"
    ).values()
    metadata = scaled["spec"]["triggers"][0]["metadata"]
    seen = KafkaSettings(
        bootstrap_servers=metadata["bootstrapServers"], topic=metadata["topic"], group=metadata["consumerGroup"]
    )
    produce(kafka, [document(f"doc/{n}") for n in range(90)])
    assert keda_lag(seen, 3) == 90, "nothing is committed yet, and all of it is to be done"
    with (
        own_qdrant() as (qdrant, known),
        monitored(variables(kafka, minilm, **stored_in(known, kafka.topic), QDRANT__TIMEOUT_S=1)) as (_, client),
    ):
        wait_until(lambda: keda_lag(seen, 3) == 0 and value(client, "penstock_index_lag_records") == 0)
        qdrant.send_signal(signal.SIGSTOP)
        produce(kafka, [document(f"more/{n}") for n in range(70)])
        wait_until(lambda: value(client, "penstock_index_lag_records") == 70)
        assert keda_lag(seen, 3) == 70
        qdrant.send_signal(signal.SIGCONT)
        wait_until(lambda: keda_lag(seen, 3) == 0)
