"""The lag exporter against a real Kafka: what it tells of groups whose consumers run, and of those whose do not."""

import json
import time
import uuid
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from kafka import KafkaAdminClient, TopicPartition
from kafka.structs import OffsetAndMetadata

from penstock.adapters.kafka.connection import client_options
from penstock.settings import KafkaSettings
from tests.broker import Broker
from tests.conftest import wait_until
from tests.kafka_tools import document, new_topic, produce, source
from tests.scraping import exporting, value
from tests.workers import environment, penstock


def settings_of(kafka: KafkaSettings, **more: object) -> dict[str, str]:
    own = {"BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "TOPIC": kafka.topic, "GROUP": kafka.group}
    return environment(None, **{f"KAFKA__{name}": value for name, value in own.items()}, MONITOR__PORT=0, **more)


def commit(kafka: KafkaSettings, offsets: Mapping[int, int]) -> None:
    """As if the group had come so far, while it has no members."""
    at = {TopicPartition(kafka.topic, number): OffsetAndMetadata(offset, "", -1) for number, offset in offsets.items()}
    with closing(KafkaAdminClient(**client_options(kafka))) as admin:
        admin.alter_group_offsets(kafka.group, at)


def of(kafka: KafkaSettings, partition: int = 0, group: str = "") -> str:
    return f'{{group="{group or kafka.group}",partition="{partition}",topic="{kafka.topic}"}}'


def test_a_group_without_members_has_lag_that_is_seen_from_outside(broker: str) -> None:
    kafka = new_topic(broker, partitions=2)
    with exporting(settings_of(kafka)) as (started, client):
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/healthz").status_code == client.get("/startz").status_code == 200
        assert value(client, f"penstock_lag_records{of(kafka)}") == 0
        assert value(client, f"penstock_lag_seconds{of(kafka)}") == 0
        assert value(client, f'penstock_lag_members{{group="{kafka.group}"}}') == 0
        produced_s = time.time()
        produce(kafka, [document(f"doc/{n}") for n in range(20)])
        wait_until(lambda: value(client, "penstock_lag_records") == 20)
        wait_until(lambda: value(client, "penstock_lag_seconds") > 2)
        assert value(client, f"penstock_lag_seconds{of(kafka)}") <= time.time() - produced_s
        first, second = (int(value(client, f"penstock_lag_records{of(kafka, number)}")) for number in (0, 1))
        commit(kafka, {0: first, 1: second - 1})
        wait_until(lambda: value(client, "penstock_lag_records") == 1)
        assert value(client, f"penstock_lag_seconds{of(kafka)}") == 0
        assert value(client, f"penstock_lag_seconds{of(kafka, 1)}") > 0
        member = source(kafka, once=False)
        try:
            wait_until(lambda: (member.poll(0.1), value(client, "penstock_lag_members"))[1] == 1)
        finally:
            member.close(5)
        assert started.stop() == 0


def test_age_is_that_of_the_first_record_that_is_not_committed(broker: str) -> None:
    kafka = new_topic(broker)
    produce(kafka, [document("old")])
    time.sleep(1.5)  # so that the two records have an age of their own
    new_s = time.time()
    produce(kafka, [document("new")])
    with exporting(settings_of(kafka)) as (_, client):
        wait_until(lambda: client.get("/readyz").status_code == 200)
        asked_s = time.time()
        assert value(client, "penstock_lag_seconds") > asked_s - new_s
        commit(kafka, {0: 1})
        wait_until(lambda: value(client, "penstock_lag_records") == 1)
        assert 0 < value(client, "penstock_lag_seconds") <= time.time() - new_s


def test_what_retention_has_removed_is_no_lag(broker: str) -> None:
    kafka = new_topic(broker)
    produce(kafka, [document(f"doc/{n}") for n in range(9)])
    commit(kafka, {0: 1})
    with closing(KafkaAdminClient(**client_options(kafka))) as admin:
        admin.delete_records({TopicPartition(kafka.topic, 0): 4})
    with exporting(settings_of(kafka)) as (_, client):
        wait_until(lambda: value(client, "penstock_lag_records") == 5)
        wait_until(lambda: value(client, "penstock_lag_seconds") > 0)


def test_groups_of_queries_and_others_are_watched_too_and_a_topic_that_is_not_there_is_no_reason_to_end(
    broker: str,
) -> None:
    kafka, queries = new_topic(broker), new_topic(broker)
    produce(kafka, [document("one")])
    produce(queries, [("q", json.dumps({"id": "q", "query": "water"}).encode())] * 3)
    missing = f"missing-{uuid.uuid4().hex}"
    env = settings_of(kafka, QUERY__TOPIC=queries.topic, QUERY__GROUP=queries.group)
    others = ("--watch", f"other=^{kafka.topic[:-1]}.", "--watch", f"other={missing}")
    with exporting(env, *others) as (started, client):
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert value(client, f"penstock_lag_records{of(kafka)}") == 1
        assert value(client, f"penstock_lag_records{of(queries)}") == 3
        assert value(client, f"penstock_lag_records{of(kafka, group='other')}") == 1
        assert value(client, 'penstock_lag_members{group="other"}') == 0
        assert missing not in client.get("/metrics").text
        assert started.stop() == 0
    assert [line["topic"] for line in started.lines if line["event"] == "topic_missing"] == [missing]


def test_while_kafka_is_away_it_serves_and_tells_since_when(own_broker: Broker) -> None:
    kafka = new_topic(own_broker.bootstrap_servers)
    produce(kafka, [document("one")])
    with exporting(settings_of(kafka)) as (started, client):
        wait_until(lambda: value(client, "penstock_lag_records") == 1)
        own_broker.stop()
        try:
            wait_until(lambda: value(client, 'penstock_retries_total{service="kafka"}') >= 1)
            answered_s = value(client, "penstock_lag_answered_timestamp_seconds")
            wait_until(lambda: value(client, 'penstock_retries_total{service="kafka"}') >= 2)
            assert value(client, "penstock_lag_answered_timestamp_seconds") == answered_s < time.time()
            assert client.get("/healthz").status_code == 200
        finally:
            own_broker.start()
        wait_until(lambda: value(client, "penstock_lag_answered_timestamp_seconds") > answered_s, 60)
        assert started.stop() == 0


def test_what_does_not_fit_is_told_in_one_line(tmp_path: Path) -> None:
    for options, variables, said in (
        ((), {}, "PENSTOCK_MONITOR__PORT"),
        (("--watch", "documents"), {"MONITOR__PORT": 0}, "GROUP=TOPIC"),
        (("--watch", "group=^("), {"MONITOR__PORT": 0}, "--watch group=^("),
    ):
        done = penstock(tmp_path, "lag-exporter", *options, variables=variables)
        assert done.returncode == 2
        assert said in done.stderr.decode()
