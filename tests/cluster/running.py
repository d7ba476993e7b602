"""A container of a pod, as its node sees it."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.api import Object
from tests.cluster.container import Container
from tests.cluster.probes import Probe


@dataclass(slots=True)
class Running:
    """A container of the pod, and what has become of it."""

    spec: Object
    log: Path
    process: Container | None = None
    restarts: int = 0
    began: str = ""
    state: Object = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last: Object = field(default_factory=dict)
    probes: dict[str, Probe] = field(default_factory=dict)
    not_before_s: float = 0.0
    killed: str = ""
    ended: int | None = None

    @property
    def started(self) -> bool:
        """Whether it runs and its startup probe has passed."""
        startup = self.probes.get("startupProbe")
        return self.process is not None and (startup is None or startup.passed)

    @property
    def ready(self) -> bool:
        """Whether it may serve."""
        readiness = self.probes.get("readinessProbe")
        return self.started and (readiness is None or readiness.passed)

    def status(self) -> Object:
        """As the API has it."""
        return {"name": self.spec["name"], "image": self.spec["image"], "imageID": "", "ready": self.ready,
                "started": self.started, "restartCount": self.restarts, "state": self.state,
                "lastState": self.last}  # fmt: skip


def stamp() -> str:
    """Now, as the API writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
