"""One pod on a node of ours, from its volumes to its last status, as a kubelet would take it through its life."""

import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from tests.cluster.api import STRATEGIC, Api, Object
from tests.cluster.container import Container, Mount, Spec
from tests.cluster.environment import quantity, variables
from tests.cluster.images import Image
from tests.cluster.network import Network
from tests.cluster.probes import Probe
from tests.cluster.running import Running, stamp
from tests.cluster.volumes import NotThere, Volumes

TURN_S = 0.1
REFRESH_S = 2.0
"""How often mounted Secrets are looked at; a real kubelet takes a minute."""
FIRST_BACKOFF_S, MOST_BACKOFF_S = 1.0, 8.0
"""Before a container is started again; a real kubelet begins with ten seconds."""
MESSAGE_BYTES, MESSAGE_LINES = 2048, 80


class Node(Protocol):
    """What a pod needs of where it runs."""

    name: str
    api: Api
    network: Network
    folder: Path

    def image(self, name: str) -> Image:
        """Raises NotThere for one that cannot be pulled."""

    def hosts(self, namespace: str) -> str:
        """Lines of /etc/hosts for the services that there are, as they are called in a namespace."""


class PodRun(threading.Thread):
    """Runs until the pod is done or deleted."""

    def __init__(self, node: Node, pod: Object) -> None:
        super().__init__(daemon=True, name=pod["metadata"]["name"])
        self._node, self.pod, metadata = node, pod, pod["metadata"]
        self._path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self.folder = node.folder / metadata["uid"]
        self.folder.mkdir(parents=True)
        self._volumes = Volumes(node.api, pod, self.folder / "volumes", self._folder_of)
        self._init = [self._of(one) for one in pod["spec"].get("initContainers", [])]
        self.containers = [self._of(one) for one in pod["spec"]["containers"]]
        self._network, self._address, self._reported = "", "", Object()
        self._refreshed_s = 0.0
        self._conditions: dict[str, Object] = {}
        self.abandoned = threading.Event()

    def run(self) -> None:
        """The pod's life."""
        self._network, self._address = self._node.network.join()
        try:
            phase = self._live()
            if not self.abandoned.is_set():
                self._report(phase)
                if self._deleted:
                    self._node.api.delete(self._path, {"gracePeriodSeconds": 0})
        finally:
            for one in (*self._init, *self.containers):
                if one.process is not None:
                    one.process.kill()
            self._node.network.leave(self._network)
            shutil.rmtree(self.folder / "volumes", ignore_errors=True)

    @property
    def _deleted(self) -> bool:
        return "deletionTimestamp" in self.pod["metadata"]

    @property
    def _leaving(self) -> bool:
        return self._deleted or self.abandoned.is_set()

    def _live(self) -> str:
        """Its last phase."""
        if not self._until(self._prepared):
            return "Failed"
        for one in self._init:
            while not self._leaving and one.ended != 0:
                self._turn([one], restarts=self.pod["spec"]["restartPolicy"] != "Never")
                if one.ended and self.pod["spec"]["restartPolicy"] == "Never":
                    return "Failed"
                self._report("Pending")
                time.sleep(TURN_S)
        policy = self.pod["spec"]["restartPolicy"]
        while not self._leaving:
            self._turn(self.containers, restarts=policy == "Always", on_failure=policy == "OnFailure")
            codes = [one.ended for one in self.containers]
            if policy != "Always" and None not in codes:
                if not any(codes):
                    return "Succeeded"
                if policy == "Never":
                    return "Failed"
            self._report("Running" if any(one.began for one in self.containers) else "Pending")
            time.sleep(TURN_S)
        self._stop()
        return "Failed" if any(one.ended for one in self.containers) else "Succeeded"

    def _prepared(self) -> bool:
        try:
            self._volumes.make()
        except NotThere as error:
            for one in self.containers:
                one.state = {
                    "waiting": {"reason": "ContainerCreating", "message": f"MountVolume.SetUp failed: {error}"}
                }
            self._report("Pending")
            return False
        return True

    def _until(self, done: Callable[[], bool]) -> bool:
        while not self._leaving:
            if done():
                return True
            time.sleep(1.0)
        return False

    def _turn(self, containers: list[Running], *, restarts: bool, on_failure: bool = False) -> None:
        """Start what should run, see what has ended, ask the probes."""
        now_s = time.monotonic()
        if now_s - self._refreshed_s > REFRESH_S:
            self._refreshed_s = now_s
            with suppress(NotThere):
                self._volumes.make()
        for one in containers:
            if one.process is None:
                again = one.ended is None or restarts or (on_failure and one.ended != 0)
                if again and now_s >= one.not_before_s:
                    self._start(one, now_s)
                continue
            if (code := one.process.poll()) is not None:
                self._has_ended(one, code, now_s)
            elif self._is_too_large(one):
                one.killed = "OOMKilled"
                one.process.kill()
            else:
                self._ask(one, now_s)

    def _start(self, one: Running, now_s: float) -> None:
        spec = one.spec
        try:
            image = self._node.image(spec["image"])
            mounts = list(self._volumes.mounts(spec))
            made = variables(self._node.api, self._with_address(), spec, image.environment)
        except NotThere as error:
            reason = "ErrImagePull" if "image" in str(error) else "CreateContainerConfigError"
            one.state = {"waiting": {"reason": reason, "message": str(error)}}
            one.not_before_s = now_s + 1.0
            return
        root = self.folder / "roots" / spec["name"]
        root.mkdir(parents=True, exist_ok=True)
        hosts = self.folder / "hosts"
        hosts.write_text(self._hosts())
        context = self.pod["spec"].get("securityContext", {}) | spec.get("securityContext", {})
        command = spec.get("command") or image.entrypoint
        arguments = spec.get("args") or ([] if spec.get("command") else image.command)
        groups = [context["fsGroup"]] if "fsGroup" in context else []
        writable = not context.get("readOnlyRootFilesystem", False)
        mounts += [Mount(source, target) for target, source in image.folders.items()]
        one.process = Container(
            Spec(root, self._network, mounts, hosts, [*command, *arguments], made,
                 context.get("runAsUser", image.user), groups, writable), one.log,
        )  # fmt: skip
        one.killed, one.ended, one.began = "", None, stamp()
        one.state = {"running": {"startedAt": one.began}}
        ports = {port["name"]: port["containerPort"] for port in spec.get("ports", []) if "name" in port}
        kinds = ("startupProbe", "readinessProbe", "livenessProbe")
        one.probes = {kind: Probe(spec[kind], self._address, ports, now_s) for kind in kinds if kind in spec}

    def _ask(self, one: Running, now_s: float) -> None:
        startup, liveness = one.probes.get("startupProbe"), one.probes.get("livenessProbe")
        if startup is not None and not startup.passed:
            startup.ask(now_s)
        else:
            for kind in ("readinessProbe", "livenessProbe"):
                if kind in one.probes:
                    one.probes[kind].ask(now_s)
        for probe in (startup, liveness):
            if probe is not None and probe.failed and one.process is not None:
                grace = probe.spec.get("terminationGracePeriodSeconds", self._grace_s)
                self._end(one, grace, "ProbeFailed")
                return

    def _has_ended(self, one: Running, code: int, now_s: float) -> None:
        reason = one.killed if one.killed == "OOMKilled" else "Completed" if code == 0 else "Error"
        ended = {"exitCode": code, "reason": reason, "startedAt": one.began, "finishedAt": stamp()}
        if code != 0 and one.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            lines = one.log.read_bytes()[-MESSAGE_BYTES:].decode(errors="replace").splitlines()
            ended["message"] = "\n".join(lines[-MESSAGE_LINES:])
        one.ended, one.process = code, None
        one.state = {"terminated": ended}
        policy = self.pod["spec"]["restartPolicy"]
        if not self._leaving and (policy == "Always" or (policy == "OnFailure" and code != 0)):
            one.last = one.state
            pause_s = min(MOST_BACKOFF_S, FIRST_BACKOFF_S * 2**one.restarts) if one.restarts or code else 0.0
            one.restarts += 1
            one.not_before_s = now_s + pause_s
            one.state = {"waiting": {"reason": "CrashLoopBackOff"}}

    def _is_too_large(self, one: Running) -> bool:
        limit = one.spec.get("resources", {}).get("limits", {}).get("memory")
        return limit is not None and one.process is not None and one.process.memory_bytes > quantity(limit)

    def _stop(self) -> None:
        """The end of a pod that is deleted; readiness goes first, so that services send no more here."""
        grace_s = 0.0 if self.abandoned.is_set() else self._grace_s
        self._report("Running")
        threads = [threading.Thread(target=self._end, args=(one, grace_s)) for one in self.containers if one.process]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for one in self.containers:
            if one.process is not None:
                self._has_ended(one, one.process.poll() or 0, time.monotonic())

    def _end(self, one: Running, grace_s: float, why: str = "") -> None:
        """preStop, SIGTERM, and SIGKILL when the grace is over."""
        process, deadline = one.process, time.monotonic() + grace_s
        if process is None:
            return
        one.killed = why
        if hook := one.spec.get("lifecycle", {}).get("preStop", {}).get("exec"):
            process.run(hook["command"])
        if grace_s > 0:
            process.signal(signal.SIGTERM)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(TURN_S)
        process.kill()

    @property
    def _grace_s(self) -> float:
        metadata = self.pod["metadata"]
        return float(metadata.get("deletionGracePeriodSeconds", self.pod["spec"]["terminationGracePeriodSeconds"]))

    def _hosts(self) -> str:
        aliases = [f"{one['ip']} {' '.join(one['hostnames'])}" for one in self.pod["spec"].get("hostAliases", [])]
        own = f"127.0.0.1 localhost\n{self._address} {self.pod['metadata']['name']}\n"
        return own + "\n".join(aliases) + "\n" + self._node.hosts(self.pod["metadata"]["namespace"])

    def _with_address(self) -> Object:
        return self.pod | {"status": {"podIP": self._address, "hostIP": self._node.network.host}}

    def _folder_of(self, image: str) -> Path:
        folders = self._node.image(image).folders
        return folders["/"]

    def _of(self, spec: Object) -> Running:
        return Running(spec, self.folder / f"{spec['name']}.log")

    def _report(self, phase: str) -> None:
        """Tell the API server what has changed."""
        begun = all(one.ended == 0 for one in self._init)
        ready = begun and all(one.ready for one in self.containers) and not self._leaving and phase == "Running"
        conditions = {"Initialized": begun, "ContainersReady": ready, "Ready": ready, "PodReadyToStartContainers": True}
        status = {
            "phase": phase, "hostIP": self._node.network.host,
            "podIP": self._address, "podIPs": [{"ip": self._address}],
            "conditions": [self._condition(name, str(holds)) for name, holds in conditions.items()],
            "initContainerStatuses": [one.status() for one in self._init],
            "containerStatuses": [one.status() for one in self.containers],
        }  # fmt: skip
        if status == self._reported:
            return
        self._reported = status
        times = {"startTime": stamp()} if "startTime" not in self.pod.get("status", {}) else {}
        self._node.api.patch(f"{self._path}/status", {"status": status | times}, STRATEGIC)

    def _condition(self, kind: str, status: str) -> Object:
        if self._conditions.get(kind, {}).get("status") != status:
            self._conditions[kind] = {"type": kind, "status": status, "lastTransitionTime": stamp()}
        return self._conditions[kind]
