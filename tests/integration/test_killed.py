"""A record on which the process dies without a word: it ends a few workers, and then it is a dead letter."""

import json
import signal
import subprocess
import sys
import threading
from contextlib import closing

import grpc as rpc
from kafka import KafkaAdminClient
from qdrant_client import grpc

from penstock.adapters.kafka.connection import client_options
from penstock.adapters.qdrant.collection import find_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.core.attempts import BEFORE_ALONE, BEFORE_LETTER
from penstock.settings import KafkaSettings, QdrantSettings
from tests.conftest import ROOT, wait_until
from tests.kafka_tools import committed, document, new_topic, produce, read_all, source
from tests.killed import IDENTITY, WORD
from tests.store_server import StoreServer

KAFKA = {"bootstrap_servers", "topic", "group", "session_timeout_s"}


def settings_of(kafka: KafkaSettings, server: StoreServer) -> str:
    return json.dumps(
        {
            "kafka": kafka.model_dump(
                mode="json", include={"bootstrap_servers", "topic", "group", "session_timeout_s"}
            ),
            "qdrant": {"url": f"http://127.0.0.1:{server.port}", "grpc_port": server.port, "collection": kafka.topic},
        }
    )


def command(kafka: KafkaSettings, server: StoreServer) -> list[str]:
    return [sys.executable, "-m", "tests.killed", settings_of(kafka, server)]


def run(kafka: KafkaSettings, server: StoreServer) -> int:
    return subprocess.run(command(kafka, server), cwd=ROOT, capture_output=True, check=False, timeout=60).returncode


def indexed(kafka: KafkaSettings, server: StoreServer) -> set[str]:
    qdrant = QdrantSettings(url=f"http://127.0.0.1:{server.port}", grpc_port=server.port)
    with closing(Connection(qdrant)) as connection:
        store = connection.store(find_collection(connection, kafka.topic, IDENTITY))
        return {hit.key.document for hit in store.living()}


def metadata(kafka: KafkaSettings) -> str:
    with closing(KafkaAdminClient(**client_options(kafka))) as admin:
        (at,) = admin.list_group_offsets(kafka.group)[kafka.group].values()
    return str(at.metadata)


def test_a_record_that_kills_the_process_is_a_letter_after_a_few_restarts_and_all_others_are_indexed(
    broker: str, store_server: StoreServer
) -> None:
    kafka = new_topic(broker, session_timeout_s=1.0)
    produce(kafka, [document(f"d{n}", WORD if n == 7 else f"text {n}") for n in range(20)])
    ends: list[int] = []
    while not ends or ends[-1]:
        ends.append(run(kafka, store_server))
        assert len(ends) <= BEFORE_ALONE + BEFORE_LETTER + 1, ends
    assert ends == [-signal.SIGKILL] * (BEFORE_ALONE + BEFORE_LETTER) + [0]
    (letter,) = read_all(kafka, f"{kafka.topic}.dlq")
    assert letter.key == b"d7"
    reason = dict(letter.headers)["__connect.errors.exception.message"].decode()
    assert f"{BEFORE_LETTER} workers, one after the other, died at this record" in reason
    assert indexed(kafka, store_server) == {f"d{n}" for n in range(20)} - {"d7"}
    assert committed(kafka) == {0: 20}


def test_only_the_record_that_kills_is_given_up_whatever_else_the_worker_has_begun(
    broker: str, store_server: StoreServer
) -> None:
    kafka = new_topic(broker, 4, session_timeout_s=1.0)
    produce(kafka, [document(f"d{n}", WORD if n == 7 else f"text {n}") for n in range(40)])
    for _ in range(BEFORE_ALONE + BEFORE_LETTER):
        assert run(kafka, store_server) == -signal.SIGKILL
    assert run(kafka, store_server) == 0
    assert [letter.key for letter in read_all(kafka, f"{kafka.topic}.dlq")] == [b"d7"]
    assert indexed(kafka, store_server) == {f"d{n}" for n in range(40)} - {"d7"}


def test_what_another_worker_has_done_since_is_not_moved_back(broker: str) -> None:
    kafka = new_topic(broker, 2, session_timeout_s=6.0)
    produce(kafka, [document(f"d{n}") for n in range(20)])
    first = source(kafka, once=False)
    wait_until(lambda: first.poll(0.2) is not None)
    other, done, over = source(kafka, once=False), dict[int, int](), threading.Event()

    def hold() -> None:
        while not over.is_set():
            first.poll(0.05, hold=True)

    def others_are_committed() -> bool:
        if (batch := other.poll(0.05)) is not None:
            other.commit(batch.positions)
            done.update({owned.number: at.offset for owned, at in batch.positions.items() if at.offset})
        return bool(done) and all(committed(kafka).get(number, 0) == offset for number, offset in done.items())

    holding = threading.Thread(target=hold)
    holding.start()
    try:
        wait_until(others_are_committed)
    finally:
        over.set()
        holding.join()
    first.excuse()
    first.poll(0.2, hold=True)
    first.close(5)
    assert {number: committed(kafka)[number] for number in done} == done
    other.close(5)


def test_workers_that_are_killed_while_they_wait_for_a_service_blame_no_record(
    broker: str, store_server: StoreServer
) -> None:
    kafka = new_topic(broker, session_timeout_s=1.0)
    produce(kafka, [document(f"d{n}") for n in range(5)])
    away = True

    def fault(_method: str, request: object) -> rpc.StatusCode | None:
        return rpc.StatusCode.UNAVAILABLE if away and isinstance(request, grpc.GetPoints) else None

    store_server.before = fault
    for _ in range(BEFORE_ALONE + 1):
        seen = len(store_server.seen)
        with subprocess.Popen(command(kafka, store_server), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
            wait_until(lambda seen=seen: any(isinstance(r, grpc.GetPoints) for _, r in store_server.seen[seen:]))  # type: ignore[misc]
            wait_until(lambda: "attempts=0" in metadata(kafka))
            process.kill()
    away = False
    assert run(kafka, store_server) == 0
    assert len(indexed(kafka, store_server)) == 5


def test_a_worker_that_is_stopped_before_it_has_come_further_blames_no_record(broker: str) -> None:
    kafka = new_topic(broker, session_timeout_s=1.0)
    produce(kafka, [document("d0")])
    begun = source(kafka)
    wait_until(lambda: begun.poll(0.2) is not None)
    assert metadata(kafka) == "penstock attempts=1 alone_until=0 first"
    begun.excuse()
    begun.close(5)
    assert metadata(kafka) == "penstock attempts=0 alone_until=0 first"
