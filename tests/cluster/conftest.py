"""One cluster for the tests of a process, with a broker and a store beside it."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from penstock.settings import KafkaSettings, QdrantSettings
from tests import broker as kafka_broker
from tests.cluster import Cluster, images
from tests.cluster.control_plane import missing
from tests.cluster.place import Place
from tests.conftest import own_qdrant, unavailable, wait_until
from tests.kafka_tools import knows_groups

ALL = "PENSTOCK_TEST_ALL" in os.environ
IMAGE = "penstock:0.1.0-cpu"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what takes minutes to ``make cluster``."""
    for item in items:
        if not ALL and item.get_closest_marker("at_length"):
            item.add_marker(pytest.mark.skip(reason="make cluster runs it"))


@pytest.fixture(scope="package")
def cluster(image_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose nodes have this checkout's image."""
    if reason := missing():
        pytest.skip(reason)  # in CI, too: what cannot be built there in its time is no fault of a change
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    started.images[IMAGE] = images.penstock(image_tree)
    yield started
    started.close()


@pytest.fixture(scope="package")
def cluster_broker(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[kafka_broker.Broker]:
    """A broker that pods reach."""
    if reason := kafka_broker.missing():
        unavailable(reason)
    started = kafka_broker.Broker(tmp_path_factory.mktemp("kafka"), cluster.network.host)
    started.start()
    wait_until(lambda: knows_groups(started.bootstrap_servers))
    yield started
    started.stop()


@pytest.fixture(scope="package")
def cluster_qdrant() -> Iterator[QdrantSettings]:
    """A store beside the cluster."""
    with own_qdrant() as (_, known):
        yield known


@pytest.fixture
def place(cluster: Cluster, cluster_broker: kafka_broker.Broker, cluster_qdrant: QdrantSettings) -> Iterator[Place]:
    """A namespace, topic, group and collection of the test's own; what is installed there ends with it."""
    place = made(cluster, cluster_broker, cluster_qdrant, f"test-{uuid4().hex[:8]}")
    yield place
    place.namespace.end()


def made(cluster: Cluster, broker: kafka_broker.Broker, qdrant: QdrantSettings, name: str) -> Place:
    """In a namespace with a service for Kafka and one for Qdrant, as they are called in the documentation."""
    namespace = cluster.namespace(f"{name}-{uuid4().hex[:4]}")
    namespace.outside("kafka", 9092, int(broker.bootstrap_servers.split(":")[1]))
    namespace.outside("qdrant", 6334, cluster.serve(qdrant.grpc_port))
    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, topic=name, group=name, session_timeout_s=6.0)
    settings = {
        "kafka.topic": name, "kafka.group": name, "kafka.session_timeout_s": 6, "qdrant.collection": name,
        "model.threads": 1, "http.allow_insecure": "true",
    }  # fmt: skip
    options = [part for key, value in settings.items() for part in ("--set", f"settings.{key}={value}")]
    return Place(namespace, kafka, qdrant.model_copy(update={"collection": name}), options)
