"""A namespace of a test's own, a topic and a collection in its reach, and what happens there."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import httpx

from penstock.settings import KafkaSettings, QdrantSettings
from penstock.settings.models import SHIPPED_MODELS
from tests.cluster import Done, Namespace
from tests.cluster.api import Object
from tests.conftest import stored, wait_until
from tests.kafka_tools import committed, document, ends, produce

PARTITIONS = 4


def succeeded(done: Done) -> str:
    """What it says on standard output; the rest where it failed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True, slots=True)
class Place:
    """``values`` are options of helm for a release over this topic and collection."""

    namespace: Namespace
    kafka: KafkaSettings
    qdrant: QdrantSettings
    values: list[str]

    def install(self, *options: str, seconds: float = 300) -> None:
        """Or upgrade; returns when the workers are ready."""
        succeeded(self.namespace.install(*self.values, *options, "--wait", "--timeout", "3m", seconds=seconds))

    def service(self, name: str = "penstock-query") -> str:
        """The address of a service, as pods have it."""
        spec = self.namespace.cluster.api.get(f"{self.namespace.path('services')}/{name}")["spec"]
        return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}"

    def caught_up(self) -> bool:
        """Whether everything on the topic is committed."""
        done = {partition: offset for partition, offset in committed(self.kafka).items() if offset}
        return done == {partition: end for partition, end in ends(self.kafka, PARTITIONS).items() if end}

    def found(self, sent: dict[str, str]) -> None:
        """Returns once everything is committed; fails where one of these documents is not as it was sent last."""
        wait_until(self.caught_up, 90)
        held = stored(self.qdrant, SHIPPED_MODELS / "embedding")
        assert {name: held.get(name) for name in sent} == sent

    @contextmanager
    def load(self, url: str | None = None) -> Iterator[dict[str, str]]:
        """Documents that come all the time, and searches at that address that must be answered.

        Gives what was sent, which is complete at the end.
        """
        sent: dict[str, str] = {}
        stop, failures, numbers = threading.Event(), list[str](), count()

        def send() -> None:
            while not stop.wait(0.2):
                number = next(numbers)
                name, text = f"doc-{number % 50}", f"water turns turbine number {number}"
                produce(self.kafka, [document(name, text)])
                sent[name] = text

        def search() -> None:
            with httpx.Client(timeout=20) as client:
                while url is not None and not stop.wait(0.1):
                    try:
                        answer = client.post(f"{url}/v1/search", json={"query": "turbine"})
                        if answer.status_code != httpx.codes.OK:
                            failures.append(answer.text)
                    except httpx.TransportError as error:
                        failures.append(repr(error))

        threads = [threading.Thread(target=work) for work in (send, search)]
        for thread in threads:
            thread.start()
        try:
            yield sent
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not failures, failures[:3]


def container(pod: Object) -> Object:
    """The status of its first container."""
    return dict(pod["status"]["containerStatuses"][0])
