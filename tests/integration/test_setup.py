"""``penstock setup`` against a real broker: what is not there is made, what is there is left alone."""

import json
import re
import socket
import subprocess
import uuid
from contextlib import closing
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from penstock.settings import QdrantSettings
from tests.conftest import ROOT
from tests.workers import PENSTOCK, environment


def setup(*arguments: str, **variables: object) -> "subprocess.CompletedProcess[str]":
    command = [*PENSTOCK, "setup", *arguments]
    return subprocess.run(
        command, env=environment(**variables), cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


def cleanup(broker: str, topic: str) -> object:
    with closing(KafkaAdminClient(bootstrap_servers=broker)) as admin:
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return json.dumps(found, default=str)


def test_topics_and_collection_are_made_once(broker: str, qdrant_process: QdrantSettings, minilm: Path) -> None:
    name = f"documents-{uuid.uuid4().hex[:8]}"
    given = {
        "KAFKA__BOOTSTRAP_SERVERS": broker, "KAFKA__TOPIC": name, "QUERY__TOPIC": f"{name}-queries",
        "QUERY__REPLY_TOPIC": f"{name}-replies", "QDRANT__URL": qdrant_process.url, "QDRANT__COLLECTION": name,
        "QDRANT__GRPC_PORT": qdrant_process.grpc_port, "QDRANT__QUANTIZATION": "int8", "MODEL__BUNDLE": minilm,
        "SETUP__PARTITIONS": 3,
    }  # fmt: skip
    first = setup("--json", **given)
    assert first.returncode == 0, first.stderr
    made = [json.loads(line) for line in first.stdout.splitlines()]
    assert [(one["kind"], one["made"]) for one in made] == [("topic", True)] * 5 + [("collection", True)]
    assert {one["name"] for one in made[:5]} == {
        name, f"{name}.dlq", f"{name}-queries", f"{name}-queries.dlq", f"{name}-replies",
    }  # fmt: skip
    assert "compact" in str(cleanup(broker, name))
    again = setup(**given)
    assert again.returncode == 0, again.stderr
    assert all(line.endswith(": there") for line in again.stdout.splitlines())
    other = setup(**given | {"SETUP__PARTITIONS": 5})
    assert other.returncode == 2
    assert f"topic {name!r} has 3 partitions, the settings say 5" in other.stderr


def test_services_that_do_not_come_up_are_told(broker: str, minilm: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nothing = taken.getsockname()[1]
    name = f"documents-{uuid.uuid4().hex[:8]}"
    done = setup(
        "--wait-s", "8", KAFKA__BOOTSTRAP_SERVERS=broker, KAFKA__TOPIC=name, MODEL__BUNDLE=minilm,
        QDRANT__URL=f"http://127.0.0.1:{nothing}", QDRANT__GRPC_PORT=nothing,
    )  # fmt: skip
    assert done.returncode == 75
    assert re.search("after [89] s still: Qdrant", done.stderr.splitlines()[-1]), done.stderr
