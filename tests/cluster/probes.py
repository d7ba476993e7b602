"""Whether a container has started, is ready, and lives, as its probes tell."""

from dataclasses import dataclass, field

import httpx

from tests.cluster.api import Object


@dataclass(slots=True)
class Probe:
    """One of a container's; ``now`` is in seconds of a clock that only goes on."""

    spec: Object
    address: str
    ports: dict[str, int]
    began_s: float
    passed: bool = False
    failed: bool = False
    said: str = ""
    _in_a_row: int = 0
    _next_s: float = field(default=0.0)

    def ask(self, now_s: float) -> None:
        """When it is time: ``passed`` and ``failed`` once it has answered often enough in a row."""
        if now_s < max(self._next_s, self.began_s + self.spec.get("initialDelaySeconds", 0)):
            return
        self._next_s = now_s + self.spec.get("periodSeconds", 10)
        well = self._answers()
        self._in_a_row = max(1, self._in_a_row + 1) if well else min(-1, self._in_a_row - 1)
        if self._in_a_row >= self.spec.get("successThreshold", 1):
            self.passed, self.failed = True, False
        elif -self._in_a_row >= self.spec.get("failureThreshold", 3):
            self.passed, self.failed = False, True

    def _answers(self) -> bool:
        asked = self.spec["httpGet"]
        port = self.ports.get(asked["port"], asked["port"])
        url = f"http://{self.address}:{port}{asked.get('path', '/')}"
        try:
            answer = httpx.get(url, timeout=self.spec.get("timeoutSeconds", 1))
        except httpx.TransportError as error:
            self.said = f"{type(error).__name__}: {error}"
            return False
        self.said = f"HTTP {answer.status_code}"
        return 200 <= answer.status_code < 400  # as Kubernetes has it
