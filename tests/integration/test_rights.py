"""The least rights on Kafka that each worker needs: with them it works, without one it says so and loses nothing."""

import json
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

from penstock.adapters.kafka.connection import client_options
from penstock.adapters.kafka.progress import KafkaProgress
from penstock.adapters.kafka.topics import create_topic
from penstock.core.errors import Misconfigured
from penstock.core.records import Place
from penstock.demo import corpus
from penstock.settings import KafkaSettings, QdrantSettings
from tests.broker import Broker
from tests.conftest import wait_until
from tests.integration.test_cli import one_line
from tests.integration.test_query import answers, query_worker
from tests.kafka_tools import committed, document, new_topic, produce, read_all
from tests.scraping import exporting, stored_in, value
from tests.workers import environment, penstock


class Right(NamedTuple):
    """Of the user ``penstock``; ``{}`` is the topic's name, and the group's."""

    kind: ResourceType
    name: str
    operation: ACLOperation


INDEX = (
    Right(ResourceType.TOPIC, "{}", ACLOperation.READ),
    Right(ResourceType.GROUP, "{}", ACLOperation.READ),
    Right(ResourceType.TOPIC, "{}.dlq", ACLOperation.WRITE),
)
"""``penstock index``; reading and writing include describing."""

QUERY = (*INDEX, Right(ResourceType.TOPIC, "{}.replies", ACLOperation.WRITE))
"""``penstock query`` with a topic; ``{}`` is that of the queries."""

FOLLOW = (
    Right(ResourceType.TOPIC, "{}", ACLOperation.DESCRIBE),
    Right(ResourceType.GROUP, "{}", ACLOperation.DESCRIBE),
)
"""What ``after`` needs beside, on the documents' topic and the index workers' group."""

EXPORTER = (Right(ResourceType.TOPIC, "{}", ACLOperation.READ), Right(ResourceType.GROUP, "{}", ACLOperation.DESCRIBE))
"""``penstock lag-exporter``; it reads a record for its time."""

SETUP = tuple(
    Right(ResourceType.TOPIC, name, operation)
    for name in ("{}", "{}.dlq")
    for operation in (ACLOperation.DESCRIBE, ACLOperation.CREATE)
)


def grant(kafka: KafkaSettings, rights: Sequence[Right]) -> None:
    with closing(KafkaAdminClient(**client_options(kafka))) as admin:
        admin.create_acls(
            [
                ACL(
                    "User:penstock", "*", one.operation, ACLPermissionType.ALLOW,
                    ResourcePattern(one.kind, one.name.format(kafka.topic)),
                )
                for one in rights
            ]
        )  # fmt: skip


def login(own_broker: Broker, kafka: KafkaSettings) -> dict[str, object]:
    return {
        "KAFKA__BOOTSTRAP_SERVERS": own_broker.secure_servers, "KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA__SASL_MECHANISM": "PLAIN", "KAFKA__SASL_USERNAME": "penstock",
        "KAFKA__SASL_PASSWORD": "no-more-than-needed", "KAFKA__SSL_CA_FILE": own_broker.ca_file,
        "KAFKA__TOPIC": kafka.topic, "KAFKA__GROUP": kafka.group, "MODEL__BUNDLE": corpus.EMBEDDING,
        "RERANK__ENABLED": "false",
    }  # fmt: skip


def secured(own_broker: Broker, kafka: KafkaSettings) -> KafkaSettings:
    given = login(own_broker, kafka).items()
    return KafkaSettings.model_validate(
        {name.removeprefix("KAFKA__").lower(): value for name, value in given if name.startswith("KAFKA__")}
    )


def with_topics(own_broker: Broker) -> KafkaSettings:
    kafka = new_topic(own_broker.bootstrap_servers)
    create_topic(kafka.model_copy(update={"topic": f"{kafka.topic}.dlq"}), 1)
    produce(kafka, [document("one"), ("bad", b"{nonsense")])
    return kafka


def test_an_index_worker_needs_three_rights(own_broker: Broker, tmp_path: Path) -> None:
    kafka = with_topics(own_broker)
    grant(kafka, INDEX)
    done = penstock(tmp_path, "index", "--once", variables=login(own_broker, kafka))
    assert done.returncode == 0, done.stderr
    assert (committed(kafka), len(read_all(kafka, f"{kafka.topic}.dlq"))) == ({0: 2}, 1)


def test_offsets_are_shown_to_who_may_describe_and_set_by_who_may_read(own_broker: Broker, tmp_path: Path) -> None:
    kafka = with_topics(own_broker)
    of_queries = {"QUERY__TOPIC": kafka.topic, "QUERY__GROUP": kafka.group, "KAFKA__TOPIC": "others"}
    variables = login(own_broker, kafka) | of_queries
    grant(kafka, FOLLOW)
    shown = penstock(tmp_path, "offsets", "show", "--queries", "--json", variables=variables)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["lag"] == 2
    reset = ("offsets", "reset", "--queries", "--to", "beginning")
    one_line(penstock(tmp_path, *reset, variables=variables), 2)
    assert committed(kafka) == {}
    grant(kafka, INDEX[:2])
    assert penstock(tmp_path, *reset, variables=variables).returncode == 0
    assert committed(kafka) == {0: 0}


def test_to_see_whether_the_topic_is_compacted_takes_one_more_right_and_the_worker_says_so(
    own_broker: Broker, tmp_path: Path
) -> None:
    kafka = with_topics(own_broker)
    grant(kafka, INDEX)
    variables = login(own_broker, kafka) | {"INDEX__ORDER": "event"}
    done = penstock(tmp_path, "index", "--once", variables=variables)
    assert done.returncode == 0, done.stderr
    assert b"compaction_unknown" in done.stderr
    grant(kafka, [Right(ResourceType.TOPIC, "{}", ACLOperation.DESCRIBE_CONFIGS)])
    assert b"compaction_unknown" not in penstock(tmp_path, "index", "--once", variables=variables).stderr


