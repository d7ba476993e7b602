"""A real API server with its etcd, controller manager and scheduler, as processes on this machine."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.broker import free_ports
from tests.cluster.api import Api
from tests.cluster.network import Network
from tests.conftest import running, wait_until

VERSION = "1.37.2"
CACHE = Path(os.environ.get("PENSTOCK_TEST_CACHE", Path.home() / ".cache/penstock-tests")) / f"kubernetes-{VERSION}"
OURS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
NEEDED = ("etcd", "ip", "nsenter", "openssl", "setpriv", "unshare")
START_S = 120.0


def missing() -> str | None:
    """What keeps a cluster from starting here, or None."""
    if os.geteuid() != 0:
        return "a cluster's pods are namespaces of this machine, which only root can make"
    if lacking := [name for name in NEEDED if shutil.which(name) is None]:
        return f"{', '.join(lacking)}: not found; Debian's etcd-server, iproute2, openssl and util-linux have them"
    if lacking := [name for name in OURS if not (CACHE / name).exists()]:
        return f"{', '.join(lacking)}: sh tests/cluster/fetch.sh builds them with Go (20 minutes, once)"
    return None


class ControlPlane:
    """Started, and ended with ``close``. ``kubeconfig`` is an administrator's; ``flags`` are the API server's own."""

    def __init__(self, folder: Path, network: Network, flags: Mapping[str, str] | None = None) -> None:
        """Returns when it is ready."""
        self._folder, self._opened = folder, ExitStack()
        token, (etcd, peer, port, *_) = secrets.token_hex(), free_ports(network.host, 3)
        self.server = f"https://{network.host}:{port}"
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(_KUBECONFIG.format(server=self.server, token=token))
        (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
        key = folder / "accounts.key"
        made = ["openssl", "genrsa", "-out", str(key), "2048"]
        subprocess.run(made, check=True, capture_output=True)
        store = f"http://127.0.0.1:{etcd}"
        # what it keeps is gone with the tests, so it need not survive a crash of the machine
        data = tempfile.mkdtemp(prefix="etcd-", dir="/dev/shm")
        self._opened.callback(shutil.rmtree, data, ignore_errors=True)
        self._run("etcd", {
            "data-dir": data, "unsafe-no-fsync": "true", "listen-client-urls": store, "advertise-client-urls": store,
            "listen-peer-urls": f"http://127.0.0.1:{peer}", "log-level": "error",
        })  # fmt: skip
        self._run("kube-apiserver", {
            "etcd-servers": store, "bind-address": network.host, "secure-port": str(port),
            "advertise-address": network.host, "service-cluster-ip-range": network.services,
            "cert-dir": str(folder / "certificates"), "token-auth-file": str(folder / "tokens.csv"),
            "authorization-mode": "RBAC", "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": str(key), "service-account-signing-key-file": str(key),
            "kubelet-preferred-address-types": "InternalIP", **(flags or {}),
        })  # fmt: skip
        self.api = Api(self.server, token)
        self._opened.callback(self.api.close)
        wait_until(self.api.healthy, START_S)
        own = {"kubeconfig": str(self.kubeconfig), "leader-elect": "false", "bind-address": "127.0.0.1"}
        self._run("kube-controller-manager", {
            **own, "service-account-private-key-file": str(key), "secure-port": str(free_ports("127.0.0.1", 1)[0]),
            "use-service-account-credentials": "false", "cluster-cidr": "10.0.0.0/8",
        })  # fmt: skip
        self._run("kube-scheduler", {**own, "secure-port": str(free_ports("127.0.0.1", 1)[0])})

    def close(self) -> None:
        """End all of it."""
        self._opened.close()

    def log(self, name: str) -> str:
        """What one of the processes said."""
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def _run(self, name: str, flags: Mapping[str, str]) -> None:
        binary = str(CACHE / name) if name in OURS else name
        with (self._folder / f"{name}.log").open("wb") as log:
            command = [binary, *(f"--{flag}={value}" for flag, value in flags.items())]
            self._opened.enter_context(running(command, stdout=log, stderr=log))


_KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{{name: test, cluster: {{server: "{server}", insecure-skip-tls-verify: true}}}}]
users: [{{name: admin, user: {{token: "{token}"}}}}]
contexts: [{{name: test, context: {{cluster: test, user: admin, namespace: default}}}}]
current-context: test
"""
