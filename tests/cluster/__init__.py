"""A Kubernetes cluster on this machine: a real control plane, and nodes of ours that start containers as processes.

What is real: the API server with its admission and validation, etcd, controllers, scheduler, kubectl, Helm, the
image's files, and every process in a pod. What is not: images are folders, services are forwards, network policies and
processor limits are not enforced, and a container that outgrows its memory is found by looking.
"""

import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.chart import CHART, binary
from tests.cluster.api import Api, Object
from tests.cluster.control_plane import CACHE, ControlPlane
from tests.cluster.images import Image
from tests.cluster.kubelet import Kubelet
from tests.cluster.network import Forward, Network
from tests.cluster.services import NAME, SLICES, Services

Done = subprocess.CompletedProcess[str]


class Cluster:
    """Started with two nodes. ``images`` may be added to."""

    def __init__(self, folder: Path, flags: Mapping[str, str] | None = None) -> None:
        """Returns when it takes what is asked of it; ``flags`` are the API server's."""
        self._opened, self._folder = ExitStack(), folder
        self.images: dict[str, Image] = {}
        try:
            self.network = Network()
            self._opened.callback(self.network.close)
            self.control_plane = ControlPlane(folder, self.network, flags)
            self._opened.callback(self.control_plane.close)
            self.api: Api = self.control_plane.api
            self._services = Services(self.api, self.network)
            self._opened.callback(self._services.close)
            for kinds in sorted((CACHE / "types").iterdir()):
                self.types(kinds)
            self.nodes = [self.add_node(name) for name in ("node-a", "node-b")]
        except BaseException:
            self.close()
            raise

    def types(self, folder: Path) -> None:
        """Let the API server know other projects' kinds of objects."""
        made = [str(CACHE / "kubectl"), f"--kubeconfig={self.control_plane.kubeconfig}", "apply", "--server-side",
                "--filename", str(folder)]  # fmt: skip
        subprocess.run(made, check=True, capture_output=True)

    def add_node(self, name: str, **resources: str) -> Kubelet:
        """Another one."""
        folder = self._folder / name
        folder.mkdir()
        node = Kubelet(name, self.api, self.network, folder, self.images, self._services.hosts, resources)
        self._opened.callback(node.close)
        return node

    def close(self) -> None:
        """Leave nothing behind."""
        self._opened.close()

    def serve(self, port: int) -> int:
        """Let pods reach a port of this machine's loopback; the port that they find at ``network.host``."""
        forward = Forward(self.network.host, 0, lambda: [("127.0.0.1", port)])
        self._opened.callback(forward.close)
        return forward.port

    def namespace(self, name: str) -> "Namespace":
        """A new one, in which only pods of the standard "restricted" are admitted."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.api.post("/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        return Namespace(self, name)


@dataclass(frozen=True, slots=True)
class Namespace:
    """What one test installs, asks and breaks."""

    cluster: Cluster
    name: str

    def helm(self, *arguments: object, seconds: float = 300) -> Done:
        """Run it against this namespace."""
        return self._run(binary("helm"), *arguments, seconds=seconds)

    def kubectl(self, *arguments: object, seconds: float = 120, stdin: str = "") -> Done:
        """Run it against this namespace."""
        return self._run(str(CACHE / "kubectl"), *arguments, seconds=seconds, stdin=stdin)

    def install(self, *arguments: object, release: str = "penstock", seconds: float = 300) -> Done:
        """The chart of this checkout; what is there already is upgraded."""
        return self.helm("upgrade", "--install", release, CHART, *arguments, seconds=seconds)

    def objects(self, kind: str, group: str = "api/v1", **selected: str) -> list[Object]:
        """Of a kind (plural), by labels."""
        selector = ",".join(f"app.kubernetes.io/{name}={value}" for name, value in selected.items())
        return list(self.cluster.api.get(self.path(kind, group), labelSelector=selector)["items"])

    def pods(self, component: str) -> list[Object]:
        """Of a worker that are not on their way out."""
        return [pod for pod in self.objects("pods", component=component) if "deletionTimestamp" not in pod["metadata"]]

    def deployment(self, name: str) -> Object:
        """By its name."""
        return self.cluster.api.get(f"{self.path('deployments', 'apis/apps/v1')}/{name}")

    def path(self, kind: str, group: str = "api/v1") -> str:
        """Of a kind (plural) in the API."""
        return f"/{group}/namespaces/{self.name}/{kind}"

    def end(self) -> None:
        """Remove all that is in it; nobody waits for that."""
        self.cluster.api.delete(f"/api/v1/namespaces/{self.name}")

    def claim(self, name: str, folder: Path) -> None:
        """A claim that is bound to a folder of this machine."""
        size, modes = {"storage": "1Gi"}, ["ReadOnlyMany"]
        self.cluster.api.post("/api/v1/persistentvolumes", {
            "metadata": {"name": f"{self.name}-{name}"},
            "spec": {"capacity": size, "accessModes": modes, "hostPath": {"path": str(folder)}},
        })  # fmt: skip
        wanted = {"accessModes": modes, "storageClassName": "", "volumeName": f"{self.name}-{name}"}
        self.cluster.api.post(
            self.path("persistentvolumeclaims"),
            {"metadata": {"name": name}, "spec": {**wanted, "resources": {"requests": size}}},
        )

    def outside(self, name: str, port: int, to: int) -> None:
        """A service for what runs on this machine beside the cluster: its port, and where that leads."""
        self.cluster.api.post(
            self.path("services"), {"metadata": {"name": name}, "spec": {"ports": [{"name": "tcp", "port": port}]}}
        )
        self.cluster.api.post(self.path("endpointslices", SLICES.removesuffix("/endpointslices")[1:]), {
            "metadata": {"name": f"{name}-outside", "labels": {NAME: name}}, "addressType": "IPv4",
            "ports": [{"name": "tcp", "port": to}], "endpoints": [{"addresses": [self.cluster.network.host]}],
        })  # fmt: skip

    def _run(self, *command: object, seconds: float, stdin: str = "") -> Done:
        own = [f"--kubeconfig={self.cluster.control_plane.kubeconfig}", f"--namespace={self.name}"]
        program, *arguments = map(str, command)
        return subprocess.run(
            [program, *own, *arguments], capture_output=True, text=True, check=False, timeout=seconds, input=stdin
        )
