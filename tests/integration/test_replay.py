"""The promise, end to end: whatever happens on the way, the store ends as a replay of the topic by a dictionary."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from penstock.demo.corpus import EMBEDDING
from penstock.settings import KafkaSettings, QdrantSettings
from tests.conftest import ROOT, running, stored
from tests.kafka_tools import committed, new_topic, produce
from tests.workers import PENSTOCK

EVENTS = 10_000


def events(count: int, seed: int) -> Iterator[tuple[str, int, bytes | None]]:
    """(id, version, value): a tenth updates, a twentieth tombstones, some newer events before older ones."""
    chance = random.Random(seed)
    version: dict[str, int] = {}
    late: list[tuple[str, int, bytes | None]] = []
    for n in range(count):
        kind = chance.random()
        known = list(version)[-500:]
        if kind < 0.05 and known:
            name, value = chance.choice(known), None
        elif kind < 0.15 and known:
            name, value = chance.choice(known), f"Changed for the {n}th time: {chance.randrange(10**6)}."
        else:
            name, value = f"doc/{n}", f"Document number {n} tells of {chance.choice(WORDS)} and {chance.choice(WORDS)}."
        version[name] = version.get(name, 0) + 1
        event = (name, version[name], None if value is None else body(name, version[name], value))
        if value is not None and chance.random() < 0.02:
            late.append(event)
            continue
        yield event
        if late and chance.random() < 0.1:
            yield late.pop()
    yield from late


WORDS = ["turbines", "dams", "rivers", "valves", "pipes", "gauges", "pumps", "canals", "weirs", "sluices"]


def body(name: str, version: int, text: str) -> bytes:
    return json.dumps({"id": name, "version": version, "text": text, "metadata": {"v": version}}).encode()


def replay(produced: list[tuple[str, int, bytes | None]]) -> dict[str, str]:
    """Highest version wins; a tombstone takes the highest version known where it stands."""
    state: dict[str, tuple[int, bytes | None]] = {}
    for name, version, value in produced:
        held = state.get(name, (-1, None))
        if value is None:
            state[name] = (max(held[0], 0), None)
        elif version > held[0] or (version == held[0]):
            state[name] = (version, value)
    return {name: json.loads(value)["text"] for name, (_, value) in state.items() if value is not None}


@pytest.fixture
def topic(broker: str) -> KafkaSettings:
    return new_topic(broker, partitions=4)


def environment(kafka: KafkaSettings, qdrant: QdrantSettings, bundle: Path) -> dict[str, str]:
    own = {
        "PENSTOCK_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "PENSTOCK_KAFKA__TOPIC": kafka.topic,
        "PENSTOCK_KAFKA__GROUP": kafka.group,
        "PENSTOCK_KAFKA__SESSION_TIMEOUT_S": "6",
        "PENSTOCK_KAFKA__MAX_POLL_RECORDS": "200",
        "PENSTOCK_QDRANT__URL": qdrant.url,
        "PENSTOCK_QDRANT__GRPC_PORT": str(qdrant.grpc_port),
        "PENSTOCK_QDRANT__COLLECTION": kafka.topic,
        "PENSTOCK_MODEL__BUNDLE": str(bundle),
        "PENSTOCK_INDEX__ORDER": "event",
        "PENSTOCK_LOG__LEVEL": "debug",
    }
    return os.environ | own


@contextmanager
def worker(env: Mapping[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [*PENSTOCK, "index", "--once"]
    with log.open("wb") as out, running(command, env=env, cwd=ROOT, stderr=out) as process:
        yield process


@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [1, 2])
def test_the_store_ends_as_a_replay_of_the_topic(
    workers: int, topic: KafkaSettings, qdrant_process: QdrantSettings, tmp_path: Path
) -> None:
    """With one worker; and with two of which one is killed half-way."""
    produced = list(events(EVENTS, seed=workers))
    produce(topic, [(name, value) for name, _, value in produced])
    env = environment(topic, qdrant_process, EMBEDDING)
    started = time.monotonic()
    with ExitStack() as opened:
        processes = [opened.enter_context(worker(env, tmp_path / f"worker-{n}.log")) for n in range(workers)]
        if workers == 2:
            while sum(committed(topic).values()) < EVENTS // 2:
                time.sleep(0.2)
            victim = processes.pop()
            assert victim.poll() is None
            victim.send_signal(signal.SIGKILL)
            victim.wait()
        for process in processes:
            assert process.wait(300) == 0, (tmp_path / "worker-0.log").read_text()[-3000:]
    print(f"{workers} workers: {time.monotonic() - started:.1f} s")
    written = qdrant_process.model_copy(update={"collection": topic.topic})
    assert stored(written, EMBEDDING) == replay(produced)
