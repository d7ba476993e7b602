"""A node: it registers itself, runs the pods that the scheduler gives it, and lets their logs be read."""

import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
from typing_extensions import override

from tests.cluster.api import STRATEGIC, Api, Object
from tests.cluster.environment import NODE_CPUS
from tests.cluster.images import Image
from tests.cluster.network import Network
from tests.cluster.pod import PodRun
from tests.cluster.running import stamp
from tests.cluster.volumes import NotThere

HEARTBEAT_S = 5.0


class Kubelet:
    """One node of the cluster. ``images`` may be added to while it runs."""

    def __init__(
        self,
        name: str,
        api: Api,
        network: Network,
        folder: Path,
        images: Mapping[str, Image],
        hosts: Callable[[str], str],
        resources: Mapping[str, str] | None = None,
    ) -> None:
        """Register it. ``resources`` are those beside processors, memory and pods, such as GPUs."""
        self.name, self.api, self.network, self.folder, self.hosts = name, api, network, folder, hosts
        self._images = images
        self.runs: dict[str, PodRun] = {}
        self._ended = threading.Event()
        self._server = _serve_logs(self)
        self._port = self._server.server_address[1]
        held = {"cpu": str(NODE_CPUS), "memory": "64Gi", "pods": "110", **(resources or {})}
        self._status = {
            "capacity": held, "allocatable": held, "addresses": [{"type": "InternalIP", "address": network.host}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._port}},
            "nodeInfo": {"kubeletVersion": "v1.37.2", "operatingSystem": "linux", "architecture": "amd64"},
        }  # fmt: skip
        zone = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-{name}"}
        api.post("/api/v1/nodes", {"kind": "Node", "metadata": {"name": name, "labels": zone}})
        self._beat()
        for work in (self._heartbeat, self._follow):
            threading.Thread(target=work, daemon=True, name=f"{name}-{work.__name__}").start()

    def image(self, name: str) -> Image:
        """What stands for it here."""
        if name not in self._images:
            raise NotThere(f"image {name} cannot be pulled: there is none of that name")
        return self._images[name]

    def close(self) -> None:
        """End every pod on the spot, as a node that loses power."""
        self._ended.set()
        for run in list(self.runs.values()):
            run.abandoned.set()
        for run in list(self.runs.values()):
            run.join(30)
        self._server.shutdown()

    def _heartbeat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            with suppress(httpx.HTTPError):
                self._beat()

    def _beat(self) -> None:
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": stamp()}
        status = {**self._status, "conditions": [ready]}
        self.api.patch(f"/api/v1/nodes/{self.name}/status", {"status": status}, STRATEGIC)

    def _follow(self) -> None:
        while not self._ended.is_set():
            with suppress(httpx.HTTPError, json.JSONDecodeError):
                for kind, pod in self.api.changes("/api/v1/pods", fieldSelector=f"spec.nodeName={self.name}"):
                    self._changed(kind, pod)
                    if self._ended.is_set():
                        return
            time.sleep(0.2)

    def _changed(self, kind: str, pod: Object) -> None:
        if kind not in ("ADDED", "MODIFIED", "DELETED"):
            return
        uid = pod["metadata"]["uid"]
        run = self.runs.get(uid)
        if kind == "DELETED":
            if run is not None:
                run.abandoned.set()
        elif run is not None:
            run.pod |= {"metadata": pod["metadata"], "status": pod.get("status", {})}
        elif pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            self.runs[uid] = PodRun(self, pod)
            self.runs[uid].start()


def _serve_logs(kubelet: Kubelet) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        """``/containerLogs/<namespace>/<pod>/<container>``, as kubectl logs asks by way of the API server."""

        @override
        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

        def do_GET(self) -> None:  # the base class says so
            """The log, or its last lines."""
            url = urlsplit(self.path)
            parts, asked = url.path.strip("/").split("/"), parse_qs(url.query)
            text = _log_of(kubelet, parts[1:]) if parts[0] == "containerLogs" else None
            if text is None:
                self.send_error(404)
                return
            if tail := asked.get("tailLines"):
                text = b"".join(text.splitlines(keepends=True)[-int(tail[0]) :])
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            self.wfile.write(text)

    key, certificate = self_signed(kubelet.folder, kubelet.name)
    server = ThreadingHTTPServer((kubelet.network.host, 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    """A key and its certificate."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(certificate)]  # fmt: skip
    subprocess.run(made, check=True, capture_output=True)
    return key, certificate


def _log_of(kubelet: Kubelet, names: list[str]) -> bytes | None:
    namespace, pod, container = names
    for run in list(kubelet.runs.values()):
        metadata = run.pod["metadata"]
        if (metadata["namespace"], metadata["name"]) == (namespace, pod):
            log = run.folder / f"{container}.log"
            return log.read_bytes() if log.exists() else b""
    return None
