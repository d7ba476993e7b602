"""The chart, installed by Helm on a real API server, from the first install to the last."""

import json
import shutil
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import yaml

from tests.chart import CHART
from tests.cluster import Cluster
from tests.cluster.control_plane import VERSION
from tests.cluster.place import Place, container, succeeded
from tests.conftest import wait_until

pytestmark = pytest.mark.timeout(600)


def test_a_release_is_installed_upgraded_under_load_and_rolled_back_with_nothing_lost(place: Place) -> None:
    namespace = place.namespace
    place.install()
    for worker, pods in {"index-documents": 1, "query": 2}.items():
        status = namespace.deployment(f"penstock-{worker}")["status"]
        assert status["readyReplicas"] == status["updatedReplicas"] == pods
    assert "Succeeded" in succeeded(namespace.helm("test", "penstock"))
    url = place.service()
    for path in ("/metrics", "/docs", "/openapi.json"):
        assert httpx.get(f"{url}{path}").status_code == httpx.codes.NOT_FOUND
    with place.load(url) as sent:
        wait_until(lambda: len(sent) > 5)
        restarted = ["--set", "settings.index.batch_bytes=1000000", "--set", "settings.query.top_k=5"]
        place.install(*restarted)
        assert "penstock-index-documents" in succeeded(namespace.kubectl("get", "deployments"))
        succeeded(namespace.helm("rollback", "penstock", "1", "--wait", "--timeout", "3m"))
    place.found(sent)
    assert [json.loads(line)["event"] for line in namespace.kubectl("logs", "deployment/penstock-index-documents")
            .stdout.splitlines()].count("started") == 1  # fmt: skip
    succeeded(namespace.helm("uninstall", "penstock", "--wait"))
    wait_until(lambda: not namespace.objects("pods", instance="penstock"), 60)


def test_wait_waits_for_a_worker_that_gets_ready_and_says_so_where_it_does_not(place: Place) -> None:
    namespace = place.namespace
    broken = ["--set", "settings.model.bundle=/nowhere", "--set", "setup.enabled=false", "--set", "query.enabled=false"]
    done = namespace.install(*place.values, *broken, "--wait", "--timeout", "20s")
    assert done.returncode != 0
    (pod,) = namespace.pods("index-documents")
    said = container(pod)["lastState"]["terminated"]["message"]
    assert "/nowhere" in said, said


def test_an_atomic_upgrade_to_a_broken_model_rolls_back_and_the_old_pods_serve_on(place: Place) -> None:
    namespace = place.namespace
    place.install()
    before = {pod["metadata"]["uid"] for worker in ("index-documents", "query") for pod in namespace.pods(worker)}
    broken = ["--set", "settings.model.bundle=/nowhere", "--set", "setup.enabled=false"]
    with place.load(place.service()) as sent:
        done = namespace.install(*place.values, *broken, "--atomic", "--timeout", "25s", seconds=400)
        assert done.returncode != 0
        assert "rolled back" in done.stderr
    after = {pod["metadata"]["uid"] for worker in ("index-documents", "query") for pod in namespace.pods(worker)}
    assert after == before
    place.found(sent)


def test_what_setup_cannot_do_is_said_by_helm(place: Place) -> None:
    done = place.namespace.install(*place.values, "--set", "settings.qdrant.url=http://qdrant:1",
                                   "--set", "settings.qdrant.grpc_port=1", "--set", "setup.waitSeconds=5")  # fmt: skip
    assert done.returncode != 0
    assert "qdrant" in (done.stdout + done.stderr).lower()
    assert "BackoffLimitExceeded" in done.stderr, done.stderr


@pytest.mark.at_length
def test_another_version_of_the_chart_alone_restarts_nothing(place: Place, tmp_path: Path) -> None:
    place.install()
    before = {pod["metadata"]["uid"] for pod in place.namespace.objects("pods", instance="penstock")}
    newer = tmp_path / "helm"
    shutil.copytree(CHART, newer)
    chart = (newer / "Chart.yaml").read_text()
    (newer / "Chart.yaml").write_text(chart.replace("version: 0.1.0", "version: 0.1.1"))
    succeeded(place.namespace.helm("upgrade", "penstock", newer, *place.values, "--wait"))
    assert "penstock-0.1.1" in succeeded(place.namespace.helm("list"))
    assert {pod["metadata"]["uid"] for pod in place.namespace.objects("pods", instance="penstock")} == before


@pytest.mark.at_length
def test_an_autoscaler_that_is_switched_on_keeps_the_workers_that_there_are(place: Place) -> None:
    only = ["--set", "query.enabled=false", "--set", "settings.setup.partitions=4"]
    place.install(*only, "--set", "index.replicas=3")
    place.install(*only, "--set", "index.replicas=3", "--set", "index.autoscaling.by=keda")
    assert place.namespace.deployment("penstock-index-documents")["spec"]["replicas"] == 3
    scaled = place.namespace.objects("scaledobjects", "apis/keda.sh/v1alpha1")
    assert [one["spec"]["scaleTargetRef"]["name"] for one in scaled] == ["penstock-index-documents"]


@pytest.mark.at_length
def test_one_stream_of_two_is_dropped_and_the_other_goes_on(place: Place) -> None:
    def stream(name: str, topic: str) -> list[str]:
        own = {"kafka": {"topic": topic, "group": topic}, "qdrant": {"collection": topic}}
        return ["--set-json", f"index.streams.{name}.settings={json.dumps(own)}"]

    kept, dropped = stream("kept", place.kafka.topic), stream("dropped", f"{place.kafka.topic}-more")
    place.install(*kept, *dropped)
    (before,) = place.namespace.pods("index-kept")
    with place.load(place.service()) as sent:
        place.install(*kept)
        wait_until(lambda: not place.namespace.objects("pods", component="index-dropped"), 60)
    (after,) = place.namespace.pods("index-kept")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    gone = {"configmaps": "api/v1", "deployments": "apis/apps/v1", "poddisruptionbudgets": "apis/policy/v1"}
    for kind, group in gone.items():
        assert place.namespace.objects(kind, group, component="index-dropped") == []
    place.found(sent)


@pytest.mark.parametrize("values", sorted((CHART / "ci").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_api_server_takes_every_object_of_the_chart(cluster: Cluster, values: Path) -> None:
    namespace = cluster.namespace(f"taken-{uuid4().hex[:8]}")
    rendered = succeeded(namespace.helm("template", "penstock", CHART, "--kube-version", VERSION, "--values", values))
    objects = [one for one in yaml.safe_load_all(rendered) if one]
    for account in (one for one in objects if one["kind"] == "ServiceAccount"):
        cluster.api.post(namespace.path("serviceaccounts"), account)  # which a pod by itself must find
    cluster.api.post("/apis/scheduling.k8s.io/v1/priorityclasses", {"metadata": {"name": "high"}, "value": 1})
    done = namespace.kubectl(
        "apply", "--server-side", "--dry-run=server", "--force-conflicts", "--filename=-", stdin=rendered
    )
    assert succeeded(done).count("(server dry run)") == len(objects)
    assert "restricted" not in done.stderr, "pods that the standard would not admit"
