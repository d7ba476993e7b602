"""The operating guide's way from an empty namespace to a release and back, command by command, as it is written.

All but port-forward, which nodes of ours cannot do: in its place stands a forward of ours to the same service.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.settings import QdrantSettings
from tests.broker import Broker
from tests.chart import binary
from tests.cluster import Cluster, Namespace
from tests.cluster.conftest import made
from tests.cluster.control_plane import CACHE
from tests.cluster.network import Forward
from tests.cluster.place import succeeded
from tests.conftest import ROOT, wait_until
from tests.examples import of_blocks

pytestmark = pytest.mark.timeout(900)
FORWARDED = re.compile(r"kubectl port-forward service/(\S+) (\d+):(\d+)")


@pytest.fixture
def environment(
    cluster: Cluster, cluster_broker: Broker, cluster_qdrant: QdrantSettings, tmp_path: Path
) -> Iterator[Namespace]:
    """A namespace that the operator's kubectl and helm are at."""
    namespace = made(cluster, cluster_broker, cluster_qdrant, "documents").namespace
    known = cluster.control_plane.kubeconfig.read_text().replace("namespace: default", f"namespace: {namespace.name}")
    (tmp_path / "kubeconfig").write_text(known)
    for name, found in {"helm": binary("helm"), "kubectl": str(CACHE / "kubectl")}.items():
        (tmp_path / name).symlink_to(found)
    yield namespace
    namespace.end()


def test_an_operator_who_types_what_the_guide_says_gets_what_it_says(environment: Namespace, tmp_path: Path) -> None:
    section = ROOT / "docs/operating.md"
    part = re.search(r"^## On Kubernetes$.*?^## ", section.read_text(), re.MULTILINE | re.DOTALL)
    assert part is not None
    (tmp_path / "guide.md").write_text(part[0])
    env = os.environ | {"KUBECONFIG": str(tmp_path / "kubeconfig"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    said, ports = list[tuple[str, str]](), dict[str, str]()
    for _, written in of_blocks(tmp_path / "guide.md"):
        if (asked := FORWARDED.match(written)) is not None:
            ports[f"localhost:{asked[2]}"] = forwarded(environment, asked[1], int(asked[3]))
            continue
        command = re.sub(r"localhost:\d+", lambda found: ports[found[0]], written)
        shell = ["bash", "-c", command]
        done = subprocess.run(shell, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        said.append((command, succeeded(done)))
    told = "\n".join(text for _, text in said)
    assert told.count("Phase:          Succeeded") == 2  # helm test, before and after the keys are new
    assert '"hits"' in next(text for command, text in said if command.startswith("curl"))
    assert "Rollback was a success" in told
    assert 'release "penstock" uninstalled' in told
    wait_until(lambda: not environment.objects("pods", instance="penstock"), 60)


def forwarded(namespace: Namespace, name: str, port: int) -> str:
    """A port of this machine that leads to a service."""
    address = namespace.cluster.api.get(f"{namespace.path('services')}/{name}")["spec"]["clusterIP"]
    return f"localhost:{Forward('127.0.0.1', 0, lambda: [(address, port)]).port}"
