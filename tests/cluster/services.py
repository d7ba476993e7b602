"""The cluster's services: their addresses on this machine, and who answers behind them."""

import threading
import time
from contextlib import suppress
from functools import partial

import httpx

from tests.cluster.api import Api, Object
from tests.cluster.network import Forward, Network

SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
NAME = "kubernetes.io/service-name"
Service = tuple[str, str]


class Services:
    """What kube-proxy and the cluster's DNS are elsewhere: forwards, and lines for /etc/hosts."""

    def __init__(self, api: Api, network: Network) -> None:
        """Follow services and their endpoints."""
        self._api, self._network = api, network
        self._services: dict[Service, Object] = {}
        self._slices: dict[str, Object] = {}
        self._forwards: dict[tuple[str, int], Forward] = {}
        self._ended = threading.Event()
        for path, changed in (("/api/v1/services", self._service), (SLICES, self._slice)):
            threading.Thread(target=self._follow, args=(path, changed), daemon=True).start()

    def hosts(self, of: str) -> str:
        """A line per service that has an address, as it is called in a namespace: by its name alone only in its own."""
        lines = []
        for (namespace, name), service in list(self._services.items()):
            if (address := service["spec"].get("clusterIP", "None")) != "None":
                ends = (".svc", ".svc.cluster.local", "")
                names = [f"{name}.{namespace}{end}" for end in ends] + ([name] if namespace == of else [])
                lines.append(f"{address} {' '.join(names)}")
        return "\n".join(lines) + "\n"

    def close(self) -> None:
        """Take no more connections."""
        self._ended.set()
        for forward in self._forwards.values():
            forward.close()

    def targets(self, service: Service, port: str | None) -> list[tuple[str, int]]:
        """Who is ready to answer on a service's port, by its name."""
        found = []
        for slice_ in list(self._slices.values()):
            metadata = slice_["metadata"]
            if (metadata["namespace"], metadata["labels"].get(NAME)) != service:
                continue
            numbers = [one["port"] for one in slice_.get("ports") or [] if (one.get("name") or None) == (port or None)]
            for endpoint in slice_.get("endpoints") or []:
                if endpoint.get("conditions", {}).get("ready", True):
                    found += [(address, number) for address in endpoint["addresses"] for number in numbers]
        return found

    def _follow(self, path: str, changed: object) -> None:
        while not self._ended.is_set():
            with suppress(httpx.HTTPError):
                for kind, one in self._api.changes(path):
                    changed(kind, one)  # type: ignore[operator]
            time.sleep(0.2)

    def _slice(self, kind: str, one: Object) -> None:
        if kind == "DELETED":
            self._slices.pop(one["metadata"]["uid"], None)
        else:
            self._slices[one["metadata"]["uid"]] = one

    def _service(self, kind: str, one: Object) -> None:
        name = one["metadata"]["namespace"], one["metadata"]["name"]
        address = one["spec"].get("clusterIP", "None")
        if kind == "DELETED":
            self._services.pop(name, None)
            for place in [place for place in self._forwards if place[0] == address]:
                self._forwards.pop(place).close()
            return
        self._services[name] = one
        if address == "None" or name == ("default", "kubernetes"):
            return
        self._network.own(address)
        for port in one["spec"].get("ports", []):
            if (place := (address, port["port"])) not in self._forwards:
                self._forwards[place] = Forward(*place, partial(self.targets, name, port.get("name")))
