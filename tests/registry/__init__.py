"""A real schema registry for the tests: Apicurio's, by its Confluent API, in memory, on loopback."""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

LIB = Path(__file__).parent / "lib"
START_S = 90.0


def missing() -> str | None:
    """What keeps a registry from starting here, or None."""
    if not shutil.which("java"):
        return "Java is missing: install a JRE 17 or later"
    if not list(LIB.glob("*-runner.jar")):
        return "the registry is missing: `make test` fetches it with Maven"
    return None


class RegistryProcess:
    """A registry; ``hang`` and ``go_on`` are an outage: one that is stopped forgets its schemas."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._log = folder / "registry.log"
        self.url = f"http://127.0.0.1:{self._port}/apis/ccompat/v7"

    def start(self) -> None:
        """Start, and return when it answers."""
        (runner,) = LIB.glob("*-runner.jar")
        quick = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        where = {"QUARKUS_HTTP_PORT": str(self._port), "QUARKUS_HTTP_HOST": "127.0.0.1"}
        with self._log.open("ab") as log:
            command = ["java", *quick, "-jar", str(runner)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **where})
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/subjects", timeout=2).close()  # noqa: S310  # ours
            except OSError:
                time.sleep(0.2)
            else:
                return
        self.stop()
        raise RuntimeError(f"the registry did not start:\n{self._log.read_text()[-2000:]}")

    def hang(self) -> None:
        """Answer nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it on the spot."""
        self._process.kill()
        self._process.wait()
