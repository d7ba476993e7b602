"""The libraries that people have, against a running worker; nothing of ours is in their environment."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.workers import environment, penstock, worker

pytestmark = pytest.mark.timeout(600)
KEY = "a key of sixteen"
SETTINGS: dict[str, object] = {"MODEL__BUNDLE": "shipped", "RERANK__BUNDLE": "shipped"}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment that holds what requirements/clients.txt locks."""
    uv, folder = str(Path(sys.executable).parent / "uv"), tmp_path_factory.mktemp("clients") / "environment"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(folder)], check=True, timeout=60)
    made = folder / "bin" / "python"
    locked = ["--require-hashes", "-r", str(ROOT / "requirements" / "clients.txt")]
    subprocess.run([uv, "pip", "install", "-q", "--python", str(made), *locked], check=True, timeout=500)
    return made


@pytest.fixture(scope="module")
def told(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each library makes of a worker that asks for a key."""
    folder = tmp_path_factory.mktemp("worker")
    done = penstock(folder, "index", "--from", "-", stdin=b'{"id": "a", "text": "water"}', variables=SETTINGS)
    assert done.returncode == 0, done.stderr.decode()
    more = {"HTTP__PORT": 0, "HTTP__API_KEYS": json.dumps({"": KEY}), "QUERY__TIMEOUT_S": 60}
    with (
        worker("query", env=environment(folder, **SETTINGS, **more), cwd=folder) as query,
        query.client("listening") as client,
    ):
        query.until("ready")
        url = str(client.base_url).rstrip("/")
        command = [str(python), str(ROOT / "tests" / "clients" / "drive.py"), url, KEY]
        driven = subprocess.run(command, cwd=folder, capture_output=True, timeout=300, check=False)
        assert driven.returncode == 0, driven.stderr.decode()
        made: dict[str, Any] = json.loads(driven.stdout)
        return made


def test_openai_embeds_lists_models_and_understands_errors(told: dict[str, Any]) -> None:
    found = told["openai"]
    assert [name.partition("@")[0] for name in found["models"]] == ["penstock/demo-embedding", "penstock/demo-reranker"]
    assert (found["vectors"], found["short"], found["many"]) == ([384] * 3, 64, 2048)
    assert found["refused"].keys() == {"input.0", "input"}
    assert {code for code, _, _ in found["refused"].values()} == {"invalid_request"}
    assert all(has_request_id for _, has_request_id, _ in found["refused"].values())
    assert "token ids mean something to the model's own tokenizer only" in found["refused"]["input"][2]
    assert found["unknown"] == "unauthorized"


def test_cohere_reranks_by_both_of_its_clients(told: dict[str, Any]) -> None:
    found = told["cohere"]
    assert found["first"] == found["second"][:2]
    assert found["first"][0] == 0
    assert found["objects"][0] == "water drives the turbine"


@pytest.mark.parametrize("framework", ["langchain", "llama_index"])
def test_frameworks_embed_and_rerank(told: dict[str, Any], framework: str) -> None:
    assert told[framework] == {"vector": 384, "first": ["water drives the turbine"]}
