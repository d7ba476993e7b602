"""What befalls the pods of a release in its life, with records and searches that go on meanwhile."""

import signal
import time

import httpx
import pytest

from tests.broker import Broker
from tests.cluster import Cluster
from tests.cluster.api import Object
from tests.cluster.place import Place, container, succeeded
from tests.cluster.pod import PodRun
from tests.conftest import wait_until

pytestmark = pytest.mark.timeout(600)
ONLY_INDEX = ("--set", "query.enabled=false")


def run_of(cluster: Cluster, pod: Object) -> PodRun:
    """The pod on its node."""
    (found,) = [run for node in cluster.nodes for uid, run in node.runs.items() if uid == pod["metadata"]["uid"]]
    return found


def nodes(place: Place) -> list[str]:
    """Where the index workers are; those that are nowhere yet have an empty name."""
    return [pod["spec"].get("nodeName", "") for pod in place.namespace.pods("index-documents")]


def series(pod: Object, name: str) -> dict[str, float]:
    """Of a worker's metrics."""
    text = httpx.get(f"http://{pod['status']['podIP']}:9464/metrics", timeout=20).text
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(name)]
    return {labels: float(value) for labels, value in lines}


def test_workers_are_scaled_out_and_in_with_one_rebalance_each_and_nothing_lost(place: Place) -> None:
    place.install(*ONLY_INDEX)
    (first,) = place.namespace.pods("index-documents")
    with place.load() as sent:
        wait_until(lambda: len(series(first, "penstock_index_lag_records{")) == 4, 60)
        succeeded(place.namespace.kubectl("scale", "deployment/penstock-index-documents", "--replicas=3"))
        wait_until(lambda: len(place.namespace.pods("index-documents")) == 3)
        succeeded(place.namespace.kubectl("rollout", "status", "deployment/penstock-index-documents"))
        workers = place.namespace.pods("index-documents")
        wait_until(lambda: sorted(len(series(one, "penstock_index_lag_records{")) for one in workers) == [1, 1, 2], 60)
        succeeded(place.namespace.kubectl("scale", "deployment/penstock-index-documents", "--replicas=1"))
        wait_until(lambda: len(place.namespace.objects("pods", component="index-documents")) == 1, 60)
        (last,) = place.namespace.pods("index-documents")
        wait_until(lambda: len(series(last, "penstock_index_lag_records{")) == 4, 60)
    place.found(sent)


@pytest.mark.at_length
def test_nodes_are_drained_of_workers_that_wait_for_kafka_and_are_not_ready(
    place: Place, cluster_broker: Broker
) -> None:
    place.install(*ONLY_INDEX, "--set", "index.replicas=2")
    with place.load() as sent:
        wait_until(lambda: len(sent) > 5)
    assert sorted(nodes(place)) == ["node-a", "node-b"]
    cluster_broker.stop()
    try:
        succeeded(place.namespace.kubectl("delete", "pods", "--all"))
        wait_until(lambda: len(place.namespace.pods("index-documents")) == 2)
        only = "--pod-selector=app.kubernetes.io/name=penstock"
        drain = ["drain", "node-a", "--ignore-daemonsets", "--delete-emptydir-data", only, "--timeout=60s"]
        succeeded(place.namespace.kubectl(*drain))
        wait_until(lambda: nodes(place) == ["node-b", "node-b"])
        assert not any(container(pod)["ready"] for pod in place.namespace.pods("index-documents"))
    finally:
        cluster_broker.start()
        succeeded(place.namespace.kubectl("uncordon", "node-a"))
    place.found(sent)


@pytest.mark.at_length
def test_a_worker_that_needs_more_memory_than_it_may_have_dies_again_and_again_and_loses_nothing(place: Place) -> None:
    little = ("--set", "index.resources.limits.memory=64Mi", "--set", "index.resources.requests.memory=64Mi")
    done = place.namespace.install(*place.values, *ONLY_INDEX, *little, "--wait", "--timeout", "20s")
    assert done.returncode != 0
    (pod,) = place.namespace.pods("index-documents")
    assert container(pod)["restartCount"] > 0
    assert container(pod)["lastState"]["terminated"]["reason"] == "OOMKilled"
    with place.load() as sent:
        place.install(*ONLY_INDEX)
    place.found(sent)


def test_a_worker_that_hangs_is_restarted_within_90_seconds_and_loses_nothing(place: Place, cluster: Cluster) -> None:
    place.install(*ONLY_INDEX)
    (pod,) = place.namespace.pods("index-documents")
    with place.load() as sent:
        wait_until(lambda: len(sent) > 5)
        began = time.monotonic()
        running = run_of(cluster, pod).containers[0].process
        assert running is not None
        running.signal(signal.SIGSTOP)
        wait_until(lambda: container(place.namespace.pods("index-documents")[0])["restartCount"] == 1, 100)
        assert time.monotonic() - began < 90
    place.found(sent)


@pytest.mark.at_length
def test_keys_are_rotated_by_a_secret_and_a_restart(place: Place) -> None:
    def secret(keys: str) -> None:
        made = place.namespace.kubectl("create", "secret", "generic", "penstock", "--dry-run=client", "--output=json",
                                       f'--from-literal=PENSTOCK_HTTP__API_KEYS={{"": {keys}}}')  # fmt: skip
        succeeded(place.namespace.kubectl("apply", "--filename=-", stdin=succeeded(made)))

    def status(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.post(f"{url}/v1/search", json={"query": "water"}, headers=headers, timeout=20).status_code

    old, new = "the old key of sixteen", "the new key of sixteen"
    secret(f'"{old}"')
    place.install("--set", "secrets.existingSecret=penstock", "--set", "settings.http.allow_insecure=false")
    url = place.service()
    assert (status(old), status(new)) == (200, 401)
    for keys, expected in ((f'["{new}", "{old}"]', (200, 200)), (f'"{new}"', (401, 200))):
        secret(keys)
        succeeded(place.namespace.kubectl("rollout", "restart", "deployment/penstock-query"))
        succeeded(place.namespace.kubectl("rollout", "status", "deployment/penstock-query", "--timeout=90s"))
        assert (status(old), status(new)) == expected


@pytest.mark.at_length
def test_a_worker_on_the_only_gpu_is_upgraded(place: Place, cluster: Cluster) -> None:
    if not any(node.name == "node-gpu" for node in cluster.nodes):
        cluster.nodes.append(cluster.add_node("node-gpu", **{"nvidia.com/gpu": "1"}))
    # a GPU as the scheduler sees it; the model runs on processors all the same
    gpu = ("--set", "index.model.accelerator=cuda", "--set", "index.settings.model.provider=cpu",
           "--set", "index.settings.model.require_provider=cpu", "--set", "image.tag=0.1.0-cpu")  # fmt: skip
    place.install(*gpu, *ONLY_INDEX)
    (first,) = place.namespace.pods("index-documents")
    assert first["spec"]["nodeName"] == "node-gpu"
    with place.load() as sent:
        place.install(*gpu, *ONLY_INDEX, "--set", "settings.index.batch_bytes=1000000")
        (second,) = place.namespace.pods("index-documents")
        assert second["metadata"]["uid"] != first["metadata"]["uid"]
    place.found(sent)
