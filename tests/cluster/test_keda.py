"""The chart's ScaledObject in the hands of KEDA's own operator, over the lag of a real group."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import free_ports
from tests.cluster import Cluster
from tests.cluster.control_plane import CACHE
from tests.cluster.kubelet import self_signed
from tests.cluster.place import Place
from tests.conftest import running, unavailable, wait_until
from tests.kafka_tools import document, produce

pytestmark = [pytest.mark.timeout(600), pytest.mark.at_length]
OPERATOR = CACHE / "keda-operator"
DEPLOYMENT = "penstock-index-documents"


@pytest.fixture
def keda(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """KEDA's operator, and its log. Its metrics server, which scales beyond the first worker, is not there."""
    if not OPERATOR.exists():
        unavailable("no keda-operator: sh tests/cluster/fetch.sh keda builds it with Go")
    cluster.namespace("keda")
    _, certificate = self_signed(tmp_path, "tls")
    (tmp_path / "ca.crt").write_bytes(certificate.read_bytes())
    metrics, health, service = free_ports("127.0.0.1", 3)
    flags = {
        "kubeconfig": cluster.control_plane.kubeconfig, "cert-dir": tmp_path, "enable-cert-rotation": "false",
        "enable-webhook-patching": "false", "enable-apiservice-patching": "false",
        "metrics-bind-address": f"127.0.0.1:{metrics}", "health-probe-bind-address": f"127.0.0.1:{health}",
        "metrics-service-bind-address": f"127.0.0.1:{service}",
    }  # fmt: skip
    env = os.environ | {"WATCH_NAMESPACE": "", "POD_NAMESPACE": "keda", "KEDA_CLUSTER_OBJECT_NAMESPACE": "keda"}
    command = [str(OPERATOR), *(f"--{name}={value}" for name, value in flags.items())]
    log = tmp_path / "keda.log"
    with log.open("wb") as out, running(command, stdout=out, stderr=out, env=env):
        yield log


@pytest.mark.usefixtures("keda")
def test_keda_starts_a_worker_for_the_lag_and_ends_it_when_there_is_none(place: Place) -> None:
    namespace = place.namespace
    none = ["--set", "query.enabled=false", "--set", "index.replicas=0"]
    reached = f"settings.kafka.bootstrap_servers={place.kafka.bootstrap_servers}"  # KEDA is outside the cluster here
    scaling = "index.autoscaling.by=keda,index.autoscaling.min=0,index.autoscaling.pollingInterval=2"
    place.install(*none)
    place.install(*none, "--set", reached, "--set", f"{scaling},index.autoscaling.cooldownPeriod=5")

    def scaled() -> dict[str, str]:
        (one,) = namespace.objects("scaledobjects", "apis/keda.sh/v1alpha1")
        return {condition["type"]: condition["status"] for condition in one.get("status", {}).get("conditions", [])}

    wait_until(lambda: scaled().get("Ready") == "True", 60)
    assert namespace.deployment(DEPLOYMENT)["spec"]["replicas"] == 0
    (autoscaler,) = namespace.objects("horizontalpodautoscalers", "apis/autoscaling/v2")
    assert autoscaler["spec"]["maxReplicas"] == 4
    assert autoscaler["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 600
    sent = {f"doc-{n}": f"water turns turbine {n}" for n in range(20)}
    produce(place.kafka, [document(name, text) for name, text in sent.items()])
    wait_until(lambda: namespace.deployment(DEPLOYMENT)["spec"]["replicas"] == 1, 60)
    place.found(sent)
    wait_until(lambda: namespace.deployment(DEPLOYMENT)["spec"]["replicas"] == 0, 90)
