"""The demo through Kafka: ``penstock index`` and ``penstock query`` as processes of their own, over one store.

They are what runs in production, with the environment as their settings. The store is the embedded one, served to both
on loopback, so that no Qdrant is needed.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from typing_extensions import override

from penstock.adapters.kafka.connection import connect_producer
from penstock.adapters.kafka.progress import KafkaProgress
from penstock.adapters.kafka.topics import create_topic, delete_topics
from penstock.adapters.qdrant.collection import find_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.adapters.qdrant.embedded import LocalQdrant
from penstock.adapters.qdrant.server import QdrantServer
from penstock.assembly.models import Models
from penstock.core.errors import Misconfigured
from penstock.core.queries import Hit
from penstock.core.records import Place
from penstock.core.vectors import Vector
from penstock.demo import corpus
from penstock.demo.backend import Backend
from penstock.demo.in_process import BATCH_BYTES
from penstock.query.http.client import QueryClient
from penstock.query.replies import ReplyBody
from penstock.query.requests import PlaceBody, QueryBody
from penstock.settings import KafkaSettings, QdrantSettings

PARTITIONS = 3
SEND_S, START_S, END_S, ANSWER_S = 30.0, 120.0, 40.0, 30.0
LOOK_S = 0.1

INDEXING = {
    "INDEX__BATCH_BYTES": BATCH_BYTES,
    "INDEX__CHUNK_TOKENS": corpus.CHUNK_TOKENS,
    "INDEX__CHUNK_OVERLAP": corpus.CHUNK_OVERLAP,
}


class Process:
    """A worker; its log lines are read as they come."""

    def __init__(self, command: str, variables: Mapping[str, object], folder: Path) -> None:
        others = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        settings = {f"PENSTOCK_{name}": str(value) for name, value in variables.items()}
        self._command = command
        self._process = subprocess.Popen(  # noqa: S603  # our own command
            [sys.executable, "-m", "penstock", command], env=others | settings, cwd=folder, stderr=subprocess.PIPE
        )
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._last = ""
        threading.Thread(target=self._listen, daemon=True).start()

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next log line of that name; raises Misconfigured when the process ends without it."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if line["event"] == event:
                return line
            if not line["event"]:
                raise Misconfigured(f"penstock {self._command} ended: {self._last}")
        raise Misconfigured(f"penstock {self._command} has not said {event!r} within {START_S:.0f} s: {self._last}")

    def end(self) -> None:
        """Ask it to end, and wait."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _listen(self) -> None:
        stream = self._process.stderr
        for line in stream or ():
            self._last = line.decode(errors="replace").strip()
            try:
                self._lines.put(json.loads(line))
            except ValueError:
                continue
        self._lines.put({"event": ""})


class ThroughKafka(Backend):
    """Both workers, as processes of their own."""

    def __init__(
        self, servers: str, models: Models, bundles: tuple[Path, Path], folder: Path, port: int | None,
        stop: threading.Event, console: Console,
    ) -> None:  # fmt: skip
        """``bundles`` are those of the ``models``; ``folder`` is a passing one."""
        self._stop, self._console = stop, console
        name = f"penstock-demo-{uuid.uuid4().hex[:8]}"
        self._kafka = KafkaSettings(bootstrap_servers=servers, topic=name, group=name)
        with ExitStack() as opened:
            create_topic(self._kafka, partitions=PARTITIONS)
            opened.callback(delete_topics, self._kafka)
            self._producer = connect_producer(self._kafka, linger_ms=20)
            opened.callback(self._producer.close)
            self._progress = KafkaProgress(self._kafka)
            opened.callback(self._progress.close)
            served = QdrantServer(LocalQdrant())
            opened.callback(served.stop)
            self._connection = Connection(_qdrant(served.port))
            opened.callback(self._connection.close)
            shared = _shared(self._kafka, served.port, bundles[0])
            self._index = Process("index", shared | INDEXING, folder)
            opened.callback(self._index.end)
            self._index.wait_for("started")
            querying = {"QUERY__FOLLOW": "true", "HTTP__PORT": port or 0, "RERANK__BUNDLE": bundles[1].resolve()}
            query = Process("query", shared | querying, folder)
            opened.callback(query.end)
            self._url = f"http://127.0.0.1:{query.wait_for('listening')['port']}"
            query.wait_for("ready")
            self._collection = find_collection(self._connection, name, models.embedding.identity)
            self._opened = opened.pop_all()
        console.print(f"penstock index reads topic {name}, penstock query listens at {self._url}", highlight=False)

    @override
    def send(self, lines: Sequence[bytes]) -> None:
        sent = [self._produce(line) for line in lines]
        last: dict[int, Place] = {}
        for future in sent:
            place = _place(future)
            last[place.partition] = place
        while not self._stop.is_set() and not all(self._progress.searchable(list(last.values()))):
            time.sleep(LOOK_S)

    @override
    def change(self, line: bytes, body: QueryBody) -> ReplyBody:
        """The query names the record, and the query worker waits for it."""
        place = _place(self._produce(line))
        return self.ask(body.model_copy(update={"after": PlaceBody(**place._asdict())}))

    @override
    def ask(self, body: QueryBody) -> ReplyBody:
        return QueryClient(self._url).ask(body, ANSWER_S)

    @override
    def stored(self) -> tuple[list[Hit], Vector]:
        return self._connection.store(self._collection).vectors("")

    @override
    def finish(self) -> Mapping[str, int]:
        self._index.end()
        line = self._index.wait_for("ended")
        return {name: value for name, value in line.items() if isinstance(value, int) and name != "tokens"}

    @override
    def serve(self, port: int) -> None:  # the query worker has it from its start
        self._console.print(f"\nSearch it at {self._url}/ (Ctrl+C ends it)", highlight=False)
        self._stop.wait()

    @override
    def close(self) -> None:
        self._opened.close()

    def _produce(self, line: bytes) -> Any:
        return self._producer.send(self._kafka.topic, key=json.loads(line)["id"].encode(), value=line)


def _qdrant(port: int) -> QdrantSettings:
    return QdrantSettings(url=f"http://127.0.0.1:{port}", grpc_port=port)


def _shared(kafka: KafkaSettings, store_port: int, bundle: Path) -> dict[str, object]:
    """Settings of both workers, by their variables."""
    return {
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA__TOPIC": kafka.topic,
        "KAFKA__GROUP": kafka.group,
        "QDRANT__URL": f"http://127.0.0.1:{store_port}",
        "QDRANT__GRPC_PORT": store_port,
        "QDRANT__COLLECTION": kafka.topic,
        "MODEL__BUNDLE": bundle.resolve(),
        "LOG__FORMAT": "json",
    }


def _place(future: Any) -> Place:
    metadata = future.get(timeout=SEND_S)
    return Place(metadata.topic, metadata.partition, metadata.offset)