@pytest.mark.parametrize("missing", range(len(INDEX)))
def test_an_index_worker_without_one_of_them_says_so_and_loses_nothing(
    own_broker: Broker, tmp_path: Path, missing: int
) -> None:
    kafka = with_topics(own_broker)
    grant(kafka, [right for n, right in enumerate(INDEX) if n != missing])
    said = one_line(penstock(tmp_path, "index", "--once", variables=login(own_broker, kafka)), 2)
    assert INDEX[missing].name.format(kafka.topic) in said
    assert f"{INDEX[missing].kind.name.title()}AuthorizationFailedError" in said
    assert committed(kafka).get(0, 0) == 0


def test_a_dead_letter_topic_that_may_not_be_written_ends_the_worker_and_loses_nothing(
    own_broker: Broker, tmp_path: Path
) -> None:
    kafka = with_topics(own_broker)
    grant(kafka, [*INDEX[:2], INDEX[2]._replace(operation=ACLOperation.DESCRIBE)])
    said = one_line(penstock(tmp_path, "index", "--once", variables=login(own_broker, kafka)), 2)
    assert f"dead letter topic '{kafka.topic}.dlq': [Error 29] TopicAuthorizationFailedError" in said
    assert committed(kafka).get(0, 0) == 0


def test_a_query_worker_needs_four_rights_and_two_to_follow(
    own_broker: Broker, qdrant_process: QdrantSettings, tmp_path: Path
) -> None:
    kafka, queries = with_topics(own_broker), with_topics(own_broker)
    create_topic(queries.model_copy(update={"topic": f"{queries.topic}.replies"}), 1)
    grant(kafka, [*INDEX, *FOLLOW])
    grant(queries, QUERY)
    asked = {"QUERY__TOPIC": queries.topic, "QUERY__GROUP": queries.group, "QUERY__FOLLOW": "true",
             "QUERY__REPLY_TOPIC": f"{queries.topic}.replies"}  # fmt: skip
    variables = login(own_broker, kafka) | stored_in(qdrant_process, kafka.topic) | asked
    assert penstock(tmp_path, "index", "--once", variables=variables).returncode == 0
    with query_worker(tmp_path, variables) as (worker, client):
        worker.until("ready")
        body = {"query": "words", "after": {"topic": kafka.topic, "partition": 0, "offset": 0}}
        assert [hit["document"] for hit in client.post("/v1/search", json=body).json()["hits"]] == ["one"]
        produce(queries, [("q", json.dumps(body | {"id": "q"}).encode())])
        assert len(answers(queries, f"{queries.topic}.replies", 3)) == 3
        assert worker.stop() == 0


def test_the_lag_exporter_needs_two_rights(own_broker: Broker) -> None:
    kafka = with_topics(own_broker)
    grant(kafka, EXPORTER)
    with exporting(environment(None, MONITOR__PORT=0, **login(own_broker, kafka))) as (_, client):
        wait_until(lambda: value(client, "penstock_lag_records") == 2)
        assert value(client, "penstock_lag_seconds") > 0


@pytest.mark.parametrize("missing", range(len(EXPORTER)))
def test_the_lag_exporter_without_one_of_them_says_so(own_broker: Broker, tmp_path: Path, missing: int) -> None:
    kafka = with_topics(own_broker)
    grant(kafka, [right for n, right in enumerate(EXPORTER) if n != missing])
    grant(kafka, [Right(ResourceType.TOPIC, "{}", ACLOperation.DESCRIBE)])
    variables = login(own_broker, kafka) | {"MONITOR__PORT": 0}
    said = one_line(penstock(tmp_path, "lag-exporter", variables=variables), 2)
    assert f"{EXPORTER[missing].kind.name.title()}AuthorizationFailedError" in said


def test_setup_needs_to_see_and_make_its_topics(own_broker: Broker, tmp_path: Path) -> None:
    name = f"documents-{uuid.uuid4().hex[:8]}"
    kafka = KafkaSettings(bootstrap_servers=own_broker.bootstrap_servers, topic=name, group=name)
    grant(kafka, SETUP)
    variables = login(own_broker, kafka)
    assert penstock(tmp_path, "setup", variables=variables).returncode == 0
    assert penstock(tmp_path, "setup", variables=variables).stdout.count(b": there") == 3


@pytest.mark.parametrize("missing", range(len(FOLLOW)))
def test_without_one_of_the_rights_to_follow_that_is_what_a_search_is_told(own_broker: Broker, missing: int) -> None:
    kafka = with_topics(own_broker)
    grant(kafka, [right for n, right in enumerate(FOLLOW) if n != missing])
    with closing(KafkaProgress(secured(own_broker, kafka))) as progress:
        with pytest.raises(
            Misconfigured, match=f"{FOLLOW[missing].kind.name.title()}AuthorizationFailedError"
        ) as caught:
            progress.searchable([Place(kafka.topic, 0, 0)])
        assert FOLLOW[missing].name.format(kafka.topic) in str(caught.value)


def test_a_topic_to_follow_that_does_not_exist_is_not_blamed_on_the_query(own_broker: Broker) -> None:
    kafka = KafkaSettings(bootstrap_servers=own_broker.bootstrap_servers, topic="nothing-there")
    with (
        closing(KafkaProgress(kafka)) as progress,
        pytest.raises(Misconfigured, match="topic 'nothing-there' does not exist"),
    ):
        progress.searchable([Place("nothing-there", 0, 0)])
