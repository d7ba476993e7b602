"""A network for pods on this machine: a bridge, a namespace with an address for each, and services by a proxy of ours.

The host has the first address of the bridge; what it serves there is outside the cluster, as a broker may be.
"""

import os
import selectors
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress

BYTES = 1 << 16


def ip(*arguments: str) -> None:
    """Run iproute2."""
    command = ["ip", *arguments]
    subprocess.run(command, check=True, capture_output=True)


class Network:
    """A bridge of its own, so that several clusters fit on one machine."""

    def __init__(self) -> None:
        number = os.getpid() % 100
        self._name, self._prefix = f"pen{os.getpid() % 100_000}", f"10.{100 + number}.0"
        self.host, self.services = f"{self._prefix}.1", f"10.{100 + number}.128.0/20"
        self._free = iter(range(10, 250))
        self._lock = threading.Lock()
        self._taken: dict[str, str] = {}
        self._service_addresses: set[str] = set()
        # one of its own: else it has that of a pod, and when that leaves the others answer nobody for a while
        ip("link", "add", self._name, "address", f"02:00:00:00:00:{number:02x}", "type", "bridge")
        ip("addr", "add", f"{self.host}/24", "dev", self._name)
        ip("link", "set", self._name, "up")

    def join(self) -> tuple[str, str]:
        """A namespace that is on the bridge, and its address."""
        with self._lock:
            number = next(self._free)
            name = f"{self._name}-{number}"
            address = f"{self._prefix}.{number}"
            ip("netns", "add", name)
            self._taken[name] = address
        outside, inside = f"{self._name}v{number}", "eth0"
        ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name)
        ip("link", "set", outside, "master", self._name, "up")
        ip("-n", name, "addr", "add", f"{address}/24", "dev", inside)
        for link in ("lo", inside):
            ip("-n", name, "link", "set", link, "up")
        ip("-n", name, "route", "add", "default", "via", self.host)
        return name, address

    def leave(self, name: str) -> None:
        """A namespace is no longer needed; its address is not given twice."""
        with self._lock:
            if self._taken.pop(name, None) is not None:
                ip("netns", "del", name)

    def own(self, address: str) -> None:
        """The host has the address of a service, too."""
        if address not in self._service_addresses:
            self._service_addresses.add(address)
            ip("addr", "add", f"{address}/32", "dev", "lo")

    def close(self) -> None:
        """Leave nothing behind."""
        for name in list(self._taken):
            with suppress(subprocess.CalledProcessError):
                self.leave(name)
        for address in self._service_addresses:
            with suppress(subprocess.CalledProcessError):
                ip("addr", "del", f"{address}/32", "dev", "lo")
        with suppress(subprocess.CalledProcessError):
            ip("link", "del", self._name)


class Forward:
    """Passes connections to a port on to whichever target is next; without one they are refused."""

    def __init__(self, address: str, port: int, targets: Callable[[], list[tuple[str, int]]]) -> None:
        self._targets, self._turn = targets, 0
        self._listening = socket.create_server((address, port))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        targets = self._targets()
        self._turn += 1
        for i in range(len(targets)):
            with suppress(OSError):
                server = socket.create_connection(targets[(self._turn + i) % len(targets)], 2)
                server.settimeout(None)
                passed_on((client, server))
                return
        client.close()


def passed_on(ends: Iterable[socket.socket]) -> None:
    """Both ways, until one side has ended and the other has been told."""
    first, second = ends
    other = {first: second, second: first}
    with selectors.DefaultSelector() as selector, first, second:
        for end in other:
            selector.register(end, selectors.EVENT_READ)
        with suppress(OSError):
            while selector.get_map():
                for key, _ in selector.select():
                    source: socket.socket = key.fileobj  # type: ignore[assignment]
                    if data := source.recv(BYTES):
                        other[source].sendall(data)
                    else:
                        selector.unregister(source)
                        other[source].shutdown(socket.SHUT_WR)
